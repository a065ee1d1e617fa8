"""The store in Lance against the suites of every store: in a folder, and on a real S3 server."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from tests.conformance.change_feed_suite import ChangeFeedSuite, SharedStore
from tests.conformance.token_store_suite import TokenStoreSuite

pytestmark = pytest.mark.stores
pytest.importorskip("lance")

from index.store.lance.store import LanceStore  # noqa: E402


class InFolder:
    def open(self, folder: Path) -> SharedStore:
        return LanceStore(str(folder / "lance" / "library.lance"), folder)


class OnS3:
    @pytest.fixture(autouse=True)
    def _bucket(self, s3_url: str) -> None:
        self._url = s3_url

    def open(self, folder: Path) -> SharedStore:
        name = f"{zlib.crc32(str(folder).encode())}.lance"
        return LanceStore(f"{self._url}/{name}", folder)


class TestInFolder(InFolder, TokenStoreSuite):
    pass


class TestOnS3(OnS3, TokenStoreSuite):
    pass


class TestFeedInFolder(InFolder, ChangeFeedSuite):
    pass


class TestFeedOnS3(OnS3, ChangeFeedSuite):
    pass
