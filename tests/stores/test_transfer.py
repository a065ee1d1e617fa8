"""Exports from a data folder into a store outside it, and back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from index.data_folder import COLLECTIONS
from index.errors import StoreUnreachable
from index.exports.reader import Export
from index.library import Library
from index.store.sqlite import SqliteStore
from tests.golden.write_golden import golden_codes
from tests.index.exports.exporting import exported, fill, imported
from tests.index.libraries import open_here, opened, page_ids, read
from tests.index.samples import make_id, make_ids, make_image, make_record, same
from tests.stores.opening import collections_in

pytestmark = pytest.mark.stores

SHAPE = (4, 8)


def test_a_library_moves_out_of_its_folder_and_back(
    shared_url: str, tmp_path: Path
) -> None:
    url = shared_url
    codec = golden_codes("pq2")
    (tokens,) = codec.encode(make_image(3).tokens[None, :3, :8])
    data = fill(tmp_path / "data", range(3))
    cats = fill(data / COLLECTIONS / "cats", [])
    (cats / "codecs").mkdir()
    (cats / "codecs" / f"{codec.name}.faiss").write_bytes(codec.state)
    encoded = {"codec": codec.name, "tokens": tokens, "token_count": 3, "token_dim": 8}
    with closing(SqliteStore(cats)) as store:
        store.put([make_record(3, **encoded)])
    exported(data, tmp_path / "export")
    export = Export(tmp_path / "export")

    with opened(tmp_path / "a", store=url) as library:
        assert imported(export, library) == 3
        assert imported(export, library) == 0
    with collections_in(url, tmp_path / "a") as collections:
        collections.create("cats")
    with open_cats(url, tmp_path / "a") as library:
        assert imported(export, library, "cats") == 1
    # The codec is in the store too: another process reads its tokens.
    with open_cats(url, tmp_path / "b") as library:
        assert library.tokens([make_id(3)])[0].shape == (3, 8)

    exported(tmp_path / "c", tmp_path / "back", store=url)
    back = Export(tmp_path / "back")
    assert back.models == export.models
    with opened(data) as before, opened(tmp_path / "d") as after:
        assert imported(back, after) == 3
        assert page_ids(after) == make_ids(range(3))
        for number in range(3):
            assert same(read(after, number), read(before, number), with_picture=True)
    with closing(open_here(tmp_path / "e", token_shape=SHAPE)) as library:
        assert imported(back, library, "cats") == 1
        assert library.tokens([make_id(3)])[0].shape == (3, 8)


def open_cats(url: str, folder: Path) -> closing[Library]:
    path = folder / COLLECTIONS / "cats"
    return closing(open_here(path, store=url, collection="cats", token_shape=SHAPE))


def test_a_database_that_is_not_there_exports_nothing(tmp_path: Path) -> None:
    url = "postgresql://x:secret@127.0.0.1:1/x"
    with pytest.raises(StoreUnreachable):
        exported(tmp_path / "data", tmp_path / "export", store=url)
    assert list(tmp_path.glob("export*")) == []
