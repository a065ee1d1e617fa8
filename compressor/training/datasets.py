"""Training data in people's own files: LLaVA-instruct JSON, index.jsonl, WebDataset, Parquet.

A reader turns each file into entries, whose images are opened when a sample is made. What cannot be
used is counted by reason; too much of it is refused, since a wrong path would otherwise quietly
lose half the data.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from PIL import Image

from compressor.errors import DataInvalid
from compressor.training.sample import QA, decoded, opened

MAX_UNUSABLE_SHARE = 0.1

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
# Columns of Parquet shards as the Hugging Face hub and img2dataset write them.
IMAGE_COLUMNS = ("image", *IMAGE_SUFFIXES)  # bytes, or a struct with `bytes`
CAPTION_COLUMNS = ("caption", "captions", "text", "txt")  # a text, or a list of texts
# What a line of index.jsonl has for one image alone.
_OF_ONE_IMAGE = ("captions", "queries", "model_inputs")


@dataclass(frozen=True)
class Entry:
    """An image of a data set, or several together, and the texts about them."""

    id: str  # of the images: entries with the same have the same
    # One, or several that are asked about together; each raises DataInvalid.
    images: tuple[Callable[[], Image.Image], ...]
    captions: tuple[str, ...] = ()
    questions: tuple[QA, ...] = ()  # independent of one another
    conversations: tuple[tuple[QA, ...], ...] = ()  # the turns of each
    queries: tuple[str, ...] = ()  # short texts to find the image by, never answered
    # What the model reads beside the processor's inputs, by the name of its argument.
    model_inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def open(self) -> tuple[Image.Image, ...]:
        """The images. Raises DataInvalid."""
        return tuple(image() for image in self.images)


@dataclass(frozen=True)
class Dataset:
    """The usable entries of a source and how many others there are, by reason."""

    entries: Sequence[Entry]
    skipped: Mapping[str, int]

    def split(self, eval_share: float) -> tuple[Dataset, Dataset]:
        """The part to train on and the held-out part.

        A hash of an image's id decides, so that neither the seed nor other entries move an image
        from one part to the other.
        """
        training: list[Entry] = []
        held_out: list[Entry] = []
        for entry in self.entries:
            digest = blake2b(entry.id.encode(), digest_size=8).digest()
            is_held_out = int.from_bytes(digest) < eval_share * 2**64
            (held_out if is_held_out else training).append(entry)
        return Dataset(training, self.skipped), Dataset(held_out, {})


def read(path: Path, images: Path) -> Dataset:
    """The data in `path`: a JSON file in LLaVA's format, a folder with index.jsonl, or shards.

    `images` is the folder that image names in a JSON file are relative to. Raises DataInvalid.
    """
    skipped: Counter[str] = Counter()
    try:
        entries = list(_entries(path, images, skipped))
    except (OSError, UnicodeDecodeError) as error:
        raise DataInvalid(f"{path}: {error}") from error
    check_usable(len(entries), skipped)
    return Dataset(entries, dict(skipped))


def check_usable(usable: int, skipped: Mapping[str, int]) -> None:
    """Raises DataInvalid if nothing is usable, or more than a tenth is skipped (by reason)."""
    unusable = sum(skipped.values())
    if usable and unusable <= MAX_UNUSABLE_SHARE * (usable + unusable):
        return
    reasons = ", ".join(f"{count} with {reason}" for reason, count in skipped.items())
    total = usable + unusable
    raise DataInvalid(
        f"of {total} samples {usable} can be used: {reasons or 'there are none'}"
    )


def _entries(path: Path, images: Path, skipped: Counter[str]) -> Iterator[Entry]:
    if path.is_file():
        yield from read_llava(path, images, skipped)
    elif (path / "index.jsonl").exists():
        yield from read_index(path, skipped)
    else:
        for shard in sorted(path.glob("*.tar")):
            yield from read_webdataset(shard, skipped)
        for shard in sorted(path.glob("*.parquet")):
            yield from read_parquet(shard, skipped)


# LLaVA-instruct: a list of {"image": name, "conversations": [{"from", "value"}, ...]}.


def read_llava(path: Path, images: Path, skipped: Counter[str]) -> Iterator[Entry]:
    """Conversations about images. Raises DataInvalid."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataInvalid(f"{path} is not JSON: {error}") from error
    if not isinstance(records, list):
        raise DataInvalid(f"{path} holds no list of samples")
    for record in records:
        entry_or_reason = _llava_entry(record, images)
        if isinstance(entry_or_reason, str):
            skipped[entry_or_reason] += 1
        else:
            yield entry_or_reason


def _llava_entry(record: object, images: Path) -> Entry | str:
    """The entry of a record, or why there is none."""
    fields = record if isinstance(record, dict) else {}
    turns, image = fields.get("conversations"), fields.get("image")
    are_turns = isinstance(turns, list) and all(
        isinstance(turn, dict) for turn in turns
    )
    if not isinstance(turns, list) or not are_turns:
        return "no conversation"
    names = [str(name) for name in (image if isinstance(image, list) else [image])]
    if not names or not all((images / name).is_file() for name in names):
        return "no image"
    # The chat template puts the images before the first question.
    values = [str(turn.get("value", "")) for turn in turns]
    texts = [re.sub(r"\s*<image>\s*", "", value).strip() for value in values]
    # Turns alternate; a question at the end that nobody answered is dropped.
    conversation = _turns(zip(texts[::2], texts[1::2], strict=False))
    if not conversation:
        return "no answer"
    return Entry(
        " ".join(names),
        tuple(partial(opened, images / name) for name in names),
        conversations=(conversation,),
    )


def _turns(pairs: Iterable[tuple[str, str]]) -> tuple[QA, ...]:
    """The turns of a conversation up to the first without a question or an answer."""
    turns = []
    for question, answer in pairs:
        if not question or not answer:
            # The turns after a gap would refer to what is not there.
            break
        turns.append(QA(question, answer, "instruction"))
    return tuple(turns)


# index.jsonl: {"file": name in images/, or "files": [name, ...], "captions": [...],
# "questions": [[question, answer] or [question, answer, kind], ...],
# "conversations": [[[question, answer], ...], ...], "queries": [...]}.


def read_index(folder: Path, skipped: Counter[str]) -> Iterator[Entry]:
    """Captions, questions, conversations and queries of images.

    Raises OSError, UnicodeDecodeError.
    """
    for line in (folder / "index.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
            names = _names(record)
            files = [folder / "images" / name for name in names]
            captions = _texts(record.get("captions", []))
            queries = _texts(record.get("queries", []))
            questions = _questions(record.get("questions", ()))
            talks = [_turns(_pairs(talk)) for talk in record.get("conversations", ())]
            model_inputs = _model_inputs(record.get("model_inputs", {}))
        except (ValueError, KeyError, TypeError, AttributeError):
            skipped["a broken line"] += 1
            continue
        conversations = tuple(filter(None, talks))
        if not all(file.is_file() for file in files):
            skipped["no image"] += 1
        elif captions or questions or conversations:
            yield Entry(
                " ".join(names),
                tuple(partial(opened, file) for file in files),
                captions,
                questions,
                conversations,
                queries,
                model_inputs,
            )
        else:
            skipped["no text"] += 1


def _names(record: Mapping[str, Any]) -> list[str]:
    """The names of a record's files. Raises KeyError or ValueError."""
    names = record["files"] if "files" in record else [record["file"]]
    if not isinstance(names, list) or not names:
        raise ValueError("files is a list of names")
    if len(names) > 1 and any(map(record.get, _OF_ONE_IMAGE)):
        raise ValueError(f"{', '.join(_OF_ONE_IMAGE)} are of one image")
    return names


def _questions(rows: Iterable[Any]) -> tuple[QA, ...]:
    """Questions with their answers and, where it is given, their kind; gaps are left out.

    Raises TypeError or ValueError for rows of another length.
    """
    questions = []
    for question, answer, *kind in rows:
        if len(kind) > 1:
            raise ValueError("a question has an answer and a kind, and nothing more")
        if question and answer:
            name = str(kind[0]) if kind else "instruction"
            questions.append(QA(str(question), str(answer), name))
    return tuple(questions)


def _model_inputs(fields: Mapping[str, Iterable[Any]]) -> dict[str, tuple[int, ...]]:
    """Raises TypeError, ValueError or AttributeError for what is no mapping of whole numbers."""
    return {
        str(name): tuple(int(number) for number in numbers)
        for name, numbers in fields.items()
    }


def _pairs(values: Iterable[Any]) -> list[tuple[str, str]]:
    """Questions with their answers. Raises TypeError or ValueError if they are no pairs."""
    pairs = []
    for question, answer in values:
        pairs.append((str(question or ""), str(answer or "")))
    return pairs


# WebDataset: files of one stem in a tar, an image and a caption in .txt or in .json's "caption".


def read_webdataset(shard: Path, skipped: Counter[str]) -> Iterator[Entry]:
    """Captioned images. Raises DataInvalid if the shard is cut off."""
    # Where each file is, not what is in it: a shard may be larger than the memory.
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        # Uncompressed: images are read from their offsets.
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if member.isfile():
                    stem, _, suffix = member.name.rpartition(".")
                    samples.setdefault(stem, {})[suffix.lower()] = member
            _check_end(shard, archive.offset)
            for stem, members in samples.items():
                image_suffix = _first_of(IMAGE_SUFFIXES, members)
                caption = _tar_caption(archive, members)
                if image_suffix is None:
                    skipped["no image"] += 1
                elif not caption:
                    skipped["no text"] += 1
                else:
                    image = partial(_tar_image, shard, members[image_suffix])
                    yield Entry(f"{shard.name}/{stem}", (image,), (caption,))
    except (tarfile.TarError, EOFError) as error:
        raise DataInvalid(f"{shard} is cut off or no tar file: {error}") from error


def _check_end(shard: Path, offset: int) -> None:
    """Raises tarfile.ReadError unless the block that ends an archive is at the offset.

    `tarfile` takes a header that is cut off for the end.
    """
    with shard.open("rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("its end is missing")


def _tar_caption(
    archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo]
) -> str:
    if "txt" in members:
        return _tar_text(archive, members["txt"]).strip()
    if "json" not in members:
        return ""
    try:
        record = json.loads(_tar_text(archive, members["json"]))
    except ValueError:
        return ""
    caption = record.get("caption", "") if isinstance(record, dict) else ""
    return caption.strip() if isinstance(caption, str) else ""


def _tar_text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = archive.extractfile(member)
    return file.read().decode("utf-8", errors="replace") if file else ""


def _tar_image(shard: Path, member: tarfile.TarInfo) -> Image.Image:
    # Straight from the member's offset: opening the archive would read all headers again.
    try:
        with shard.open("rb") as file:
            file.seek(member.offset_data)
            data = file.read(member.size)
    except OSError as error:
        raise DataInvalid(f"{shard}: {error}") from error
    return decoded(data, f"{member.name} in {shard}")


# Parquet: captions are read at once, the images of a row group when one of them is opened.


def read_parquet(shard: Path, skipped: Counter[str]) -> Iterator[Entry]:
    """Captioned images. Raises DataInvalid."""
    file, read_errors = _open_parquet(shard)
    names = file.schema_arrow.names
    image_column = _first_of(IMAGE_COLUMNS, names)
    caption_column = _first_of(CAPTION_COLUMNS, names)
    if image_column is None or caption_column is None:
        raise DataInvalid(
            f"{shard} has columns {', '.join(names)}: one of {', '.join(IMAGE_COLUMNS)} and one of "
            f"{', '.join(CAPTION_COLUMNS)} is needed"
        )
    try:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=[caption_column])
            for row, cell in enumerate(table[caption_column].to_pylist()):
                captions = _texts(cell if isinstance(cell, list) else [cell])
                if captions:
                    image = partial(_parquet_image, shard, group, image_column, row)
                    yield Entry(f"{shard.name}/{group}/{row}", (image,), captions)
                else:
                    skipped["no text"] += 1
    except read_errors as error:
        raise DataInvalid(f"{shard}: {error}") from error


def _open_parquet(shard: Path) -> tuple[Any, tuple[type[Exception], ...]]:
    """The file, and what reading it may raise."""
    try:
        import pyarrow as pa  # only needed for such data
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataInvalid("pyarrow is missing: install the extra `train`") from error
    errors = (pa.ArrowException, OSError)
    try:
        return pq.ParquetFile(shard), errors
    except errors as error:
        raise DataInvalid(f"{shard} is cut off or no Parquet file: {error}") from error


# A row group is the least that Parquet can read. The shuffled order visits many of them in turn, so
# images are fetched again and again; a few groups in memory help where shards are small.
@lru_cache(maxsize=4)
def _parquet_cells(shard: Path, group: int, column: str) -> Any:
    file, read_errors = _open_parquet(shard)
    try:
        return file.read_row_group(group, columns=[column])[column]
    except read_errors as error:
        raise DataInvalid(f"{shard}: {error}") from error


def _parquet_image(shard: Path, group: int, column: str, row: int) -> Image.Image:
    cell = _parquet_cells(shard, group, column)[row].as_py()
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    name = f"{shard}, row {row} of row group {group}"
    if not isinstance(data, bytes):
        raise DataInvalid(f"{name} is no readable image: it has no bytes")
    return decoded(data, name)


def _texts(values: object) -> tuple[str, ...]:
    """The texts of a list that are not blank. Raises TypeError if there is no list."""
    if not isinstance(values, list):
        raise TypeError("captions and queries are lists of texts")
    texts = [value.strip() for value in values if isinstance(value, str)]
    return tuple(filter(None, texts))


def _first_of(names: Sequence[str], present: Container[str]) -> str | None:
    return next((name for name in names if name in present), None)
