"""The retrieval head fitted alone, to states of a finished first pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from compressor.errors import DataInvalid
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.config import SummaryConfig
from compressor.training.cli import head
from compressor.training.datasets import Entry
from compressor.training.head_fitting import (
    HeadFit,
    States,
    captioned,
    first_pass_states,
    fit,
)
from compressor.training.negative_queue import caption_keys
from tests.compressor.training.samples import THINGS, sample, tiny_lvlm
from tests.compressor.training.test_cli import (
    ANSWERS_ALONE,
    researchers_folder,
    trained,
)

QUICK = HeadFit(steps=60, batch_size=5, learning_rate=1e-2, dropout=0.0)


def entry(number: int) -> Entry:
    colour, name = THINGS[number]
    return Entry(
        id=str(number),
        images=(lambda: sample(number).images[0],),
        captions=(f"a {colour} {name}", f"one {colour} {name}"),
        queries=(colour,),
    )


ENTRIES = [entry(number) for number in range(len(THINGS))]


def test_a_fitted_head_finds_each_image_by_its_captions_and_queries() -> None:
    model = tiny_lvlm()
    states = first_pass_states(model, ENTRIES)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    fit(model.head, states, model.embedding.weight, QUICK)

    with torch.no_grad():
        images = model.head.embed_image(states.images, states.tokens)
        for texts in (
            [entry.captions[1] for entry in ENTRIES],
            [entry.queries[0] for entry in ENTRIES],
        ):
            found = model.head.embed_text(model.text_states(texts)) @ images.T
            assert found.argmax(1).tolist() == list(range(len(ENTRIES)))
    for name, value in model.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(value, before[name]), name


def test_a_fit_depends_on_its_seed_alone() -> None:
    states = first_pass_states(tiny_lvlm(), ENTRIES)
    losses = []
    for seed in (1, 1, 2):
        model = tiny_lvlm()
        settings = replace(QUICK, steps=3, seed=seed)
        losses.append(fit(model.head, states, model.embedding.weight, settings))
    assert losses[0] == losses[1] != losses[2]


def test_texts_are_read_in_the_form_of_queries_and_once_each() -> None:
    twice = replace(ENTRIES[0], captions=("A red  CAT.", "a red cat"))
    states = first_pass_states(tiny_lvlm(), [twice, ENTRIES[1]])
    assert states.captions[0] == [0, 0]
    assert len(states.texts) == len(states.keys) == 5


def test_images_with_the_same_caption_are_no_negatives_of_each_other() -> None:
    model = tiny_lvlm()
    channels = model.head.image_mean.shape[1]
    keys = caption_keys(["the same", "of no image"])
    states = States(
        torch.randn(2, 8, channels),
        torch.randn(2, 8, model.hidden_size),
        torch.randn(2, channels),
        [torch.tensor([1]), torch.tensor([2, 3])],
        keys,
        [[0], [0]],
        [[], []],
    )
    settings = replace(QUICK, steps=2)
    loss = fit(model.head, states, model.embedding.weight, settings)
    assert loss == pytest.approx(0, abs=1e-6)


def test_a_contrast_needs_two_captioned_images() -> None:
    bare = replace(ENTRIES[0], captions=(), queries=())
    with pytest.raises(DataInvalid, match="1 images with 3 texts"):
        captioned([bare, ENTRIES[1]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its data, and adapters after one step."""
    base = researchers_folder(tmp_path_factory.mktemp("head"))
    result = trained(base, base, "steps = 1\n" + ANSWERS_ALONE)
    assert result.exit_code == 0, result.output
    return base


def run(folder: Path, data: str, *options: str) -> Result:
    arguments = [
        "--model",
        str(folder / "model"),
        "--adapters",
        str(folder / "adapters"),
    ]
    return CliRunner().invoke(
        head, [*arguments, "--data", str(folder / data), "--steps", "3", *options]
    )


def test_the_command_changes_the_head_alone_and_says_so_in_the_record(
    folder: Path,
) -> None:
    adapters = folder / "adapters"
    fingerprint = adapter_folder.fingerprint(adapters)
    passes = {path: path.read_bytes() for path in adapters.glob("*/*.safetensors")}
    tokens = folder / "tokens.npy"
    result = run(folder, "captions", "--limit", "12", "--tokens", str(tokens))
    assert result.exit_code == 0, result.output
    assert "over 12 images" in result.output
    assert adapter_folder.fingerprint(adapters) != fingerprint
    assert {path: path.read_bytes() for path in passes} == passes
    assert adapter_folder.recipes(adapters)[-1]["steps"] == 3
    count = SummaryConfig.load(adapters).token_count
    assert np.load(tokens).shape[:2] == (12, count)


def test_data_without_captions_are_refused_in_one_line(folder: Path) -> None:
    images = folder / "questions" / "images"
    images.mkdir(parents=True)
    (folder / "captions" / "images" / "1.png").rename(images / "1.png")
    line = '{"file": "1.png", "questions": [["What is this?", "A square."]]}\n'
    (folder / "questions" / "index.jsonl").write_text(line)
    result = run(folder, "questions")
    assert result.exit_code == 1
    assert "0 images with 0 texts" in result.output
