"""What every reader of text promises.

A reader's test class derives from this one and says how it is made.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from compressor.ports import TextReader
from tests.conformance.summary_model_suite import pictures
from tests.fakes.text_reader import spelled


class TextReaderSuite:
    @classmethod
    def make(cls) -> TextReader:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def reader(cls) -> TextReader:
        return cls.make()

    def test_reads_lines_from_top_to_bottom(self, reader: TextReader) -> None:
        lines = ["STOP", "Main Street 12"]
        assert reader.read(spelled(lines)) == lines

    @pytest.mark.parametrize("size", [(64, 48), (1, 1), (768, 1), (1, 768), (300, 4)])
    def test_a_picture_without_text_has_no_lines(
        self, reader: TextReader, size: tuple[int, int]
    ) -> None:
        assert reader.read(Image.new("RGB", size, "grey")) == []

    def test_does_not_change_its_input(self, reader: TextReader) -> None:
        images = pictures()
        for image in images:
            reader.read(image)
        assert [image.tobytes() for image in images] == [
            image.tobytes() for image in pictures()
        ]

    def test_threads_may_share_it(self, reader: TextReader) -> None:
        texts = [["STOP"], ["EXIT"], []] * 2
        with ThreadPoolExecutor(3) as pool:
            read = list(pool.map(reader.read, map(spelled, texts)))
        assert read == texts
