"""Précis as a model of `lmms-eval`: what is scored is the path of stored tokens.

    lmms-eval --model precis --model_args codec=mix16,batch_size=8 --tasks gqa,pope

Its tasks hand over images and questions; each image goes once through the first pass and the token
codec, and every question is answered from what the codec kept. Imported by lmms-eval alone, through
the entry point `lmms_eval.models`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from tqdm import tqdm

from service.commands.flags import settings_from_flags
from service.commands.kept_answers import Asked, KeptAnswers
from service.models import model_factory
from service.runtime import codec_of

_OF_LMMS_EVAL = frozenset(
    {"device", "max_batch_size"}
)  # not ours to choose: the model is where torch finds a GPU
_MAX_ANSWER_TOKENS = 64  # where a task names no other


def manifest() -> ModelManifest:
    """What the entry point tells lmms-eval."""
    return ModelManifest(model_id="precis", simple_class_path=f"{__name__}.Precis")


class Precis(lmms):  # type: ignore[misc]
    """See lmms_eval.api.model.lmms. Decoding is greedy whatever a task asks for."""

    def __init__(self, batch_size: int | str = 8, **given: Any) -> None:
        """The service's settings (model, model_dir, adapters, codec, codec_state), and what
        lmms-eval itself adds.
        """
        super().__init__()
        chosen = settings_from_flags(
            {name: value for name, value in given.items() if name not in _OF_LMMS_EVAL}
        )
        models = model_factory(chosen.model)(chosen)
        self._answers = KeptAnswers(models.summary, models.generator, codec_of(models, chosen))
        self._batch_size = int(batch_size)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answers in the order of the requests."""
        shown = tqdm(total=len(requests), desc="Answering")
        answers: list[str] = []
        for start in range(0, len(requests), self._batch_size):
            batch = requests[start : start + self._batch_size]
            answers += self._answers([self._asked(request) for request in batch])
            shown.update(len(batch))
        shown.close()
        return answers

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not given: the second pass's port writes answers and scores none."""
        raise NotImplementedError(
            "Précis writes answers; choose the generating variant of this task."
        )

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not given: tasks of several rounds hand over images between them."""
        raise NotImplementedError("Précis takes one question at a time from lmms-eval.")

    def _asked(self, request: Instance) -> Asked:
        question, options, visuals_of, doc_id, task, split = request.args
        images: Sequence[Any] = [
            image for image in visuals_of(self.task_dict[task][split][doc_id]) or () if image
        ]
        until = options.get("until", ())
        return Asked(
            tuple(images),
            question.replace("<image>", "").strip(),
            int(options.get("max_new_tokens", _MAX_ANSWER_TOKENS)),
            (until,) if isinstance(until, str) else tuple(until),
        )
