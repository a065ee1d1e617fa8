"""Files of summary tokens: written and read back the same, and refused when anything is off."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from index.model_info import ModelInfo
from index.ports import Record
from service.errors import InvalidTokenFile
from service.use_cases.token_files import read_token_file, write_token_file
from tests.golden.write_golden import FOLDER, golden_record, golden_tokens
from tests.index.samples import make_record

MODEL = ModelInfo("a model, née Modell", "soft words")
TOKENS = golden_tokens()[0]
GOLDEN = FOLDER / "tokens-v1.safetensors"


def golden() -> bytes:
    return write_token_file(golden_record(1), TOKENS, MODEL)


def parts(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the tensors in a file."""
    end = 8 + int.from_bytes(data[:8], "little")
    entry = json.loads(data[8:end])["__metadata__"]["precis"]
    return json.loads(entry), load(data)


def changed(member: str, value: Any) -> bytes:
    """The golden file with another member, and the checksum that it had."""
    description, tensors = parts(golden())
    return save(tensors, {"precis": json.dumps({**description, member: value})})


def test_the_present_code_writes_the_golden_bytes() -> None:
    assert golden() == GOLDEN.read_bytes()


def test_an_earlier_version_s_file_is_read() -> None:
    image = read_token_file(GOLDEN.read_bytes())
    record = golden_record(1)
    assert (image.sha256, image.fingerprint) == (record.sha256, record.fingerprint)
    assert (image.width_px, image.height_px) == (record.width_px, record.height_px)
    assert image.metadata == record.metadata
    assert image.picture is None
    np.testing.assert_array_equal(image.tokens, TOKENS)
    np.testing.assert_array_equal(image.embedding, record.embedding)


def test_any_tool_reads_the_file() -> None:
    description, tensors = parts(golden())
    assert set(tensors) == {"tokens", "embedding"}
    assert description["fingerprint"] == golden_record(1).fingerprint
    assert (description["model"], description["mode"]) == (MODEL.model, MODEL.mode)


@given(st.data())
def test_no_damaged_byte_passes(data: st.DataObject) -> None:
    whole = golden()
    place = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != whole[place]))
    damaged = whole[:place] + bytes([value]) + whole[place + 1 :]
    try:
        image = read_token_file(damaged)
    except InvalidTokenFile:
        return
    # White space and the order of members carry no meaning.
    np.testing.assert_array_equal(image.tokens, TOKENS)
    assert replace(image, tokens=TOKENS).sha256 == golden_record(1).sha256


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidTokenFile):
        read_token_file(data)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("fingerprint", "00" * 32),
        ("sha256", "00" * 32),
        ("width_px", 7),
        ("metadata", {}),
        ("other", 1),
        ("checksum", None),
        ("version", 2),
    ],
)
def test_a_description_that_was_changed_is_refused(member: str, value: Any) -> None:
    with pytest.raises(InvalidTokenFile, match=r"checksum|version"):
        read_token_file(changed(member, value))


def written(record: Record, tokens: np.ndarray = TOKENS) -> bytes:
    return write_token_file(record, tokens, MODEL)


RECORD = make_record(0)
ZEROS = {"tokens": TOKENS, "embedding": 0 * golden_record(1).embedding}
NAN = np.full_like(TOKENS, np.nan)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (written(RECORD, NAN), "hold NaN"),
        (written(RECORD, NAN[:0]), "hold NaN"),
        (written(RECORD, TOKENS * 1e6), "beyond 65504"),
        (written(RECORD, TOKENS.astype(np.float16)), "float16"),
        (written(replace(RECORD, sha256="A" * 64)), "sha256"),
        (written(replace(RECORD, sha256="../../etc")), "sha256"),
        (written(replace(RECORD, width_px=0)), "width_px"),
        (written(replace(RECORD, height_px=2**32)), "height_px"),
        (written(replace(RECORD, metadata={"a": "\ud800"})), "surrogate"),
        (save(ZEROS, {"precis": json.dumps(parts(golden())[0])}), "is zero"),
        (save({"tokens": TOKENS}, {"precis": "{}"}), "was not written"),
        (save({"tokens": TOKENS}, {"precis": "[" * 100_000}), "nested too deep"),
        (save({"tokens": TOKENS}), "was not written"),
    ],
)
def test_content_that_no_library_holds_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidTokenFile, match=reason):
        read_token_file(data)


if __name__ == "__main__":
    # As of tests.golden.write_golden: only for a new version, beside the old one.
    GOLDEN.write_bytes(golden())
