"""The default model's passes on its own data and word supervision, by the generic training loop."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from PIL import Image

from compressor.default_model.data.mixture import Mixture
from compressor.default_model.data.photos import Photo, Photos
from compressor.default_model.training.word_supervision import (
    DefaultTrainConfig,
    WordSupervision,
)
from compressor.training.trainer import StepLog, train
from tests.compressor.default_model.data import drawing
from tests.compressor.tiny import WORDS, tiny_model

CONFIG = DefaultTrainConfig(
    steps=3,
    batch_size=4,
    max_cells=2,
    save_every=1,
    workers=1,
)


def mixture(folder: Path) -> Mixture:
    photos = []
    for number in range(6):
        path = folder / f"{number}.png"
        Image.new("RGB", (20, 20), (number * 20, 0, 0)).save(path)
        label = f"thing{number}" if number % 2 else None
        captions = () if label else ("A dog", "A man runs")
        photos.append(Photo(path, label, captions))
    return Mixture(
        Photos(tuple(photos), ()),
        drawing.prepared(folder / "objects"),
        seed=1,
    )


def logs_of(data: Mixture, folder: Path) -> Iterator[StepLog]:
    """The steps of a run that begins with a new model, or goes on in the folder."""
    model = tiny_model()
    model.base.keep_cells(CONFIG.max_cells, model.processor)
    model.base.names = (*WORDS.classes, *WORDS.objects)
    supervision = WordSupervision(
        model,
        frozenset({"dog"}),
        CONFIG.words_weight,
    )
    return train(
        model,
        data,
        CONFIG,
        folder,
        auxiliary=supervision,
    )


def test_the_mixture_is_trained_on_and_taken_up_again(tmp_path: Path) -> None:
    data = mixture(tmp_path)
    whole = list(logs_of(data, tmp_path / "whole"))
    assert [log.step for log in whole] == [0, 1, 2]
    assert all(log.pairs == 4 for log in whole)
    assert all(log.auxiliary is not None and log.auxiliary > 0 for log in whole)

    stopped = islice(logs_of(data, tmp_path / "resumed"), 2)
    assert [log.step for log in stopped] == [0, 1]
    (last,) = logs_of(data, tmp_path / "resumed")
    assert last.step == 2
    assert last.auxiliary == whole[2].auxiliary
    assert last.autoregressive == whole[2].autoregressive
