"""Training samples from people's own files: LLaVA-instruct JSON, index.jsonl, WebDataset and Parquet shards.

Knows nothing of models. What cannot be used is skipped, counted and told; too much of it stops the run. Sample n
depends on the seed and n alone, so a saved position is one integer.
"""

from __future__ import annotations

import io
import json
import random
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from compressor.errors import DataInvalid
from compressor.training.data import parquet
from compressor.training.data.entry import Entry
from compressor.training.data.mixture import Sample, shuffled
from compressor.training.data.photos import opened
from compressor.training.data.questions import QA
from compressor.training.data.usable import check_usable
from compressor.training.data.wordings import worded

_SHORT_WORDS = (
    20  # a longer caption makes the contrastive loss collapse (VladVA, arXiv 2412.04378): it is only answered
)


class Instructions:
    """An endless iterator of samples, shuffled anew each epoch, that can be stopped and taken up again exactly."""

    def __init__(self, entries: Sequence[Entry], seed: int, skipped: Mapping[str, int]) -> None:
        """`skipped` counts what could not be used, by reason. Raises DataInvalid if that is too much, or all."""
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
    """The samples in `path`: a JSON file in LLaVA's format, a folder with index.jsonl, or one with shards.

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
                found += parquet.entries(shard, skipped)
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
            said = [re.sub(r"\s*<image>\s*", "", str(turn.get("value", ""))).strip() for turn in turns]
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
            captions = tuple(text for text in given.get("captions", ()) if isinstance(text, str) and text.strip())
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
                picture = next((found[suffix] for suffix in ("jpg", "jpeg", "png", "webp") if suffix in found), None)
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
        questions.append(QA(worded("caption", rng), caption, "caption"))
    short = caption if len(caption.split()) <= _SHORT_WORDS else ""
    return Sample(entry.open(), tuple(questions), short, "instructions", None)
