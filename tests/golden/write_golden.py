"""Writes the golden files: `python -m tests.golden.write_golden`.

Only for a new version of a format, beside the old one. The tests compare the bytes on disk with
what the code makes of the same samples.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from index.codecs.dictionary import Dictionary
from index.codecs.registry import read_trained
from index.codecs.scalar import SELF_CONTAINED, StatefulCodec, TokenCodec
from index.exports.shards import ShardWriter
from index.exports.writer import export_libraries
from index.model_info import ModelInfo, encode_model_info
from index.ports import Picture, Record
from index.registry import StorePlace
from index.store.record_format import encode_picture, encode_record
from index.store.sqlite import FILE_NAME, LOCK_NAME, SqliteStore
from index.vectors.numpy_index import NumpyIndex
from tests.index.samples import EMBEDDING_SIZE, make_id, make_record

FOLDER = Path(__file__).parent
FAISS_CODECS = ("pq2", "opq2", "rq2")
GOLDEN_MAKER = ModelInfo("a model, née Modell", "soft words, one by one")
METADATA = {"title": "a cup of coffee", "tags": ["kitchen"], "year": 2026}


def golden_tokens() -> np.ndarray:
    """(2, 3, 8) tokens that need no random numbers."""
    numbers = np.arange(48, dtype=np.float32) % 11
    tokens = (numbers - 5) / 4
    return tokens.reshape(2, 3, 8)


def golden_record(number: int) -> Record:
    """A record without random numbers: their stream may change with the version of NumPy."""
    embedding = np.eye(EMBEDDING_SIZE, dtype=np.float32)[number]
    tokens = bytes(range(number, number + 96))
    return make_record(number, tokens=tokens, embedding=embedding, metadata=METADATA)


def golden_dictionary() -> Dictionary:
    """Words along the axes, and directions between them."""
    axes = np.eye(8)
    between = axes + 0.5 * axes[::-1]
    vectors = np.concatenate([axes, between]).astype(np.float16)
    texts = tuple(f" word {number}" for number in range(8))
    return Dictionary(vectors, texts)


def golden_mixture() -> StatefulCodec:
    """Its dictionary is a golden file too."""
    return read_trained("mix4", FOLDER / "mix4.npz")


def golden_codes(kind: str) -> StatefulCodec:
    """Its state was trained once, on numbers that are gone: trained again it may differ by the
    version of FAISS.
    """
    return read_trained(kind, FOLDER / f"{kind}.faiss")


def golden_vectors() -> np.ndarray:
    return np.eye(2, EMBEDDING_SIZE, dtype=np.float32)


def files() -> dict[str, bytes]:
    """The bytes of each golden file, as the present code makes them."""
    codecs: list[TokenCodec] = [make() for make in SELF_CONTAINED.values()]
    codecs += [golden_mixture(), *map(golden_codes, FAISS_CODECS)]
    made: dict[str, bytes] = {}
    for codec in codecs:
        kind, _, _ = codec.name.partition("@")
        encoded = codec.encode(golden_tokens())
        made[f"codec-{kind}.bin"] = b"".join(encoded)
    made["mix4.npz"] = golden_dictionary().to_bytes()
    made["record-v2.bin"] = encode_record(golden_record(1))
    made["maker-v1.json"] = encode_model_info("0123abcd", GOLDEN_MAKER)
    made["picture-v1.bin"] = encode_picture(
        "an id", Picture("image/webp", b"some bytes")
    )
    made["snapshot-v1.bin"] = golden_snapshot()
    made["export-v1/images-00000.tar"] = golden_shard()
    return made


def golden_snapshot() -> bytes:
    """A snapshot of two vectors. It is written outside of the tree, since each of pytest's
    processes writes one while it collects.
    """
    index = NumpyIndex(EMBEDDING_SIZE)
    index.add(np.array([3, 5], dtype=np.int64), golden_vectors())
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "index.snapshot"
        index.save(path)
        return path.read_bytes()


def golden_shard() -> bytes:
    """A shard with two images, of which one has a picture."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "shard.tar"
        shard = ShardWriter(path)
        for number in (1, 3):
            shard.add(golden_record(number))
        shard.close()
        return path.read_bytes()


def write_golden_export() -> None:
    """The export whose shard is a golden file; its manifest has the time of writing."""
    folder = FOLDER / "export-v1"
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch)
        store = SqliteStore(data)
        store.put([golden_record(1), golden_record(3)])
        store.close()
        for _ in export_libraries(StorePlace(data, "sqlite"), folder, originals=False):
            pass


def main() -> None:
    write_golden_export()
    for name, data in files().items():
        (FOLDER / name).write_bytes(data)
    folder = FOLDER / "store-v2"
    shutil.rmtree(folder, ignore_errors=True)
    store = SqliteStore(folder)
    store.put([golden_record(n) for n in (1, 0, 3)])
    store.delete([make_id(0)])
    store.close()
    (folder / LOCK_NAME).unlink()
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


if __name__ == "__main__":
    main()
