"""Training samples from people's own files: LLaVA-instruct JSON, index.jsonl, WebDataset and
Parquet shards.

Knows nothing of models. What cannot be used is skipped, counted and told; too much of it stops the
run. Sample n depends on the seed and n alone, so a saved position is one integer.
"""

from __future__ import annotations

import io
import json
import random
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from compressor.errors import DataInvalid
from compressor.training.sample import QA, Sample, opened, shuffled

# Image–caption samples in Parquet shards, as the Hugging Face hub and img2dataset write them.
#  Captions are read at once, the pictures of a row group when one of them is asked for.


CAPTION_PROMPTS = (  # what a caption answers
    "Describe the image.",
    "Describe the image in one sentence.",
    "Describe this picture.",
    "What does the image show?",
    "What is shown in this picture?",
    "Give a short description of the image.",
)
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp")  # bytes, or a struct with `bytes`
CAPTION_COLUMNS = ("caption", "captions", "text", "txt")  # a text, or a list of texts


def entries(path: Path, skipped: Counter[str]) -> Iterator[Entry]:
    """The samples of a shard; what cannot be used is counted by reason. Raises DataInvalid."""
    file, read_errors = _opened(path)
    names = file.schema_arrow.names
    image, caption = (
        next((name for name in wanted if name in names), None)
        for wanted in (IMAGE_COLUMNS, CAPTION_COLUMNS)
    )
    if image is None or caption is None:
        raise DataInvalid(
            f"{path} has columns {', '.join(names)}: one of {', '.join(IMAGE_COLUMNS)} and one of "
            f"{', '.join(CAPTION_COLUMNS)} is needed"
        )
    try:
        for group in range(file.num_row_groups):
            for row, said in enumerate(
                file.read_row_group(group, columns=[caption])[caption].to_pylist()
            ):
                texts = tuple(text.strip() for text in _texts(said) if text.strip())
                if texts:
                    yield Entry(partial(_picture, path, group, image, row), (), texts)
                else:
                    skipped["no text"] += 1
    except read_errors as error:
        raise DataInvalid(f"{path}: {error}") from error


def _opened(path: Path) -> tuple[Any, tuple[type[Exception], ...]]:
    """The file, and what reading it may raise."""
    try:
        import pyarrow as pa  # needed by no one who has no such data
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataInvalid("pyarrow is missing: install the extra `train`") from error
    errors = (pa.ArrowException, OSError)
    try:
        return pq.ParquetFile(path), errors
    except errors as error:
        raise DataInvalid(f"{path} is no Parquet file: {error}") from error


def _texts(said: object) -> list[str]:
    return [text for text in (said if isinstance(said, list) else [said]) if isinstance(text, str)]


@lru_cache(maxsize=4)
def _pictures(path: Path, group: int, column: str) -> Callable[[int], Any]:
    """What stands in a column of a row group, by row."""
    file, read_errors = _opened(path)
    try:
        cells = file.read_row_group(group, columns=[column])[column]
    except read_errors as error:
        raise DataInvalid(f"{path}: {error}") from error
    return lambda row: cells[row].as_py()


def _picture(path: Path, group: int, column: str, row: int) -> Image.Image:
    found = _pictures(path, group, column)(row)
    data = found.get("bytes") if isinstance(found, dict) else found
    try:
        with Image.open(io.BytesIO(data)) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, TypeError, Image.DecompressionBombError) as error:
        raise DataInvalid(f"{path}, row {row} of row group {group}: {error}") from error


# One image of people's own data and what is said of it.


@dataclass(frozen=True)
class Entry:
    """Pixels are read when they are asked for."""

    open: Callable[[], Image.Image]
    conversations: tuple[tuple[str, str], ...]  # question, answer
    captions: tuple[str, ...]


# How much of a data set has to be usable, so that a mistake in a path is no quiet loss of half the
# data.


MOST_UNUSABLE_SHARE = 0.1


def check_usable(used: int, skipped: Mapping[str, int]) -> None:
    """`skipped` counts what could not be used, by reason. Raises DataInvalid if that is too much,
    or all.
    """
    unusable = sum(skipped.values())
    if not used or unusable > MOST_UNUSABLE_SHARE * (used + unusable):
        told = (
            ", ".join(f"{count} with {reason}" for reason, count in skipped.items())
            or "there are none"
        )
        raise DataInvalid(f"of {used + unusable} samples {used} can be used: {told}")


# a longer caption makes the contrastive loss collapse (VladVA, arXiv 2412.04378): it is only
# answered
_SHORT_WORDS = 20


class Instructions:
    """An endless iterator of samples, shuffled anew each epoch, that can be stopped and taken up
    again exactly.
    """

    def __init__(self, entries: Sequence[Entry], seed: int, skipped: Mapping[str, int]) -> None:
        """`skipped` counts what could not be used, by reason. Raises DataInvalid if that is too
        much, or all.
        """
        check_usable(len(entries), skipped)
        self.skipped = dict(skipped)
        self._entries, self._seed, self._position = entries, seed, 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        epoch, place = divmod(self._position, len(self._entries))
        order = shuffled(len(self._entries), f"{self._seed}/{epoch}")
        rng = random.Random(f"{self._seed}/{self._position}")
        sample = _sample(self._entries[order[place]], rng)
        self._position += 1
        return sample

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands; JSON-serialisable."""
        return {"seed": self._seed, "entries": len(self._entries), "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken. Raises DataInvalid if it was taken from other data."""
        if (state["seed"], state["entries"]) != (self._seed, len(self._entries)):
            raise DataInvalid("the saved position belongs to other data or another seed")
        self._position = state["position"]


def read(path: Path, images: Path, seed: int) -> Instructions:
    """The samples in `path`: a JSON file in LLaVA's format, a folder with index.jsonl, or one with
    shards.

    `images` is where the image names of a JSON file lead from. Raises DataInvalid.
    """
    skipped: Counter[str] = Counter()
    try:
        if path.is_file():
            found = list(_llava(path, images, skipped))
        elif (path / "index.jsonl").exists():
            found = list(_indexed(path, skipped))
        else:
            found = list(_shards(path, skipped))
            for shard in sorted(path.glob("*.parquet")):
                found += entries(shard, skipped)
    except (OSError, tarfile.TarError, UnicodeDecodeError) as error:
        raise DataInvalid(f"{path}: {error}") from error
    return Instructions(found, seed, skipped)


def _llava(path: Path, images: Path, skipped: Counter[str]) -> Iterator[Entry]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataInvalid(f"{path} is not JSON: {error}") from error
    if not isinstance(given, list):
        raise DataInvalid(f"{path} holds no list of samples")
    for each in given:
        turns = each.get("conversations") if isinstance(each, dict) else None
        name = each.get("image") if isinstance(each, dict) else None
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            skipped["no conversation"] += 1
        elif not isinstance(name, str) or not (images / name).is_file():
            skipped["no image"] += 1
        else:
            said = [
                re.sub(r"\s*<image>\s*", "", str(turn.get("value", ""))).strip() for turn in turns
            ]
            pairs = tuple((q, a) for q, a in zip(said[::2], said[1::2], strict=False) if q and a)
            if pairs:
                yield Entry(partial(opened, images / name), pairs, ())
            else:
                skipped["no answer"] += 1


def _indexed(folder: Path, skipped: Counter[str]) -> Iterator[Entry]:
    for line in (folder / "index.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            given = json.loads(line)
            file = folder / "images" / given["file"]
            captions = tuple(
                text for text in given.get("captions", ()) if isinstance(text, str) and text.strip()
            )
            pairs = tuple((str(q), str(a)) for q, a in given.get("questions", ()) if q and a)
        except (ValueError, KeyError, TypeError, AttributeError):
            skipped["a broken line"] += 1
            continue
        if not file.is_file():
            skipped["no image"] += 1
        elif captions or pairs:
            yield Entry(partial(opened, file), pairs, captions)
        else:
            skipped["no text"] += 1


def _shards(folder: Path, skipped: Counter[str]) -> Iterator[Entry]:
    """Files of one stem belong together: a picture, and a caption in .txt or in "caption" of .json."""
    for shard in sorted(folder.glob("*.tar")):
        parts: dict[str, dict[str, tarfile.TarInfo]] = {}
        with tarfile.open(shard) as archive:
            for member in archive:
                if member.isfile():
                    stem, _, suffix = member.name.rpartition(".")
                    parts.setdefault(stem, {})[suffix.lower()] = member
            for found in parts.values():
                picture = next(
                    (found[suffix] for suffix in ("jpg", "jpeg", "png", "webp") if suffix in found),
                    None,
                )
                text = _member_text(archive, found)
                if picture is None:
                    skipped["no image"] += 1
                elif not text:
                    skipped["no text"] += 1
                else:
                    yield Entry(_member_opener(shard, picture), (), (text,))


def _member_text(archive: tarfile.TarFile, found: Mapping[str, tarfile.TarInfo]) -> str:
    def content(suffix: str) -> str:
        file = archive.extractfile(found[suffix])
        return file.read().decode("utf-8", errors="replace") if file else ""

    if "txt" in found:
        return content("txt").strip()
    try:
        given = json.loads(content("json")) if "json" in found else {}
    except ValueError:
        return ""
    text = given.get("caption", "") if isinstance(given, dict) else ""
    return text.strip() if isinstance(text, str) else ""


def _member_opener(shard: Path, member: tarfile.TarInfo) -> Callable[[], Image.Image]:
    def unpacked() -> Image.Image:
        try:
            with shard.open("rb") as file:
                file.seek(member.offset_data)
                with Image.open(io.BytesIO(file.read(member.size))) as image:
                    return ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, Image.DecompressionBombError) as error:
            raise DataInvalid(f"{shard}, {member.name}: {error}") from error

    return unpacked


def _sample(entry: Entry, rng: random.Random) -> Sample:
    caption = rng.choice(entry.captions) if entry.captions else ""
    questions = [QA(question, answer, "instruction") for question, answer in entry.conversations]
    rng.shuffle(questions)
    if caption:
        questions.append(QA(rng.choice(CAPTION_PROMPTS), caption, "caption"))
    short = caption if len(caption.split()) <= _SHORT_WORDS else ""
    return Sample(entry.open(), tuple(questions), short, "instructions", None)


# Several sources of people's own samples as one endless stream, mixed by weight.
#  Which source sample n comes from depends on the seed and n alone.


class Blend:
    """An endless iterator of samples that can be stopped and taken up again exactly."""

    def __init__(
        self, sources: Sequence[Instructions], weights: Sequence[float], seed: int
    ) -> None:
        """A source's share of the samples is its weight's; without weights that of its own samples.

        Raises DataInvalid unless there are as many weights as sources, all above zero, or none.
        """
        if weights and (len(weights) != len(sources) or min(weights) <= 0):
            raise DataInvalid(
                f"{len(sources)} sources of data need as many weights above zero, not {list(weights)}"
            )
        self._sources = sources
        self._weights = list(map(float, weights or map(len, sources)))
        self._seed, self._position = seed, 0

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        draw = random.Random(f"{self._seed}/blend/{self._position}")
        sample = next(draw.choices(self._sources, self._weights)[0])
        self._position += 1
        return sample

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands; JSON-serialisable."""
        sources = [source.state_dict() for source in self._sources]
        return {
            "seed": self._seed,
            "weights": self._weights,
            "position": self._position,
            "sources": sources,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken. Raises DataInvalid if it was taken from other data."""
        if (state.get("seed"), state.get("weights")) != (self._seed, self._weights):
            raise DataInvalid(
                "the saved position belongs to other data, other weights or another seed"
            )
        for source, of_source in zip(self._sources, state["sources"], strict=True):
            source.load_state_dict(of_source)
        self._position = state["position"]
