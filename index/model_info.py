"""Which model a fingerprint stands for: its name and mode, kept beside the data.

A record holds only a hash of the model that made its tokens. `makers/FINGERPRINT.json` still names
that model when another one is served.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from index.errors import StoreDamaged, StoreError
from index.files import checksum, store_errors, write_bytes

FOLDER = "makers"
VERSION = 1
_CHECKSUM_BYTES = 8
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelInfo:
    """The model that made tokens and embeddings."""

    model: str  # name of the base model
    mode: str  # how it makes summary tokens


class ModelInfoStore:
    """ModelInfo by fingerprint. Thread-safe."""

    def __init__(self, folder: Path | None) -> None:
        """Creates `folder` at the first `keep`; with None, keeps everything in memory alone."""
        self._folder = folder
        self._lock = threading.Lock()
        self._cache: dict[str, ModelInfo | None] = {}

    def keep(self, fingerprint: str, info: ModelInfo) -> None:
        """Records durably that `fingerprint` stands for `info`. Raises StoreFull, StoreError."""
        if self._folder is not None:
            data = encode_model_info(fingerprint, info)
            path = _path(self._folder, fingerprint)
            with store_errors(f"{FOLDER}/{path.name} cannot be written"):
                # Every start of the service comes here: an unchanged file costs no fsync.
                if not path.exists() or path.read_bytes() != data:
                    self._folder.mkdir(parents=True, exist_ok=True)
                    write_bytes(path, data)
        with self._lock:
            self._cache[fingerprint] = info

    def get(self, fingerprint: str) -> ModelInfo | None:
        """The model of a fingerprint; None if it was never kept or its file is damaged."""
        with self._lock:
            if fingerprint not in self._cache:
                # Absence is cached too: a listing of a thousand records asks a thousand times.
                self._cache[fingerprint] = self._read(fingerprint)
            return self._cache[fingerprint]

    def _read(self, fingerprint: str) -> ModelInfo | None:
        if self._folder is None:
            return None
        try:
            return read_model_info(_path(self._folder, fingerprint))
        except FileNotFoundError:
            return None
        except (OSError, StoreError) as error:
            log.warning("%s; run a check of the library", error)
            return None


def encode_model_info(fingerprint: str, info: ModelInfo) -> bytes:
    """The bytes of a file in `makers/`; docs/storage.md describes them."""
    body: dict[str, object] = {
        "version": VERSION,
        "fingerprint": fingerprint,
        **asdict(info),
    }
    sealed = {**body, "blake2b": _body_checksum(body)}
    text = json.dumps(sealed, indent=1)
    return text.encode() + b"\n"


def read_model_info(path: Path) -> ModelInfo:
    """The model in a file named after its fingerprint. Raises OSError, StoreDamaged."""
    data = path.read_bytes()
    try:
        body = json.loads(data)
        stored_checksum = body.pop("blake2b")
        info = ModelInfo(model=body["model"], mode=body["mode"])
        # The fingerprint in the body binds the file to its name: a file that was renamed, or
        # copied over another, has a right checksum and would name the wrong model.
        expected = (VERSION, path.stem, _body_checksum(body))
        intact = (body["version"], body["fingerprint"], stored_checksum) == expected
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged(f"{FOLDER}/{path.name} cannot be read") from error
    if not intact:
        raise StoreDamaged(f"{FOLDER}/{path.name} is damaged")
    return info


def _body_checksum(body: dict[str, object]) -> str:
    # Over sorted keys: the checksum is of the content, however the file was indented.
    text = json.dumps(body, sort_keys=True)
    return checksum(text.encode(), _CHECKSUM_BYTES).hex()


def _path(folder: Path, fingerprint: str) -> Path:
    # Fingerprints come from callers too; letters and digits alone cannot leave the folder.
    if not fingerprint.isalnum():
        raise StoreError(f"no model has the fingerprint {fingerprint!r}")
    return folder / f"{fingerprint}.json"
