"""Samples by number, mixed by weight, and the workers that prepare them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image

from compressor.errors import DataInvalid
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.batch import Batch
from compressor.training.config import TrainConfig
from compressor.training.datasets import Dataset, Entry
from compressor.training.distributed import SINGLE, Distributed
from compressor.training.sample import QA, Sample
from compressor.training.stream import (
    Blend,
    Role,
    SourceChoices,
    micro_batch_keys,
    prepared_steps,
    step_sizes,
)
from tests.compressor.training.samples import Stream


def square() -> Image.Image:
    return Image.new("RGB", (2, 2))


def broken() -> Image.Image:
    raise DataInvalid("no image here")


def source(name: str, count: int) -> Dataset:
    entries = []
    for number in range(count):
        question = QA(f"{name} {number}?", f"{name}.", "instruction")
        entries.append(Entry(f"{name}/{number}", (square,), questions=(question,)))
    return Dataset(entries, {})


def captioned(*captions: str) -> Dataset:
    entries = [Entry(caption, (square,), captions=(caption,)) for caption in captions]
    return Dataset(entries, {})


def question_of(sample: Sample) -> str:
    return sample.questions[0].question


def questions(blend: Blend, count: int, start: int = 0) -> list[str]:
    numbers = range(start, start + count)
    return [question_of(blend[number]) for number in numbers]


def shares(blend: Blend) -> Counter[str]:
    """How many of 400 samples come from the source of each name."""
    names = [question.split()[0] for question in questions(blend, 400)]
    return Counter(names)


def test_weights_are_shares_of_the_samples() -> None:
    sources = [source("a", 5), source("b", 500)]
    counts = shares(Blend(sources, [3, 1], 1))
    assert 260 < counts["a"] < 340
    assert counts["a"] + counts["b"] == 400


def test_without_weights_every_sample_comes_as_often() -> None:
    sources = [source("a", 10), source("b", 90)]
    counts = shares(Blend(sources, [], 1))
    assert 10 < counts["a"] < 80


def test_every_entry_comes_once_an_epoch_in_another_order() -> None:
    blend = Blend([source("a", 30)], [], 1)
    first = questions(blend, 30)
    second = questions(blend, 30, start=30)
    eighth = questions(blend, 30, start=30 * 7)
    assert sorted(first) == sorted(second)
    assert sorted(first) == sorted(eighth)
    assert len(set(first)) == 30
    assert first != second


def test_a_sample_depends_on_the_seed_and_its_number_alone() -> None:
    def blend(seed: int) -> Blend:
        return Blend([source("a", 7), source("b", 11)], [1, 2], seed)

    forwards = questions(blend(3), 60)
    backwards = [question_of(blend(3)[number]) for number in reversed(range(60))]
    assert forwards == backwards[::-1]
    assert forwards != questions(blend(4), 60)


def test_choices_count_what_came_before_across_blocks() -> None:
    choices = SourceChoices([1, 3], "seed")
    counts = [0, 0]
    for number in range(3 * 4096 // 2):
        chosen, before = choices[number]
        assert before == counts[chosen]
        counts[chosen] += 1
    far = 5 * 4096 + 17
    assert SourceChoices([1, 3], "seed")[far] == choices[far]


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -1], [1, 1, 1]])
def test_wrong_weights_are_refused(weights: list[float]) -> None:
    sources = [source("a", 1), source("b", 1)]
    with pytest.raises(DataInvalid, match="2 sources"):
        Blend(sources, weights, 1)


LONG = "word " * 40


def test_short_captions_are_contrasted_and_all_are_answered() -> None:
    blend = Blend([captioned("a red square", LONG)], [], 1)
    assert blend.has_captions
    contrasted = {}
    for sample in (blend[0], blend[1]):
        contrasted[sample.questions[0].answer] = sample.caption
    assert contrasted == {"a red square": "a red square", LONG: ""}


@pytest.mark.parametrize("role", ["both", "captions"])
def test_a_share_of_the_samples_contrasts_a_query(role: Role) -> None:
    (entry,) = captioned("a red square").entries
    dataset = Dataset([replace(entry, queries=("red", "squares"))], {})
    drawn = Counter(Blend([dataset], [], 1, role)[n].caption for n in range(400))
    assert set(drawn) == {"a red square", "red", "squares"}
    assert 0.2 < (drawn["red"] + drawn["squares"]) / 400 < 0.4


def test_queries_are_never_answered() -> None:
    (entry,) = captioned("a red square").entries
    blend = Blend([Dataset([replace(entry, queries=("red",))], {})], [], 1)
    answers = {qa.answer for n in range(40) for qa in blend[n].questions}
    assert answers == {"a red square"}
    answered = Blend(
        [Dataset([replace(entry, queries=("red",))], {})], [], 1, "answers"
    )
    assert {answered[n].caption for n in range(40)} == {""}


def test_a_query_is_contrasted_where_every_caption_is_long() -> None:
    (entry,) = captioned(LONG).entries
    blend = Blend([Dataset([replace(entry, queries=("red",))], {})], [], 1)
    assert blend.has_captions
    assert {blend[number].caption for number in range(20)} == {"red"}


def test_each_sample_has_one_of_its_entrys_conversations() -> None:
    (entry,) = captioned("a red square").entries
    talks = tuple((QA("What is it?", answer, "instruction"),) for answer in "ab")
    blend = Blend([Dataset([replace(entry, conversations=talks)], {})], [], 1)
    assert {blend[number].dialogue for number in range(40)} == set(talks)


def test_beside_a_caption_source_captions_are_only_answered() -> None:
    blend = Blend([captioned("a red square")], [], 1, "answers")
    assert not blend.has_captions
    sample = blend[0]
    assert sample.caption == ""
    assert sample.questions[0].answer == "a red square"


def test_a_caption_source_has_short_captions_and_nothing_to_answer() -> None:
    blend = Blend([captioned("a red square", LONG)], [], 1, "captions")
    assert len(blend) == 1
    assert {blend[number].caption for number in range(5)} == {"a red square"}
    assert blend[0].conversations == ()
    with pytest.raises(DataInvalid, match="no caption of at most 20 words"):
        Blend([captioned(LONG)], [], 1, "captions")
    with pytest.raises(DataInvalid, match="no caption of at most 20 words"):
        Blend([source("a", 3)], [], 1, "captions")


def test_another_sample_takes_the_place_of_a_broken_one() -> None:
    dataset = source("a", 10)
    entries = list(dataset.entries)
    entries[3] = replace(entries[3], images=(broken,))
    blend = Blend([Dataset(entries, {})], [], 1)
    samples = [blend[number] for number in range(10)]
    assert "a 3?" not in map(question_of, samples)
    (replacing,) = [sample for sample in samples if sample.broken]
    assert replacing.broken == ("no image here",)


def test_a_source_that_cannot_be_read_at_all_is_an_error() -> None:
    entries = [replace(entry, images=(broken,)) for entry in source("a", 3).entries]
    blend = Blend([Dataset(entries, {})], [], 1)
    with pytest.raises(
        DataInvalid, match="in a row cannot be read; the last: no image here"
    ):
        blend[0]


@pytest.mark.parametrize("micro_batch_size", [0, 2])
def test_ranks_share_a_step_and_each_makes_its_own_part_alone(
    micro_batch_size: int,
) -> None:
    config = TrainConfig(
        batch_size=4, contrastive_batch_size=8, micro_batch_size=micro_batch_size
    )
    sizes = step_sizes(config, 2)
    assert sizes == [4, 8]
    together = []
    for rank in range(2):
        batches = micro_batch_keys(5, sizes, config, Distributed(rank, 2))
        assert {len(batch) for batch in batches} == {micro_batch_size or 6}
        together += [key for batch in batches for key in batch]
    data = [(0, number) for number in range(20, 24)]
    captions = [(1, number) for number in range(40, 48)]
    assert sorted(together) == data + captions


CONFIG = TrainConfig(steps=3, batch_size=4, micro_batch_size=2, workers=2)


def made(
    model: SummaryLvlm, config: TrainConfig, stream: Stream, first_step: int = 0
) -> list[Batch]:
    """The micro batches of all steps."""
    prepare = partial(Batch.of, model, config=config)
    batches = []
    for step in prepared_steps([stream], prepare, config, SINGLE, first_step):
        assert len(step) == 2
        batches += step
    return batches


def test_workers_prepare_what_this_process_would(frozen_model: SummaryLvlm) -> None:
    alone = made(frozen_model, replace(CONFIG, workers=0), Stream())
    ahead = made(frozen_model, CONFIG, Stream())
    later = made(frozen_model, CONFIG, Stream(), first_step=2)
    assert len(ahead) == 2 * CONFIG.steps
    for batch, other in zip(ahead, alone, strict=True):
        assert_same(batch, other)
    for batch, other in zip(later, alone[4:], strict=True):
        assert_same(batch, other)


def assert_same(batch: Batch, other: Batch) -> None:
    assert batch.tokenized == other.tokenized
    assert batch.captions == other.captions
    assert set(batch.inputs) == set(other.inputs)
    for name, value in batch.inputs.items():
        assert torch.equal(value, other.inputs[name])
        assert value.device.type == "cpu"


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_worker_raises_is_raised_here_in_one_line(
    frozen_model: SummaryLvlm, workers: int
) -> None:
    def broken_at_six(number: int) -> None:
        if number == 6:
            raise DataInvalid("sample 6 is broken")

    with pytest.raises(DataInvalid, match=r"^sample 6 is broken$"):
        made(frozen_model, replace(CONFIG, workers=workers), Stream(broken_at_six))


def test_a_sample_without_answers_is_no_part_of_the_second_pass(
    frozen_model: SummaryLvlm,
) -> None:
    captions = Blend([captioned("a red square", "a blue cat")], [], 1, "captions")
    samples: list[Sample] = [captions[0], Stream()[0], captions[1]]
    batch = Batch.of(frozen_model, samples, CONFIG)
    assert (batch.answered, batch.captioned) == ([range(1, 2)], [0, 1, 2])
    assert len(batch.tokenized) == 1
    assert len(batch.inputs["pixel_values"]) == 3
