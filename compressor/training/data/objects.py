"""Cut-outs of named things, prepared once into a folder: tightly cropped RGBA PNGs and an index.

Knows nothing of scenes. A fifth of the names is held out: no object of such a name is ever used for training.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from compressor.errors import DataInvalid
from compressor.training.data import colours, vocabulary
from compressor.training.data.sources import SOURCES, Picture

LONGEST_PX = 256
_SMALLEST_PX = 48  # a smaller picture cannot be recognised in a scene
_HELD_OUT_PERCENT = 20
_OPAQUE = 128  # alpha from which a pixel counts as part of the object


@dataclass(frozen=True)
class Cutout:
    """One prepared object."""

    file: str  # in the folder `cutouts` beside the index
    name: str  # a name of the vocabulary, singular
    category: str
    source: str
    original: str  # the picture's file in the collection, without suffix
    colour: str | None  # one of the eleven colour words if the object is clearly of that colour
    held_out: bool  # by name: kept for evaluation


@dataclass(frozen=True)
class Objects:
    """A set of cut-outs in a prepared folder."""

    folder: Path
    cutouts: tuple[Cutout, ...]
    by_name: Mapping[str, Sequence[Cutout]] = field(init=False, repr=False, compare=False)
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)  # sorted
    names_of_category: Mapping[str, Sequence[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name: dict[str, list[Cutout]] = defaultdict(list)
        for cutout in self.cutouts:
            by_name[cutout.name].append(cutout)
        of_category: dict[str, list[str]] = defaultdict(list)
        for name in sorted(by_name):
            of_category[by_name[name][0].category].append(name)
        object.__setattr__(self, "by_name", dict(by_name))
        object.__setattr__(self, "names", tuple(sorted(by_name)))
        object.__setattr__(self, "names_of_category", dict(of_category))

    def training(self, excluded: Collection[str] = ()) -> Objects:
        """The objects to train on, without the names of `excluded` (names of held-out photographs' classes)."""
        names = {name.lower() for name in excluded}
        return Objects(self.folder, tuple(c for c in self.cutouts if not c.held_out and c.name not in names))

    def held_out(self) -> Objects:
        """The objects of held-out names."""
        return Objects(self.folder, tuple(c for c in self.cutouts if c.held_out))

    def open(self, cutout: Cutout) -> Image.Image:
        """The cut-out as RGBA; the caller must not change it. Raises DataInvalid."""
        return _opened(self.folder / "cutouts" / cutout.file)


def is_held_out(name: str) -> bool:
    """Whether objects of this name are kept for evaluation, decided by the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 100 < _HELD_OUT_PERCENT


def load(folder: Path) -> Objects:
    """The objects prepared in `folder`. Raises DataInvalid."""
    index = folder / "objects.jsonl"
    try:
        lines = index.read_text(encoding="utf-8").splitlines()
        return Objects(folder, tuple(Cutout(**json.loads(line)) for line in lines))
    except (OSError, ValueError, TypeError) as error:
        raise DataInvalid(f"{index}: {error}; run `prepare` first") from error


def prepare(folders: Mapping[str, Path], target: Path, rejected: Collection[str] | None = None) -> Iterator[str]:
    """Fills `target` from the collections in `folders` (source name → folder); yields a line for each picture.

    `rejected` names pictures ("source/path", no suffix) that carry a wrong name or cannot be recognised; the default
    is the list in rejected.txt. The index is written last: with it the folder is complete.

    Raises DataInvalid, ToolMissing.
    """
    dropped = set(_rejected() if rejected is None else rejected)
    cutouts: list[Cutout] = []
    seen: set[str] = set()
    (target / "cutouts").mkdir(parents=True, exist_ok=True)
    for source, folder in folders.items():
        if source not in SOURCES:
            raise DataInvalid(f"unknown collection {source!r}: there are {', '.join(SOURCES)}")
        for picture in SOURCES[source](folder):
            original = picture.path.relative_to(folder).with_suffix("").as_posix()
            key = f"{source}/{original}"
            name = next(filter(None, map(vocabulary.lookup, picture.titles)), None)
            if name is None or key in dropped:
                yield f"{key}: {'rejected' if key in dropped else 'no name'} ({picture.titles[0]})"
                continue
            try:
                image = trimmed(picture)
            except DataInvalid as error:
                yield f"{key}: {error}"
                continue
            digest = hashlib.sha256(image.tobytes()).hexdigest()
            if digest in seen:
                yield f"{key}: seen before"
                continue
            seen.add(digest)
            file = f"{source}_{digest[:12]}.png"
            image.save(target / "cutouts" / file)
            held_out = is_held_out(name.text)
            cutouts.append(Cutout(file, name.text, name.category, source, original, colour_of(image), held_out))
            yield f"{key}: {name.text}"
    if not cutouts:
        raise DataInvalid(f"no usable pictures in {', '.join(map(str, folders.values()))}")
    temporary = target / "objects.jsonl.tmp"
    temporary.write_text("".join(json.dumps(asdict(cutout)) + "\n" for cutout in cutouts), encoding="utf-8")
    temporary.replace(target / "objects.jsonl")


def trimmed(picture: Picture) -> Image.Image:
    """The object without its margin, longest side at most LONGEST_PX. Raises DataInvalid if it is no cut-out."""
    image = picture.open()
    image.thumbnail((2 * LONGEST_PX, 2 * LONGEST_PX), Image.Resampling.LANCZOS, reducing_gap=2.0)
    alpha = np.asarray(image.getchannel("A"))
    if min(alpha[0, 0], alpha[0, -1], alpha[-1, 0], alpha[-1, -1]) >= _OPAQUE:
        raise DataInvalid("a picture with its background, no cut-out")
    box = image.getchannel("A").point([0] * 32 + [255] * 224).getbbox()
    if box is None:
        raise DataInvalid("nothing to be seen")
    image = image.crop(box)
    image.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.LANCZOS)
    if max(image.size) < _SMALLEST_PX or min(image.size) < 12:
        raise DataInvalid("too small")
    alpha = np.asarray(image.getchannel("A"))
    if (alpha >= _OPAQUE).mean() < 0.12:
        raise DataInvalid("a line drawing")
    return image


def colour_of(image: Image.Image) -> str | None:
    """The colour word of an RGBA cut-out if it is clearly of one colour."""
    pixels = np.asarray(image)
    return colours.main_colour(pixels[pixels[..., 3] >= _OPAQUE][:, :3])


def _rejected() -> list[str]:
    lines = Path(__file__).with_name("rejected.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@lru_cache(maxsize=4096)
def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGBA")
    except OSError as error:
        raise DataInvalid(f"{path}: {error}") from error
