"""Samples by number, mixed from data sets, and the worker processes that prepare them.

Sample n depends on the seed and n alone. So any process can make any sample: each rank decodes its
own shard, workers share it out, and a run resumes exactly from the number of its step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Literal, Protocol

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from compressor.errors import CompressorError, DataInvalid
from compressor.training.augmentation import augmented
from compressor.training.batch import Batch
from compressor.training.config import TrainConfig
from compressor.training.datasets import Dataset, Entry
from compressor.training.distributed import Distributed
from compressor.training.sample import QA, Sample, shuffled

CAPTION_PROMPTS = (  # what a caption answers
    "Describe the image.",
    "Describe the image in one sentence.",
    "Describe this picture.",
    "What does the image show?",
    "What is shown in this picture?",
    "Give a short description of the image.",
)
# The contrastive loss collapses on long captions (VladVA, arXiv 2412.04378): longer ones are only
# answered. About 30 tokens.
MAX_CAPTION_WORDS = 20
# Of the samples whose entry has queries, this share contrasts a query in place of a caption: people
# search with a word or two, and captions alone do not teach that.
QUERY_SHARE = 0.3
_MAX_BROKEN_IN_A_ROW = 20

# What a source is for. "answers": what is asked is answered, captions too. "captions": short
# captions for the contrastive loss alone. "both": answers, whose short captions are contrasted.
Role = Literal["both", "answers", "captions"]


class Samples(Protocol):
    """An endless sequence: sample n depends on the seed and n alone."""

    @property
    def has_captions(self) -> bool:
        """Whether any sample has a caption for the contrastive loss."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What must be equal for a run to be resumed; JSON-serialisable."""
        ...

    def __getitem__(self, number: int) -> Sample:
        """Raises DataInvalid."""
        ...


class SourceChoices:
    """Which source sample n is from, and how many of the samples before it were from there."""

    _BLOCK = 4096

    def __init__(self, weights: Sequence[float], seed: str) -> None:
        self._weights, self._seed = list(weights), seed
        self._counts = [
            [0] * len(self._weights)
        ]  # by source, at the start of each block
        # Cached, since neighbouring samples are in the same block.
        self._block = lru_cache(maxsize=2)(self._draw_block)

    def __getitem__(self, number: int) -> tuple[int, int]:
        block, place = divmod(number, self._BLOCK)
        # The counts at the start of a block are those of all blocks before it.
        while len(self._counts) <= block:
            self._block(len(self._counts) - 1)
        return self._block(block)[place]

    def _draw_block(self, block: int) -> list[tuple[int, int]]:
        draw = random.Random(f"{self._seed}/{block}")
        counts = list(self._counts[block])
        choices = []
        for source in draw.choices(
            range(len(self._weights)), self._weights, k=self._BLOCK
        ):
            choices.append((source, counts[source]))
            counts[source] += 1
        if len(self._counts) == block + 1:
            self._counts.append(counts)
        return choices


class Blend:
    """An endless sequence of samples from data sets mixed by weight, each shuffled every epoch."""

    def __init__(
        self,
        datasets: Sequence[Dataset],
        weights: Sequence[float],
        seed: int,
        role: Role = "both",
        *,
        augment: bool = False,
    ) -> None:
        """A data set's share of the samples is its weight's; without weights that of its entries.

        Raises DataInvalid unless each data set has a usable entry and there are as many weights
        above zero as data sets, or none.
        """
        if weights and (len(weights) != len(datasets) or min(weights) <= 0):
            raise DataInvalid(
                f"{len(datasets)} sources of data need as many weights above zero, "
                f"not {list(weights)}"
            )
        self._sources = [_usable_entries(dataset, role) for dataset in datasets]
        shares = weights or [len(entries) for entries in self._sources]
        self._weights = [float(share) for share in shares]
        self._seed, self._role = seed, role
        self._augment = augment
        self._choices = SourceChoices(self._weights, f"{seed}/blend")

    def __len__(self) -> int:
        """How many entries there are; the sequence of samples has no end."""
        return sum(len(entries) for entries in self._sources)

    @property
    def has_captions(self) -> bool:
        """Whether any entry has a query, or a caption short enough for the contrastive loss."""
        if self._role == "answers":
            return False
        return any(
            _is_contrastable(entry) for entries in self._sources for entry in entries
        )

    @property
    def identity(self) -> dict[str, Any]:
        """Seed, role, weights and numbers of entries."""
        return {
            "seed": self._seed,
            "role": self._role,
            "weights": self._weights,
            "entries": [len(entries) for entries in self._sources],
        }

    def __getitem__(self, number: int) -> Sample:
        source, number_in_source = self._choices[number]
        entries = self._sources[source]
        epoch, place = divmod(number_in_source, len(entries))
        order = shuffled(len(entries), f"{self._seed}/{source}/{epoch}")
        draw = random.Random(f"{self._seed}/{number}")
        broken: list[str] = []
        # The entry after a broken one in the epoch's order takes its place.
        while True:
            entry = entries[order[(place + len(broken)) % len(entries)]]
            try:
                sample = _sample(entry, self._role, draw, tuple(broken))
                # Last, so that the same texts are drawn with and without.
                return _augmented(sample, draw) if self._augment else sample
            except DataInvalid as error:
                broken.append(str(error))
                if len(broken) == _MAX_BROKEN_IN_A_ROW:
                    raise DataInvalid(
                        f"{len(broken)} samples in a row cannot be read; the last: {error}"
                    ) from error


def _usable_entries(dataset: Dataset, role: Role) -> Sequence[Entry]:
    entries = dataset.entries
    if role == "captions":
        entries = [entry for entry in entries if _is_contrastable(entry)]
        if not entries:
            raise DataInvalid(
                f"a caption source holds no caption of at most {MAX_CAPTION_WORDS} words"
            )
    if not entries:
        raise DataInvalid("a source of data has no samples to train on")
    return entries


def _is_contrastable(entry: Entry) -> bool:
    return bool(entry.queries or _short_captions(entry))


def _short_captions(entry: Entry) -> list[str]:
    return [text for text in entry.captions if len(text.split()) <= MAX_CAPTION_WORDS]


def _sample(
    entry: Entry, role: Role, draw: random.Random, broken: tuple[str, ...]
) -> Sample:
    images = entry.open()
    if role == "captions":
        captions = _short_captions(entry)
        text = _query(entry, draw, captions) or draw.choice(captions)
        return Sample(
            images,
            (),
            text,
            "captions",
            model_inputs=entry.model_inputs,
            broken=broken,
        )
    questions = list(entry.questions)
    caption = draw.choice(entry.captions) if entry.captions else ""
    if caption:
        questions.append(QA(draw.choice(CAPTION_PROMPTS), caption, "caption"))
    # The caption too: a step may have room for a part of the questions.
    draw.shuffle(questions)
    is_short = len(caption.split()) <= MAX_CAPTION_WORDS
    contrasted = ""
    if role == "both":
        short = caption if is_short else ""
        contrasted = _query(entry, draw, [short]) or short
    return Sample(
        images,
        tuple(questions),
        contrasted,
        "instructions",
        dialogue=draw.choice(entry.conversations) if entry.conversations else (),
        model_inputs=entry.model_inputs,
        broken=broken,
    )


def _augmented(sample: Sample, draw: random.Random) -> Sample:
    texts = [sample.caption]
    for conversation in sample.conversations:
        for turn in conversation:
            texts += [turn.question, turn.answer]
    images = [augmented(image, texts, draw) for image in sample.images]
    return replace(sample, images=tuple(images))


def _query(entry: Entry, draw: random.Random, captions: Sequence[str]) -> str:
    """A query to contrast; empty where a caption is to be contrasted."""
    if not entry.queries:
        return ""
    is_drawn = draw.random() < QUERY_SHARE or not any(captions)
    return draw.choice(entry.queries) if is_drawn else ""


# A step's samples of this rank, in micro batches, prepared by worker processes.

_Key = tuple[int, int]  # 0 data, 1 captions; the sample's number


def micro_batch_keys(
    step: int, sizes: Sequence[int], config: TrainConfig, world: Distributed
) -> list[list[_Key]]:
    """The samples of this rank in a step: of each source, and of all ranks' equal parts, its own.

    `sizes` are how many samples a step takes of each source, over all ranks.
    """
    keys: list[_Key] = []
    for source, size in enumerate(sizes):
        numbers = range(step * size, (step + 1) * size)
        keys += [(source, number) for number in world.shard(numbers)]
    length = config.micro_batch_size or len(keys)
    return [keys[start : start + length] for start in range(0, len(keys), length)]


class _Keyed(TorchDataset[Sample | CompressorError]):
    """The samples of all sources by key, for a DataLoader."""

    def __init__(self, sources: Sequence[Samples]) -> None:
        self._sources = sources

    def __getitem__(self, key: _Key) -> Sample | CompressorError:
        source, number = key
        try:
            return self._sources[source][number]
        except CompressorError as error:
            # Returned, not raised: a DataLoader would put the worker's traceback into its message.
            return error


Prepare = Callable[[Sequence[Sample]], Batch]


def _prepare(
    prepare: Prepare, samples: Sequence[Sample | CompressorError]
) -> Batch | CompressorError:
    for sample in samples:
        if isinstance(sample, CompressorError):
            return sample
    try:
        return prepare([sample for sample in samples if isinstance(sample, Sample)])
    except CompressorError as error:
        return error


def step_sizes(config: TrainConfig, sources: int) -> list[int]:
    """Images a step takes of each source, over all ranks: data, then captions."""
    return [config.batch_size, config.contrastive_batch_size or config.batch_size][
        :sources
    ]


def prepared_steps(
    sources: Sequence[Samples],
    prepare: Prepare,
    config: TrainConfig,
    world: Distributed,
    first_step: int,
) -> Iterator[list[Batch]]:
    """The micro batches of each step from `first_step` on, prepared ahead by `config.workers`.

    Raises what reading and preparing samples raises, and RuntimeError if a worker dies.
    """
    steps = range(first_step, config.steps)
    sizes = step_sizes(config, len(sources))
    keys = [micro_batch_keys(step, sizes, config, world) for step in steps[:1]]
    count = sum(map(len, keys))
    # Micro batches come back in the order of their keys, whichever worker made them.
    loader = DataLoader(
        _Keyed(sources),
        batch_sampler=_MicroBatches(steps, sizes, config, world),
        collate_fn=partial(_prepare, prepare),
        num_workers=config.workers,
        # Forked workers share the entries and the tokenizer with this process instead of pickling
        # them. They run on the CPU alone.
        multiprocessing_context="fork" if config.workers else None,
        pin_memory=torch.cuda.is_available(),
        # Without a generator of its own the loader would draw its seed from the model's.
        generator=torch.Generator(),
    )
    batches = iter(loader)
    for _ in steps:
        yield [_raised(batch) for batch in islice(batches, count)]


class _MicroBatches:
    """What a DataLoader's `batch_sampler` has to be: the keys of micro batch after micro batch."""

    def __init__(
        self,
        steps: range,
        sizes: Sequence[int],
        config: TrainConfig,
        world: Distributed,
    ) -> None:
        self._steps, self._sizes, self._config, self._world = (
            steps,
            sizes,
            config,
            world,
        )

    def __iter__(self) -> Iterator[list[_Key]]:
        for step in self._steps:
            yield from micro_batch_keys(step, self._sizes, self._config, self._world)


def _raised(batch: Batch | CompressorError) -> Batch:
    if isinstance(batch, CompressorError):
        raise batch
    return batch
