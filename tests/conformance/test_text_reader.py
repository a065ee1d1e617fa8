"""Every reader of text against the one suite."""

from __future__ import annotations

import pytest

from compressor.errors import TextReaderFailed
from compressor.ports import TextReader
from compressor.text_reader import RapidTextReader
from tests.conformance.text_reader_suite import TextReaderSuite
from tests.fakes.text_reader import FakeTextReader, spelled


class TestFakeTextReader(TextReaderSuite):
    @classmethod
    def make(cls) -> TextReader:
        return FakeTextReader()


@pytest.mark.ocr
class TestRapidTextReader(TextReaderSuite):
    @classmethod
    def make(cls) -> TextReader:
        pytest.importorskip("rapidocr", reason="the extra ocr is not installed")
        return RapidTextReader()


def test_an_error_of_the_engine_is_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("ONNX says no")

    monkeypatch.setattr("compressor.text_reader.is_installed", lambda: True)
    reader = RapidTextReader()
    reader._engine = broken
    with pytest.raises(TextReaderFailed, match="ONNX says no"):
        reader.read(spelled(["STOP"]))
