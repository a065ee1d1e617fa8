"""The table of models: from the name in the settings to what makes a summary model and its generator.

Knows nothing of threads; a factory is called once, on the thread that will own what it returns.
"""

from __future__ import annotations

from collections.abc import Callable

from compressor.ports import Generator, SummaryModel
from service.errors import UnknownModel
from service.settings import Settings

Models = tuple[SummaryModel, Generator]
ModelFactory = Callable[[Settings], Models]


def _default(settings: Settings) -> Models:
    # torch takes seconds to import, and the service answers /livez meanwhile
    from compressor.default import load_default

    return load_default(settings.model_dir)


MODELS: dict[str, ModelFactory] = {"default": _default}


def model_factory(name: str) -> ModelFactory:
    """The factory of this name. Raises UnknownModel."""
    try:
        return MODELS[name]
    except KeyError as error:
        raise UnknownModel(f"There is no model {name!r}; there is {', '.join(sorted(MODELS))}.") from error
