"""Training a codec from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner

from index.codecs import read_trained
from service.codec_command import codec


def test_the_state_is_written_and_reads_what_it_wrote(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).normal(size=(2900, 4, 16)).astype(np.float32)
    np.save(tmp_path / "tokens.npy", tokens)
    result = CliRunner().invoke(codec, ["pq8", str(tmp_path / "tokens.npy"), str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "32 bytes an image" in result.output
    trained = read_trained("pq8", tmp_path / "pq8.faiss")
    (data,) = trained.encode(tokens[:1])
    lost = ((trained.decode(data, 4, 16) - tokens[0]) ** 2).mean()
    assert lost < 0.1


def test_what_cannot_be_used_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.zeros((10, 4, 16), np.float32))
    np.save(tmp_path / "flat.npy", np.zeros((10, 16), np.float32))
    (tmp_path / "text.npy").write_text("no tokens")
    for name, kind in (("few", "pq8"), ("flat", "pq8"), ("text", "pq8"), ("few", "nonsense")):
        result = CliRunner().invoke(codec, [kind, str(tmp_path / f"{name}.npy"), str(tmp_path)])
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
    assert not list(tmp_path.glob("*.faiss"))
