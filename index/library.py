"""The library: a token store, its codecs and a vector index, kept consistent.

The store is the source of truth, the index is derived from it. Shapes: K summary tokens, D hidden
size, E embedding size, Q queries.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import struct
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from index.codecs.registry import CodecRegistry
from index.codecs.scalar import WeightedWord, encode_each
from index.concurrency import GroupCommit
from index.data_folder import RESTORING
from index.derived_index import DerivedIndex
from index.errors import (
    CodecStateDamaged,
    CodecStateMissing,
    InvalidCursor,
    InvalidTokens,
    InvalidVector,
    RecordDamaged,
    StoreClosed,
    StoreError,
    WrongFingerprint,
)
from index.filters import Filter
from index.model_info import FOLDER as MODEL_INFO_FOLDER
from index.model_info import ModelInfo, ModelInfoStore
from index.ports import (
    ChangeFeed,
    ClosedError,
    Floats,
    Hit,
    Ints,
    NewImage,
    Page,
    Picture,
    PutResult,
    RecodeProgress,
    Record,
    Stats,
    TokenStore,
    VectorIndex,
)
from index.registry import (
    INDEXES,
    StorePlace,
    current_index_name,
    engine,
    former_names,
    store_engine,
)
from index.store.record_format import ID_HEX_DIGITS, metadata_bytes
from index.store.tolerant_reader import TolerantReader
from index.text_cursor import read_text_cursor, write_text_cursor
from index.vectors.arithmetic import check_queries, round_to_int8, unit
from index.vectors.snapshot import SnapshotManager

log = logging.getLogger(__name__)

_RECODE_RECORDS = 64  # a transaction
_BLOCK_RECORDS = 256  # read at a time for a filtered page
_CURSOR_VERSIONS = {False: 1, True: 2}  # by whether the newest come first
_CURSOR = struct.Struct(">BqI")  # version, row, CRC-32 of both
_CRC_BYTES = 4


def image_id(sha256: str) -> str:
    """The id of an image: the first 128 bits of the hash of its uploaded bytes."""
    # Enough that no two images of any library share it by chance, and half as long.
    return sha256[:ID_HEX_DIGITS]


def is_original(record: Record, picture: Picture) -> bool:
    """Whether the picture kept of a record is the uploaded file itself."""
    return hashlib.sha256(picture.data).hexdigest() == record.sha256


@dataclass
class _Pending:
    """One content of a batch; images with the same bytes share it."""

    record: Record  # the library's, or the one to write if `is_new`
    is_new: bool = False
    replaced_row: int | None = None  # of a record that the new one takes the place of


class Library:
    """The images of one model, and those that other models left. Thread-safe.

    Every search after `put` returned finds the image; none after `delete` returned does. So it is
    too where `put` and `delete` were calls of another process that shares the store.
    """

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
        feed: ChangeFeed | None = None,
    ) -> None:
        """Takes over `store` and `index`; `codec` is a name in `codecs`. Use `open_library`.

        `feed` is that of the store, if others write to it.
        """
        self.fingerprint = fingerprint
        self._store = store
        self._reader = TolerantReader(store)
        self._codecs = codecs
        self._model_infos = model_infos or ModelInfoStore(None)
        self._token_shape = token_shape
        self._embedding_size = embedding_size
        self._codec = codecs.by_name(codec)
        self._closed = False
        # Store and index change together under this lock; reads take none.
        self._write_lock = threading.Lock()
        self._group_put = GroupCommit(self._put)
        self._index = DerivedIndex(
            index,
            store,
            fingerprint=fingerprint,
            embedding_size=embedding_size,
            snapshots=snapshots,
            feed=feed,
        )

    def find(self, sha256s: Sequence[str]) -> list[Record | None]:
        """The record of each content, None if this model has not compressed it.

        Raises StoreError.
        """
        ids = [image_id(sha256) for sha256 in sha256s]
        rows_and_records = self._reader.by_id(ids)
        records: list[Record | None] = []
        for row_and_record, sha256 in zip(rows_and_records, sha256s, strict=True):
            record = None if row_and_record is None else row_and_record[1]
            records.append(self._if_same(record, sha256))
        return records

    def put(self, images: Sequence[NewImage]) -> list[PutResult]:
        """Encodes the images, commits all in one transaction and indexes them.

        Results are in the order of the images. An image may have fewer than K tokens: the first
        ones. A content that the library has, or that occurs twice, is stored once. A new record
        replaces one of another model, a damaged one, and one with fewer tokens, whose metadata it
        keeps. Calls of several threads at a time are encoded and committed together.

        Raises WrongFingerprint, InvalidTokens, InvalidVector, InvalidMetadata, StoreError; then
        nothing is stored.
        """
        # Before the group forms: bad input fails its own caller and delays no other.
        for image in images:
            self._check(image)
        return list(self._group_put(images))

    def put_records(self, records: Sequence[Record]) -> list[bool]:
        """Commits records of another library of this model, as they are; whether each is new.

        An image that this library has stays as it is, unless the record has more tokens: then it
        is replaced and keeps its metadata. Raises WrongFingerprint, InvalidTokens, InvalidVector,
        CodecError, RecordDamaged, StoreError; then nothing is stored.
        """
        for record in records:
            self._check_record(record)
        pending = {record.id: _Pending(record, is_new=True) for record in records}
        with self._write_lock:
            self._index.catch_up()
            self._write(pending.values())
        created = []
        for record in records:
            item = pending[record.id]
            created.append(item.is_new)
            # Of several records of one image, the first created it.
            item.is_new = False
        return created

    def add_codec(self, state: Path) -> None:
        """Keeps the trained state of a codec, from a file named as in the folder `codecs`.

        Raises CodecStateMissing, CodecStateDamaged, StoreError.
        """
        self._codecs.add(state)

    def _put(self, images: Sequence[NewImage]) -> list[PutResult]:
        # A first look without the write lock: encoding takes long, and most repeated uploads need
        # none.
        candidates = _most_tokens_by_content(images)
        pending: dict[str, _Pending] = {}
        to_encode: list[NewImage] = []
        for image, record in zip(
            candidates, self.find([i.sha256 for i in candidates]), strict=True
        ):
            if record is not None and record.token_count >= len(image.tokens):
                pending[image.sha256] = _Pending(record)
            else:
                to_encode.append(image)
        for record in self._encode(to_encode):
            pending[record.sha256] = _Pending(record, is_new=True)
        with self._write_lock:
            self._index.catch_up()
            self._write(pending.values())
        results = []
        for image in images:
            item = pending[image.sha256]
            result = PutResult(item.record.id, item.is_new, item.record)
            results.append(result)
            # Of several images with this content, the first created it.
            item.is_new = False
        return results

    def _write(self, pending: Iterable[_Pending]) -> None:
        """Commits what is still new and indexes it. Called with the write lock held."""
        # The first race: between the first look and the lock, another thread may have deleted a
        # record, changed its metadata, or put this content. Only what this second look finds
        # decides. A content whose record the first look found is not looked at again: if it was
        # deleted since, that counts as a deletion after this put.
        new = [item for item in pending if item.is_new]
        ids = [item.record.id for item in new]
        rows_and_records = self._reader.by_id(ids)
        for item, row_and_record in zip(new, rows_and_records, strict=True):
            if row_and_record is not None:
                row, record = row_and_record
                self._settle(item, row, record)
        new = [item for item in new if item.is_new]
        if not new:
            return
        records = [item.record for item in new]
        rows = self._store.put(records)
        replaced = [item.replaced_row for item in new if item.replaced_row is not None]
        # The second race: from the commit to the end of this update, a search may return rows that
        # the store no longer has; it drops them, since it reads every hit's record. The new rows it
        # cannot return yet, and need not: `put` has not returned.
        self._index.update(replaced, rows, records)

    def _settle(self, item: _Pending, row: int, record: Record | None) -> None:
        """Decides between a new record and what the store has under its id."""
        present = self._if_same(record, item.record.sha256)
        if present is None:
            # Damaged, or of another model.
            item.replaced_row = row
        elif present.token_count < item.record.token_count:
            item.replaced_row = row
            item.record = replace(item.record, metadata=present.metadata)
        else:
            item.record = present
            item.is_new = False

    def get(
        self, ids: Sequence[str], *, with_picture: bool = False
    ) -> list[Record | None]:
        """The record of each id, None for an unknown id. Raises RecordDamaged."""
        items = self._store.get_many(ids, with_picture=with_picture)
        return [None if item is None else item[1] for item in items]

    def page(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        where: Filter | None = None,
        id_prefix: str = "",
        newest_first: bool = False,
    ) -> Page:
        """The next `limit` records after `cursor`, oldest first or newest first.

        Stable while images come and go: a cursor is a row, not a number of records to skip, and is
        good for one order. With `where`, only images of the present model that match; with
        `id_prefix`, only those whose ids begin so. Raises InvalidCursor.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        start = None if cursor is None else read_cursor(cursor, newest_first)
        records: list[Record] = []
        last_row = 0
        for row, record in self._scan(start, where, id_prefix, newest_first):
            # One record beyond the limit tells that there is a next page.
            if len(records) == limit:
                return Page(records, write_cursor(last_row, newest_first))
            records.append(record)
            last_row = row
        return Page(records, None)

    def page_by_text(
        self,
        name: str,
        *,
        cursor: str | None = None,
        limit: int = 50,
        where: Filter | None = None,
        id_prefix: str = "",
    ) -> Page:
        """As `page`, the records with the greatest text under a metadata name first.

        Only images of the present model that have a text there. Raises InvalidCursor.
        """
        before = None if cursor is None else read_text_cursor(cursor)
        # One place beyond the limit tells that there is a next page.
        places = self._store.rows_by_text(
            self.fingerprint,
            name,
            where,
            id_prefix=id_prefix,
            before=before,
            limit=limit + 1,
        )
        next_cursor = None
        if len(places) > limit:
            next_cursor = write_text_cursor(places[limit - 1])
        rows = [row for _, row in places[:limit]]
        records = self._reader.by_row(np.array(rows, dtype=np.int64))
        return Page(list(records.values()), next_cursor)

    def model_info(self, fingerprint: str) -> ModelInfo | None:
        """The model of a record's fingerprint; None if the library was never told."""
        return self._model_infos.get(fingerprint)

    def tokens(self, ids: Sequence[str]) -> list[Floats | None]:
        """The decoded tokens (K, D) of each id, None for an unknown id.

        Raises WrongFingerprint, CodecError.
        """
        decoded: list[Floats | None] = []
        for record in self.get(ids):
            decoded.append(None if record is None else self.decode(record))
        return decoded

    def decode(self, record: Record) -> Floats:
        """The decoded tokens (K, D) of a record. Raises WrongFingerprint, CodecError."""
        if record.fingerprint != self.fingerprint:
            raise WrongFingerprint(
                f"image {record.id} was compressed by another model than this library's"
            )
        codec = self._codecs.by_name(record.codec)
        return codec.decode(record.tokens, record.token_count, record.token_dim)

    def words(self, record: Record) -> list[list[WeightedWord]] | None:
        """The words of each token, heaviest first; None if its codec keeps none.

        None too, with a warning, if the codec lost its state.
        """
        try:
            codec = self._codecs.by_name(record.codec)
            return codec.words(record.tokens, record.token_count)
        except (CodecStateMissing, CodecStateDamaged) as error:
            log.warning("%s; image %s can be shown, not asked about", error, record.id)
            return None

    def delete(self, ids: Sequence[str]) -> list[bool]:
        """Deletes in one transaction; whether each id was present. Raises StoreError."""
        with self._write_lock:
            self._index.catch_up()
            rows = self._store.delete(ids)
            deleted = [row for row in rows if row is not None]
            if deleted:
                self._index.update(deleted)
        return [row is not None for row in rows]

    def set_metadata(self, id: str, metadata: Mapping[str, Any]) -> Record | None:
        """Replaces the metadata of an image; the new record, None for an unknown id.

        Raises InvalidMetadata, StoreError.
        """
        metadata_bytes(metadata)
        # The lock spans read and write: else a recoding in between would be undone.
        with self._write_lock:
            while True:
                (item,) = self._store.get_many([id])
                if item is None:
                    return None
                row, record = item
                record = replace(record, metadata=dict(metadata))
                # Another process that shares the store may have replaced the record meanwhile.
                if self._store.update([(row, record)]) == [True]:
                    return record

    def recode(self) -> Iterator[RecodeProgress]:
        """Writes all tokens of the present model in the library's codec, batch by batch.

        Yields after every committed batch. May be stopped, or interrupted by a crash, and started
        again: records in the codec are passed over. Reads and writes go on meanwhile. A coarser
        codec loses tokens' precision for good. Raises CodecError for records whose codec lost its
        state.
        """
        rows = self._store.rows(self.fingerprint)
        recoded = 0
        for start in range(0, len(rows), _RECODE_RECORDS):
            block = rows[start : start + _RECODE_RECORDS]
            # The lock for one batch at a time: uploads wait for 64 records, not for a library.
            with self._write_lock:
                recoded += self._recode_rows(block)
            processed = start + len(block)
            yield RecodeProgress(processed=processed, total=len(rows), recoded=recoded)

    def _recode_rows(self, rows: Ints) -> int:
        records = self._reader.by_row(rows)
        others = {
            row: record
            for row, record in records.items()
            if record.codec != self._codec.name
        }
        if not others:
            return 0
        tokens = [self.decode(record) for record in others.values()]
        encoded = encode_each(self._codec, tokens)
        changed = []
        for row, data in zip(others, encoded, strict=True):
            recoded = replace(others[row], codec=self._codec.name, tokens=data)
            changed.append((row, recoded))
        self._store.update(changed)
        return len(changed)

    def search(
        self, queries: Floats, k: int, where: Filter | None = None
    ) -> list[list[Hit]]:
        """At most k hits for each query (Q, E), best first, that match `where`.

        Raises InvalidVector, StoreError.
        """
        check_queries(queries, k, self._embedding_size)
        if self._index.is_behind:
            with self._write_lock:
                self._index.catch_up()
        return self._index.search(unit(queries), k, where)

    def stats(self) -> Stats:
        """Totals; cheap."""
        sizes = self._store.sizes()
        return Stats(
            images=sizes.images,
            token_bytes=sizes.token_bytes,
            embedding_bytes=sizes.embedding_bytes,
            record_bytes=sizes.record_bytes,
            picture_bytes=sizes.picture_bytes,
            file_bytes=sizes.file_bytes + self._index.file_bytes(),
            index_vectors=len(self._index),
        )

    def close(self, error: ClosedError = StoreClosed) -> None:
        """Saves the index and closes the store; does nothing the second time.

        Later calls raise what `error` makes.
        """
        with self._write_lock:
            if self._closed:
                return
            self._closed = True
            try:
                self._index.save()
            finally:
                self._store.close(error)

    def _check(self, image: NewImage) -> None:
        """Raises the error of an image that cannot be stored, before anything is done."""
        if image.fingerprint != self.fingerprint:
            raise WrongFingerprint(
                "the image was compressed by another model than this library's"
            )
        self._check_shapes(image.tokens.shape, image.embedding)
        metadata_bytes(image.metadata)

    def _check_record(self, record: Record) -> None:
        """Raises the error of a record that cannot be stored, before anything is done."""
        if record.id != image_id(record.sha256):
            raise RecordDamaged(
                f"the id {record.id} does not follow from the content", id=record.id
            )
        # It tells wrong bytes, and a codec whose state is not here, before they are committed.
        tokens = self.decode(record)
        self._check_shapes(tokens.shape, record.embedding)

    def _check_shapes(self, shape: tuple[int, ...], embedding: Floats) -> None:
        """Raises InvalidTokens or InvalidVector if tokens of this shape, or this, do not fit."""
        max_count, dim = self._token_shape
        has_dim = len(shape) == 2 and shape[1] == dim
        if not has_dim or not 1 <= shape[0] <= max_count:
            raise InvalidTokens(
                f"tokens must have shape {self._token_shape} or fewer, not {shape}"
            )
        if embedding.shape != (self._embedding_size,):
            raise InvalidVector(
                f"an embedding must have shape ({self._embedding_size},),"
                f" not {embedding.shape}"
            )
        if not np.isfinite(embedding).all():
            raise InvalidVector("an embedding holds NaN or infinity")

    def _encode(self, images: Sequence[NewImage]) -> list[Record]:
        if not images:
            return []
        tokens = encode_each(self._codec, [image.tokens for image in images])
        # Rounded as the disk will give it back, so that a fresh record equals one that was read.
        embeddings = unit(np.stack([image.embedding for image in images]))
        embeddings = round_to_int8(embeddings)
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

    def _if_same(self, record: Record | None, sha256: str) -> Record | None:
        """The record, if it is of this content and of the present model."""
        # The whole hash: two contents may share the id, made on purpose if not by chance.
        if record is None or record.sha256 != sha256:
            return None
        return record if record.fingerprint == self.fingerprint else None

    def _scan(
        self,
        row_before: int | None,
        where: Filter | None,
        id_prefix: str,
        newest_first: bool,
    ) -> Iterator[tuple[int, Record]]:
        if where is None and not id_prefix:
            yield from self._reader.scan(row_before, newest_first=newest_first)
            return
        fingerprint = None if where is None else self.fingerprint
        rows = self._store.rows(fingerprint, where, id_prefix=id_prefix)
        if newest_first:
            rows = rows[::-1]
        if row_before is not None:
            rows = rows[rows < row_before] if newest_first else rows[rows > row_before]
        for start in range(0, len(rows), _BLOCK_RECORDS):
            records = self._reader.by_row(rows[start : start + _BLOCK_RECORDS])
            yield from records.items()


def open_library(
    path: Path,
    *,
    fingerprint: str,
    token_shape: tuple[int, int],
    embedding_size: int,
    codec: str = "sq8",
    codec_state: Path | None = None,
    store: str = "sqlite",
    collection: str | None = None,
    index: str = "auto",
    model_info: ModelInfo | None = None,
) -> Library:
    """Opens or creates the library in the data folder `path`, for images of one model.

    `fingerprint` identifies the model and `model_info` describes it. `codec_state` is the file of
    trained state, for a codec that needs it. `store` is an engine, or the URL of a store elsewhere;
    that has one library for each `collection`. Raises StoreError (StoreBusy if another process has
    the library open), CodecError, UnknownEngine, ExtraMissing.
    """
    index = current_index_name(index)
    # Both names before anything is opened: a misspelt engine leaves no empty folder.
    make_index = engine(INDEXES, index)
    chosen = store_engine(store)
    if (path / RESTORING).exists():
        # A part of the backup lies here; a new library could not be told from the rest of it.
        raise StoreError("a restore into this folder was interrupted; run it again")
    place = StorePlace(path, store, collection)
    opened = chosen.open(place)
    try:
        opened.claim(fingerprint)
        codecs = CodecRegistry(path / "codecs", opened.exchange_files)
        codec_name = codecs.choose(codec, codec_state).name
        model_infos = ModelInfoStore(
            path / MODEL_INFO_FOLDER if chosen.durable else None
        )
        if model_info is not None:
            # Before the first record of that model.
            model_infos.keep(fingerprint, model_info)
        opened.exchange_files()
        snapshots = None
        if chosen.durable:
            snapshots = SnapshotManager(path, index, former_names(index))
        return Library(
            store=opened.store,
            index=make_index(embedding_size),
            codecs=codecs,
            snapshots=snapshots,
            fingerprint=fingerprint,
            token_shape=token_shape,
            embedding_size=embedding_size,
            codec=codec_name,
            model_infos=model_infos,
            feed=opened.feed,
        )
    except BaseException:
        # Else the lock of the folder would stay taken for as long as the process lives.
        opened.store.close()
        raise


def write_cursor(row: int, newest_first: bool = False) -> str:
    """The cursor of the page after `row`: opaque, so that no client computes one."""
    head = _CURSOR.pack(_CURSOR_VERSIONS[newest_first], row, 0)[:-_CRC_BYTES]
    data = head + zlib.crc32(head).to_bytes(_CRC_BYTES, "big")
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_cursor(cursor: str, newest_first: bool = False) -> int:
    """The row of a cursor of a list in this order. Raises InvalidCursor."""
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        data = base64.b64decode(padded, altchars=b"-_", validate=True)
        version, row, crc = _CURSOR.unpack(data)
    except (binascii.Error, struct.error, ValueError) as error:
        raise InvalidCursor("not a cursor of this library") from error
    # The CRC tells a cursor that was cut or mistyped from one that means another row.
    expected_crc = zlib.crc32(data[:-_CRC_BYTES])
    if version not in _CURSOR_VERSIONS.values() or crc != expected_crc:
        raise InvalidCursor("not a cursor of this library")
    if version != _CURSOR_VERSIONS[newest_first]:
        raise InvalidCursor("a cursor of a list in the other order")
    return int(row)


def _most_tokens_by_content(images: Iterable[NewImage]) -> list[NewImage]:
    """One image for each content, the one with the most tokens; the later of equals."""
    chosen: dict[str, NewImage] = {}
    for image in images:
        previous = chosen.get(image.sha256)
        if previous is None or len(previous.tokens) <= len(image.tokens):
            chosen[image.sha256] = image
    return list(chosen.values())
