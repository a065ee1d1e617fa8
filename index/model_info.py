"""What the fingerprints in a library stand for: the base model's name and the mode, in words,
beside the data.

Knows nothing of records or models. A record holds a hash of what made its tokens;
makers/FINGERPRINT.json still says what that was when another model is served.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from index.errors import StoreDamaged, StoreError, StoreFull
from index.files import NO_SPACE, write_whole

FOLDER = "makers"
VERSION = 1
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelInfo:
    """What made tokens and embeddings."""

    model: str  # name of the base model
    mode: str  # how it makes summary tokens


class ModelInfoStore:
    """Makers by fingerprint. Safe to call from several threads."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is made once there is something to keep; None keeps nothing beyond this object."""
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, ModelInfo | None] = {}

    def keep(self, fingerprint: str, maker: ModelInfo) -> None:
        """From now on `fingerprint` stands for `maker`, durably. Raises StoreFull, StoreError."""
        data = encode_model_info(fingerprint, maker)
        try:
            if self._folder is not None:
                path = _path(self._folder, fingerprint)
                if not path.exists() or path.read_bytes() != data:
                    self._folder.mkdir(parents=True, exist_ok=True)
                    write_whole(path, lambda take: take(data))
        except OSError as error:
            kind = StoreFull if error.errno in NO_SPACE else StoreError
            raise kind(f"what made the tokens cannot be noted: {error.strerror}") from error
        with self._lock:
            self._known[fingerprint] = maker

    def get(self, fingerprint: str) -> ModelInfo | None:
        """What a fingerprint stands for; None where that was never kept, or is damaged."""
        with self._lock:
            if fingerprint not in self._known:
                self._known[fingerprint] = self._read(fingerprint)
            return self._known[fingerprint]

    def _read(self, fingerprint: str) -> ModelInfo | None:
        try:
            return (
                None if self._folder is None else read_model_info(_path(self._folder, fingerprint))
            )
        except FileNotFoundError:
            return None
        except (OSError, StoreError) as error:
            log.warning("%s; run a check of the library", error)
            return None


def encode_model_info(fingerprint: str, maker: ModelInfo) -> bytes:
    """The bytes of a maker's file; docs/storage.md describes them."""
    body = {"version": VERSION, "fingerprint": fingerprint, **asdict(maker)}
    return json.dumps({**body, "blake2b": _checksum(body)}, indent=1).encode() + b"\n"


def read_model_info(path: Path) -> ModelInfo:
    """The maker in a file named after its fingerprint. Raises OSError, StoreDamaged."""
    data = path.read_bytes()
    try:
        body = json.loads(data)
        checksum = body.pop("blake2b")
        maker = ModelInfo(model=body["model"], mode=body["mode"])
        whole = (body["version"], body["fingerprint"], checksum) == (
            VERSION,
            path.stem,
            _checksum(body),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged(f"{FOLDER}/{path.name} cannot be read") from error
    if not whole:
        raise StoreDamaged(f"{FOLDER}/{path.name} is damaged")
    return maker


def _checksum(body: dict[str, object]) -> str:
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=8).hexdigest()


def _path(folder: Path, fingerprint: str) -> Path:
    if not fingerprint.isalnum():
        raise StoreError(f"no model has the fingerprint {fingerprint!r}")
    return folder / f"{fingerprint}.json"
