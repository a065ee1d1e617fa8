"""The library: token store, vector index and codecs kept consistent. The store is the truth, the
index is derived.

Knows nothing of models or HTTP. Shapes: K summary tokens, D hidden size, E embedding size, Q
queries.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.codecs.registry import CodecRegistry
from index.codecs.scalar import WeightedWord, encode_each
from index.concurrency import GroupCommit
from index.errors import (
    CodecStateDamaged,
    CodecStateMissing,
    InvalidCursor,
    InvalidTokens,
    InvalidVector,
    RecordDamaged,
    WrongFingerprint,
)
from index.filters import Filter
from index.model_info import FOLDER as MAKERS_FOLDER
from index.model_info import ModelInfo, ModelInfoStore
from index.ports import (
    Hit,
    NewImage,
    Page,
    PutResult,
    RecodeProgress,
    Record,
    Stats,
    TokenStore,
    VectorIndex,
)
from index.registry import INDEXES, STORES, current_index_name, engine, former_names
from index.store.record_format import ID_HEX_DIGITS, metadata_bytes
from index.vectors.int8_vectors import check_queries, round_to_int8, unit
from index.vectors.snapshot import SnapshotManager

# Reads the records of a store and passes over the damaged ones, which it tells to the log.


log = logging.getLogger(__name__)


class TolerantReader:
    """One damaged record must not keep a search, a listing or a restart from the others."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store

    def by_row(self, rows: NDArray[np.int64]) -> dict[int, Record]:
        """The records of rows, without the deleted and the damaged."""
        numbers = rows.tolist()
        try:
            found = self._store.get_rows(numbers)
        except RecordDamaged:
            found = [self._record_or_none(row) for row in numbers]
        return {
            row: record for row, record in zip(numbers, found, strict=True) if record is not None
        }

    def _record_or_none(self, row: int) -> Record | None:
        try:
            return self._store.get_rows([row])[0]
        except RecordDamaged as error:
            log.warning("%s; run a check of the library", error)
            return None

    def by_id(self, ids: Sequence[str]) -> Sequence[tuple[int, Record | None] | None]:
        """(row, record) of each id; the record is None when it is damaged."""
        try:
            return self._store.get_many(ids)
        except RecordDamaged:
            return [self._whole_or_none(id_) for id_ in ids]

    def _whole_or_none(self, id_: str) -> tuple[int, Record | None] | None:
        try:
            return self._store.get_many([id_])[0]
        except RecordDamaged as error:
            log.warning("%s; run a check of the library", error)
            return None if error.row is None else (error.row, None)

    def scan(self, after_row: int) -> Iterator[tuple[int, Record]]:
        """Scans on behind damaged records."""
        while True:
            try:
                yield from self._store.scan(after_row=after_row)
            except RecordDamaged as error:
                log.warning("%s; run a check of the library", error)
                if error.row is None:
                    raise
                after_row = error.row
            else:
                return


# Cursors of a listing: a row, written so that nobody is tempted to make one up.


_VERSION = 1
_CURSOR = struct.Struct(">BqI")  # version, row, CRC-32 of both


def write_cursor(row: int) -> str:
    """The cursor behind `row`."""
    head = _CURSOR.pack(_VERSION, row, 0)[:-4]
    return base64.urlsafe_b64encode(head + zlib.crc32(head).to_bytes(4, "big")).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    """The row of a cursor. Raises InvalidCursor."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, row, crc = _CURSOR.unpack(data)
    except (binascii.Error, struct.error, ValueError) as error:
        raise InvalidCursor("not a cursor of this library") from error
    if version != _VERSION or crc != zlib.crc32(data[:-4]):
        raise InvalidCursor("not a cursor of this library")
    return int(row)


__all__ = [
    "Hit",
    "Library",
    "NewImage",
    "Page",
    "PutResult",
    "RecodeProgress",
    "Stats",
    "image_id",
    "open_library",
]


_RECODE_RECORDS = 64  # a transaction
_BLOCK_RECORDS = 256  # read at a time where many are read


def image_id(sha256: str) -> str:
    """The id of the image whose uploaded bytes have this hash: 128 bits of it, which no two images
    share by chance.
    """
    return sha256[:ID_HEX_DIGITS]


class Library:
    """Thread-safe. An image whose `put` returned is found by every later search, a deleted one by none."""

    def __init__(
        self,
        *,
        store: TokenStore,
        index: VectorIndex,
        codecs: CodecRegistry,
        snapshots: SnapshotManager | None,
        fingerprint: str,
        token_shape: tuple[int, int],
        embedding_size: int,
        codec: str,
        model_infos: ModelInfoStore | None = None,
    ) -> None:
        """Takes over `store` and `index`; `codec` is a recorded name on the shelf. Use `open_library`."""
        self.fingerprint = fingerprint
        self._store = store
        self._whole = TolerantReader(store)
        self._index = index
        self._codecs = codecs
        self._model_infos = model_infos or ModelInfoStore(None)
        self._snapshots = snapshots
        self._token_shape = token_shape
        self._embedding_size = embedding_size
        self._codec = codecs.by_name(codec)
        self._closed = False
        self._write_lock = threading.Lock()  # store and index change together
        self._put_together = GroupCommit(self._put)
        if snapshots is not None:
            snapshots.load(index, store)
        self._behind = True  # the index may lack or have too much of what the store holds
        self._catch_up()

    def find(self, sha256s: Sequence[str]) -> list[Record | None]:
        """The records of known contents, made by the present model; None for others. Raises StoreError."""
        found = self._whole.by_id([image_id(sha256) for sha256 in sha256s])
        return [
            self._if_same(item[1] if item else None, s)
            for item, s in zip(found, sha256s, strict=True)
        ]

    def put(self, images: Sequence[NewImage]) -> list[PutResult]:
        """Encodes, commits all in one transaction, then indexes; returns in the order given.

        An image may have fewer than K tokens: the first so many. Contents that are there already,
        or come twice, are stored once. A record of another model, or a damaged one, gives way to
        the new; so does one with fewer tokens, which leaves its metadata to the new. What several
        threads put at a time is encoded and committed together.

        Raises WrongFingerprint, InvalidTokens, InvalidVector, InvalidMetadata, StoreError; then
        nothing is stored.
        """
        self._check(images)
        return list(self._put_together(images))

    def _put(self, images: Sequence[NewImage]) -> list[PutResult]:
        found = self.find([image.sha256 for image in images])
        known = [
            r if r and r.token_count >= len(i.tokens) else None
            for r, i in zip(found, images, strict=True)
        ]
        # By content: what comes twice is encoded once, with as many tokens as it comes with.
        new: dict[str, NewImage] = {}
        for image, record in zip(images, known, strict=True):
            if record is None and (
                image.sha256 not in new or len(new[image.sha256].tokens) <= len(image.tokens)
            ):
                new[image.sha256] = image
        records = self._encode(list(new.values()))
        created: dict[str, Record] = {}
        present: dict[str, Record] = {}
        with self._write_lock:
            self._catch_up()
            # Looked up again: another thread may have put the same content meanwhile.
            old_rows = []
            for record, old in zip(
                records, self._whole.by_id([r.id for r in records]), strict=True
            ):
                same = self._if_same(old[1] if old else None, record.sha256)
                if same is not None and same.token_count >= record.token_count:
                    present[record.sha256] = same
                else:
                    created[record.sha256] = (
                        record if same is None else replace(record, metadata=same.metadata)
                    )
                    old_rows += [old[0]] if old else []
            if created:
                self._write(list(created.values()), old_rows)
        stored, seen = [], set[str]()
        for image, record_before in zip(images, known, strict=True):
            record = created.get(image.sha256) or record_before or present[image.sha256]
            # Of a content that comes twice in one batch, the first created it.
            first = created.get(image.sha256) is record and record.id not in seen
            seen.add(record.id)
            stored.append(PutResult(id=record.id, created=first, record=record))
        return stored

    def get(self, ids: Sequence[str], *, with_picture: bool = False) -> list[Record | None]:
        """The record of each id, None where there is none. Raises RecordDamaged."""
        found = self._store.get_many(ids, with_picture=with_picture)
        return [None if item is None else item[1] for item in found]

    def model_info(self, fingerprint: str) -> ModelInfo | None:
        """What a record's fingerprint stands for; None where the library was never told."""
        return self._model_infos.get(fingerprint)

    def tokens(self, ids: Sequence[str]) -> list[NDArray[np.float32] | None]:
        """The decoded (K, D) tokens of each id, None where there is none. Raises WrongFingerprint,
        CodecError.
        """
        return [None if record is None else self._decode(record) for record in self.get(ids)]

    def words(self, record: Record) -> list[list[WeightedWord]] | None:
        """What each token of a record says, heaviest word first; None if its codec keeps none or
        lost its state.
        """
        try:
            return self._codecs.by_name(record.codec).words(record.tokens, record.token_count)
        except (CodecStateMissing, CodecStateDamaged) as error:
            log.warning("%s; image %s can be shown, not asked about", error, record.id)
            return None

    def delete(self, ids: Sequence[str]) -> list[bool]:
        """Deletes in one transaction; whether each was there. Raises StoreError."""
        with self._write_lock:
            self._catch_up()
            rows = self._store.delete(ids)
            gone = np.array([row for row in rows if row is not None], dtype=np.int64)
            if len(gone):
                with self._following():
                    self._index.remove(gone)
                self._note_changes(len(gone))
        return [row is not None for row in rows]

    def set_metadata(self, id: str, metadata: Mapping[str, Any]) -> Record | None:
        """Gives an image other metadata; the new record, None where there is none. Raises
        InvalidMetadata, StoreError.
        """
        metadata_bytes(metadata)
        with self._write_lock:
            (found,) = self._store.get_many([id])
            if found is None:
                return None
            row, record = found
            record = replace(record, metadata=dict(metadata))
            self._store.update([(row, record)])
            return record

    def recode(self) -> Iterator[RecodeProgress]:
        """Writes all tokens of the present model anew in the library's codec, yielding after every
        committed batch.

        May be stopped, or be interrupted by anything, and started again: what is in the codec
        already is passed over. Reads and writes go on meanwhile. Records whose codec lost its state
        raise CodecError. A coarser codec loses what it loses for good.
        """
        rows = self._store.rows(self.fingerprint)
        done = 0
        for start in range(0, len(rows), _RECODE_RECORDS):
            with self._write_lock:
                found = self._whole.by_row(rows[start : start + _RECODE_RECORDS])
                others = {
                    row: record for row, record in found.items() if record.codec != self._codec.name
                }
                if others:
                    tokens = encode_each(
                        self._codec, [self._decode(record) for record in others.values()]
                    )
                    changed = zip(others.items(), tokens, strict=True)
                    self._store.update(
                        [
                            (r, replace(old, codec=self._codec.name, tokens=t))
                            for (r, old), t in changed
                        ]
                    )
            done += len(others)
            yield RecodeProgress(
                processed=min(start + _RECODE_RECORDS, len(rows)), total=len(rows), recoded=done
            )

    def search(
        self, queries: NDArray[np.float32], k: int, where: Filter | None = None
    ) -> list[list[Hit]]:
        """At most `k` hits a query (Q, E), best first, where `where` holds. Raises InvalidVector,
        StoreError.
        """
        check_queries(queries, k, self._embedding_size)
        if self._behind:
            with self._write_lock:
                self._catch_up()
        queries = unit(queries)
        allowed = None if where is None else self._store.rows(self.fingerprint, where)
        wanted = k
        while True:
            total = len(self._index) if allowed is None else len(allowed)
            _, rows = self._index.search(queries, max(min(wanted, total), 1), allowed)
            found = self._whole.by_row(np.unique(rows[rows >= 0]))
            hits = [
                self._rank(query, row, found, k) for query, row in zip(queries, rows, strict=True)
            ]
            if wanted >= total or all(len(some) == k for some in hits):
                return hits
            wanted *= 4  # some were deleted between the two reads, or are damaged

    def stats(self) -> Stats:
        """Totals; cheap."""
        sizes = self._store.sizes()
        files = self._snapshots.size_bytes() if self._snapshots is not None else 0
        return Stats(
            images=sizes.images,
            token_bytes=sizes.token_bytes,
            embedding_bytes=sizes.embedding_bytes,
            record_bytes=sizes.record_bytes,
            picture_bytes=sizes.picture_bytes,
            file_bytes=sizes.file_bytes + files,
            index_vectors=len(self._index),
        )

    def close(self) -> None:
        """Saves the index and releases the store."""
        with self._write_lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self._snapshots is not None:
                    self._snapshots.save(self._index, self._store)
            finally:
                self._store.close()

    def _check(self, images: Sequence[NewImage]) -> None:
        """All that can be wrong with the input, before anything is done."""
        for image in images:
            if image.fingerprint != self.fingerprint:
                raise WrongFingerprint(
                    "the image was compressed by another model than this library's"
                )
            count, dim = self._token_shape
            if (
                image.tokens.ndim != 2
                or not 1 <= len(image.tokens) <= count
                or image.tokens.shape[1] != dim
            ):
                raise InvalidTokens(
                    f"tokens must have shape {self._token_shape}, or fewer, not {image.tokens.shape}"
                )
            if image.embedding.shape != (self._embedding_size,):
                raise InvalidVector(
                    f"an embedding must have shape ({self._embedding_size},), not {image.embedding.shape}"
                )
            if not np.isfinite(image.embedding).all():
                raise InvalidVector("an embedding holds NaN or infinity")
            metadata_bytes(image.metadata)

    def _encode(self, images: Sequence[NewImage]) -> Sequence[Record]:
        if not images:
            return []
        tokens = encode_each(self._codec, [image.tokens for image in images])
        # As the disk will give it back, so that a fresh record and a read one are the same.
        embeddings = round_to_int8(unit(np.stack([image.embedding for image in images])))
        now_ms = time.time_ns() // 1_000_000
        return [
            Record(
                id=image_id(image.sha256),
                sha256=image.sha256,
                fingerprint=image.fingerprint,
                codec=self._codec.name,
                token_count=image.tokens.shape[0],
                token_dim=image.tokens.shape[1],
                tokens=data,
                embedding=embedding,
                width_px=image.width_px,
                height_px=image.height_px,
                created_at_ms=now_ms,
                metadata=dict(image.metadata),
                picture=image.picture,
            )
            for image, data, embedding in zip(images, tokens, embeddings, strict=True)
        ]

    def _write(self, records: Sequence[Record], old_rows: Sequence[int]) -> None:
        rows = self._store.put(records)
        with self._following():
            self._index.remove(np.array(old_rows, dtype=np.int64))
            self._index.add(
                np.array(rows, dtype=np.int64),
                unit(np.stack([record.embedding for record in records])),
            )
        self._note_changes(len(rows))

    @contextlib.contextmanager
    def _following(self) -> Iterator[None]:
        """The index follows a commit; should it fail, the next call makes it catch up."""
        try:
            yield
        except BaseException:
            self._behind = True
            raise

    def _note_changes(self, count: int) -> None:
        if self._snapshots is not None:
            self._snapshots.changed(count, self._index, self._store)

    def _decode(self, record: Record) -> NDArray[np.float32]:
        if record.fingerprint != self.fingerprint:
            raise WrongFingerprint(
                f"image {record.id} was compressed by another model than this library's"
            )
        return self._codecs.by_name(record.codec).decode(
            record.tokens, record.token_count, record.token_dim
        )

    def _if_same(self, record: Record | None, sha256: str) -> Record | None:
        """The record, if it is of this content and of the present model."""
        if record is None or record.sha256 != sha256 or record.fingerprint != self.fingerprint:
            return None
        return record

    def _rank(
        self,
        query: NDArray[np.float32],
        rows: NDArray[np.int64],
        found: Mapping[int, Record],
        k: int,
    ) -> list[Hit]:
        """The hits of one query (E,), by exact cosine; equal scores oldest first."""
        live = sorted(row for row in rows.tolist() if row in found)
        if not live:
            return []
        scores = np.clip(unit(np.stack([found[row].embedding for row in live])) @ query, -1, 1)
        best = np.argsort(-scores, kind="stable")[:k]
        return [Hit(found[live[i]].id, float(scores[i]), found[live[i]]) for i in best]

    def _matching(self, where: Filter, after_row: int) -> Iterator[tuple[int, Record]]:
        rows = self._store.rows(self.fingerprint, where)
        rows = rows[rows > after_row]
        for start in range(0, len(rows), _BLOCK_RECORDS):
            yield from self._whole.by_row(rows[start : start + _BLOCK_RECORDS]).items()

    def _catch_up(self) -> None:
        """Makes the index hold exactly what the store holds of the present model."""
        if not self._behind:
            return
        wanted, have = self._store.rows(self.fingerprint), self._index.rows()
        surplus = np.setdiff1d(have, wanted)
        self._index.remove(surplus)
        missing = np.setdiff1d(wanted, have)
        for start in range(0, len(missing), _BLOCK_RECORDS):
            found = self._whole.by_row(missing[start : start + _BLOCK_RECORDS])
            found = {
                row: r for row, r in found.items() if r.embedding.shape == (self._embedding_size,)
            }
            if found:
                vectors = unit(np.stack([record.embedding for record in found.values()]))
                self._index.add(np.array(list(found), dtype=np.int64), vectors)
        self._behind = False
        self._note_changes(len(surplus) + len(missing))

    def page(
        self, *, cursor: str | None = None, limit: int = 50, where: Filter | None = None
    ) -> Page:
        """The next `limit` records after `cursor`, oldest first; stable while images come and go.
        Raises InvalidCursor.

        With `where`, only images of the present model for which it holds.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        after = 0 if cursor is None else read_cursor(cursor)
        found = []
        for item in self._whole.scan(after) if where is None else self._matching(where, after):
            found.append(item)
            if len(found) > limit:
                return Page(
                    [record for _, record in found[:limit]], write_cursor(found[limit - 1][0])
                )
        return Page([record for _, record in found], None)


def open_library(
    path: Path,
    *,
    fingerprint: str,
    token_shape: tuple[int, int],
    embedding_size: int,
    codec: str = "sq8",
    codec_state: Path | None = None,
    store: str = "sqlite",
    index: str = "auto",
    model_info: ModelInfo | None = None,
) -> Library:
    """Opens or creates the library in the data folder `path`, for images of the model `fingerprint`.

    `codec_state` is the trained state of a codec that needs it, `model_info` what `fingerprint` stands
    for, to be kept. Raises StoreError (StoreBusy when another process has it open), CodecError,
    UnknownEngine.
    """
    index = current_index_name(index)
    make_index, store_engine = engine(INDEXES, index), engine(STORES, store)
    opened = store_engine.open(path)
    try:
        codecs = CodecRegistry(path / "codecs")
        model_infos = ModelInfoStore(path / MAKERS_FOLDER if store_engine.durable else None)
        if model_info is not None:
            model_infos.keep(fingerprint, model_info)
        return Library(
            store=opened,
            index=make_index(embedding_size),
            codecs=codecs,
            snapshots=SnapshotManager(path, index, former_names(index))
            if store_engine.durable
            else None,
            fingerprint=fingerprint,
            token_shape=token_shape,
            embedding_size=embedding_size,
            codec=codecs.choose(codec, codec_state).name,
            model_infos=model_infos,
        )
    except BaseException:
        opened.close()
        raise
