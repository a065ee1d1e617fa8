"""`precis keys`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from click.testing import CliRunner, Result

from precis_client.cli import main
from service.api_keys import ApiKeys


def run(data_dir: Path, *arguments: str) -> Result:
    command = ["keys", *arguments, "--data-dir", str(data_dir)]
    return CliRunner().invoke(main, command)


def test_a_key_from_the_first_day_to_the_last(tmp_path: Path) -> None:
    made = run(
        tmp_path / "data", "create", "--scope", "write", "--collection", "pets",
        "--collection", "dogs", "--name", "door camera",
    )  # fmt: skip
    assert made.exit_code == 0
    text = made.stdout.strip()
    with closing(ApiKeys(tmp_path / "data")) as keys:
        key = keys.find(text)
    assert key is not None
    assert (key.scope, key.collections) == ("write", {"dogs", "pets"})
    listed = run(tmp_path / "data", "list")
    start = f"{key.id}  write  dogs,pets  "
    assert listed.stdout.startswith(start)
    assert listed.stdout.endswith("  in force  door camera\n")
    assert text not in listed.stdout
    assert run(tmp_path / "data", "revoke", key.id).exit_code == 0
    assert "revoked  door camera" in run(tmp_path / "data", "list").stdout
    again = run(tmp_path / "data", "revoke", key.id)
    assert again.exit_code == 1
    folder = tmp_path / "data"
    message = f"Error: No key in force in {folder} has the id {key.id}.\n"
    assert again.stderr == message


def test_a_key_reads_everything_unless_told_otherwise(tmp_path: Path) -> None:
    assert run(tmp_path, "create").exit_code == 0
    assert "  read  everything  " in run(tmp_path, "list").stdout


def test_limits_of_a_key_are_listed(tmp_path: Path) -> None:
    limits = ("--requests-per-minute", "60", "--body-bytes-per-day", "1000000")
    assert run(tmp_path, "create", *limits, "--name", "camera").exit_code == 0
    line = run(tmp_path, "list").stdout
    assert "  60 requests a minute  1000000 bytes a day  camera\n" in line
    assert run(tmp_path, "create", "--requests-per-minute", "0").exit_code == 2


def test_a_bad_name_of_a_collection_is_one_line(tmp_path: Path) -> None:
    made = run(tmp_path, "create", "--collection", "../x")
    assert made.exit_code == 1
    assert made.stderr.startswith("Error: a collection's name has")
    assert made.stderr.count("\n") == 1


def test_listing_makes_no_folder(tmp_path: Path) -> None:
    listed = run(tmp_path / "absent", "list")
    assert listed.stdout == ""
    assert listed.stderr == f"No keys in {tmp_path / 'absent'}.\n"
    assert not (tmp_path / "absent").exists()


def test_serve_refuses_to_listen_elsewhere_without_a_key(tmp_path: Path) -> None:
    command = ["serve", "--host", "0.0.0.0", "--data-dir", str(tmp_path / "data")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: The service would listen on 0.0.0.0")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()
