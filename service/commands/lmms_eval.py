"""Précis as a model of `lmms-eval`, which then scores the path that stored images take.

    lmms-eval --model precis --model_args codec=mix16,batch_size=8 --tasks gqa,pope

A task hands over images and questions. Each image goes once through the first pass and the token
codec, and the second pass answers every question from the decoded tokens. Only lmms-eval imports
this module, through the entry point `lmms_eval.models`.
"""

from __future__ import annotations

from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from tqdm import tqdm

from service.commands.flags import settings_from_flags
from service.commands.kept_answers import ImageQuestion, KeptAnswers
from service.models import load_models
from service.runtime import codec_of

# lmms-eval passes these to every model; the setting PRECIS_DEVICE chooses ours.
_IGNORED = frozenset({"device", "max_batch_size"})
_MAX_ANSWER_TOKENS = 64  # where a task sets no limit


def manifest() -> ModelManifest:
    """The entry point's answer to lmms-eval."""
    return ModelManifest(model_id="precis", simple_class_path=f"{__name__}.Precis")


class Precis(lmms):  # type: ignore[misc]
    """See lmms_eval.api.model.lmms. Decoding is greedy, whatever a task asks for."""

    def __init__(self, batch_size: int | str = 8, **arguments: Any) -> None:
        """`arguments` are settings of the service, and what lmms-eval itself adds."""
        super().__init__()
        flags = {
            name: value for name, value in arguments.items() if name not in _IGNORED
        }
        settings = settings_from_flags(flags)
        models = load_models(settings)
        codec = codec_of(models, settings)
        self._answers = KeptAnswers(models.summary, models.generator, codec)
        self._batch_size = int(batch_size)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answers in the order of the requests."""
        answers: list[str] = []
        with tqdm(total=len(requests), desc="Answering") as progress:
            for start in range(0, len(requests), self._batch_size):
                batch = requests[start : start + self._batch_size]
                answers += self._answers([self._question(request) for request in batch])
                progress.update(len(batch))
        return answers

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not supported: the port of the second pass generates answers and scores none."""
        raise NotImplementedError(
            "Précis generates answers; choose the generating variant of this task."
        )

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not supported: such tasks hand over images between rounds."""
        raise NotImplementedError(
            "Précis answers one question at a time from lmms-eval."
        )

    def _question(self, request: Instance) -> ImageQuestion:
        text, options, visuals_of, document, task, split = request.args
        visuals = visuals_of(self.task_dict[task][split][document]) or ()
        until = options.get("until", ())
        return ImageQuestion(
            images=tuple(image for image in visuals if image),
            question=text.replace("<image>", "").strip(),
            max_tokens=int(options.get("max_new_tokens", _MAX_ANSWER_TOKENS)),
            until=(until,) if isinstance(until, str) else tuple(until),
        )
