"""The command line against the real service."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from index.calibration import write_calibration
from precis_client import PictureUpload, Precis
from precis_client.cli import main
from precis_client.errors import TimedOut, problem
from precis_client.ingestion import Ingestion, Outcome
from precis_client.picture_paths import file_metadata, picture_paths
from service.settings import Settings
from tests.clients.conftest import Draw
from tests.clients.interruptible import interruptible
from tests.clients.serving import address_of_nobody, served
from tests.eventually import eventually
from tests.fakes.model import (
    FakeSummaryModel,
    Gate,
    InterruptedModel,
    made_up_calibration,
)
from tests.service.conftest import factory, ids, picture, statuses

Run = Callable[..., Result]
WARM_UP_SIZE = (64, 64)


@pytest.fixture
def run(url: str) -> Run:
    return lambda *arguments: invoke(*arguments, url=url)


def invoke(*arguments: str | Path, url: str) -> Result:
    words = [str(argument) for argument in arguments]
    result = CliRunner().invoke(main, words, env={"PRECIS_URL": url})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def objects(result: Result) -> list[dict[str, Any]]:
    """What a command with --json printed."""
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def folder(draw: Draw, tmp_path: Path) -> Path:
    """A folder with three pictures, one of them below it, and things that are none."""
    draw("in/red.png", "red")
    draw("in/below/blue.PNG", "blue")
    draw("in/below/green.png", "green")
    draw("in/.hidden.png", "black")
    draw("in/.cache/yellow.png", "yellow")
    (tmp_path / "in/notes.txt").write_text("no picture")
    return tmp_path / "in"


def test_pictures_of_a_folder(folder: Path) -> None:
    named = folder / "notes.txt"
    paths = picture_paths([folder, named])
    names = [str(path.relative_to(folder)) for path in paths]
    assert names == ["red.png", "below/blue.PNG", "below/green.png", "notes.txt"]


def test_what_is_passed_over_is_counted_by_reason(run: Run, folder: Path) -> None:
    (folder / "photo.JXL").write_bytes(b"1")
    (folder / "below" / "other.jxl").write_bytes(b"1")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "again").symlink_to(folder)
    result = run("ingest", folder)
    assert result.exit_code == 0
    (line,) = [line for line in result.stderr.splitlines() if "Passed" in line]
    reasons = line.removeprefix("Passed over: ").removesuffix(".").split(", ")
    assert set(reasons) == {
        ".jxl files (2)",
        "hidden (2)",
        ".txt files (1)",
        "pipes and devices (1)",
        "links to folders (1)",
    }
    passed_over: Counter[str] = Counter()

    def walk(root: Path, onerror: Callable[[OSError], None]) -> Iterator[Any]:
        onerror(PermissionError())
        yield str(root), [], []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "walk", walk)
        assert list(picture_paths([folder], passed_over)) == []
    assert passed_over["unreadable folders"] == 1


def test_a_pipe_or_a_device_is_not_read(run: Run, folder: Path) -> None:
    pipe = folder / "pipe.jpg"
    os.mkfifo(pipe)
    for file in (pipe, Path("/dev/zero")):
        result = run("ingest", file)
        assert result.exit_code == 1
        assert f"{file}: It is a pipe or a device" in result.stderr
        result = run("search", "--image", file)
        assert result.exit_code == 1
        assert "pipe or a device" in result.stderr


def test_ingest_then_again(run: Run, precis: Precis, folder: Path) -> None:
    first = run("ingest", folder)
    assert first.exit_code == 0
    assert first.stdout == ""
    assert "3 added, 0 known, 0 failed" in first.stderr
    images = precis.images()
    stored = {image.id: image.metadata["filename"] for image in images}
    assert set(stored.values()) == {"blue.PNG", "green.png", "red.png"}
    second = run("ingest", "--json", folder)
    outcomes = objects(second)
    assert {outcome["status"] for outcome in outcomes} == {"exists"}
    assert {outcome["image_id"] for outcome in outcomes} == set(stored)
    assert "0 added, 3 known, 0 failed" in second.stderr


def test_ingest_names_what_failed_and_why(run: Run, folder: Path) -> None:
    whole = (folder / "red.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[:60])
    (folder / "[bold].png").write_bytes(b"")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    result = run("ingest", folder)
    assert result.exit_code == 1
    assert "3 added, 0 known, 3 failed" in result.stderr
    lines = [line for line in result.stderr.splitlines() if ".png: " in line]
    reasons = dict(line.split(".png: ") for line in lines)
    names = {Path(name).name for name in reasons}
    assert names == {"torn", "[bold]", "gone"}
    assert all(reasons.values())


def test_a_file_name_that_is_not_utf8_is_stored_and_shown(
    run: Run, precis: Precis, folder: Path
) -> None:
    strange = os.fsencode(folder) + b"/bad\xff.png"
    Path(os.fsdecode(strange)).write_bytes((folder / "red.png").read_bytes() + b"\0")
    broken = os.fsencode(folder) + b"/worse\xff\x1b[1m\n.png"
    Path(os.fsdecode(broken)).write_bytes(b"no picture")
    result = run("ingest", folder)
    assert "4 added, 0 known, 1 failed" in result.stderr
    assert r"worse\udcff\x1b[1m\n.png: " in result.stderr
    names = {image.metadata["filename"] for image in precis.images()}
    assert "bad\ufffd.png" in names
    outcomes = objects(run("ingest", "--json", folder))
    assert sorted(statuses(outcomes)) == ["exists"] * 4 + ["failed"]


def test_ingest_of_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("ingest", tmp_path / "empty")
    assert result.exit_code == 1
    assert "no pictures" in result.stderr


def ingested(precis: Precis, paths: Iterable[Path], in_flight: int) -> list[Outcome]:
    return list(Ingestion(precis, paths, most_in_flight=in_flight).outcomes())


def test_known_files_are_not_sent_again(url: str, folder: Path) -> None:
    sent: list[str] = []

    class Counting(Precis):
        def add(self, *files: Any, **options: Any) -> Any:
            sent.extend(file.name for file in files)
            return super().add(*files, **options)

    with Counting(url) as precis:
        paths = list(picture_paths([folder]))
        ingested(precis, paths, 2)
        assert len(sent) == 3
        sent.clear()
        outcomes = ingested(precis, paths, 1)
    # One upload tells which model the service has now; what that model made is known without
    # another.
    assert sent == ["red.png"]
    assert {outcome.status for outcome in outcomes} == {"exists"}


def test_what_another_model_made_is_sent_again(tmp_path: Path, folder: Path) -> None:
    class Successor(FakeSummaryModel):
        fingerprint = "ab" * 32

    for model in (FakeSummaryModel(), Successor()):
        with served(tmp_path / "data", factory(model)) as url:
            result = invoke("ingest", folder, url=url)
        assert "3 added, 0 known" in result.stderr


def test_ingest_goes_on_after_an_interrupt(tmp_path: Path, draw: Draw) -> None:
    for number in range(12):
        draw(f"in/{number}.png", "red", (20 + number, 20))
    gate = Gate()
    compressed: list[tuple[int, int]] = []

    def hold_back_the_fifth(batch: Any) -> None:
        images = [item for item in batch if not isinstance(item, str)]
        sizes = [image.size for image in images]
        if sizes and sizes != [WARM_UP_SIZE]:
            if len(compressed) >= 4:
                gate.pass_through()
            compressed.extend(sizes)

    model = InterruptedModel(hold_back_the_fifth)
    with served(tmp_path / "data", factory(model), batch_size=1) as url:
        command = [sys.executable, "-m", "precis_client", "ingest", "--in-flight", "2"]
        command += ["--json", "--url", url, str(tmp_path / "in")]
        with interruptible(command, stderr=subprocess.PIPE) as process:
            gate.wait_for_arrival()
            process.send_signal(signal.SIGINT)
            # It does not wait for the requests in flight: the gate is closed until it has ended.
            _, stderr = process.communicate(timeout=60)
        gate.opened.set()
        assert process.returncode == 130
        assert re.search("Interrupted: [34] added", stderr)
        assert "2 were on their way" in stderr
        again = invoke("ingest", tmp_path / "in", url=url)
        assert again.exit_code == 0
        assert " 0 failed" in again.stderr
        with Precis(url) as precis:
            assert len(list(precis.images())) == 12
        assert len(compressed) == len(set(compressed)) == 12


LATE = [problem(504, {"title": "late"}), TimedOut("late")]


class SlowService(Precis):
    """A client of a service that is late with its first requests, as many as are told."""

    def __init__(self, url: str, error: Exception, late: int) -> None:
        super().__init__(url)
        self._error = error
        self._late = iter(range(late))
        self.sent: Counter[str] = Counter()

    def add(self, *files: Any, **options: Any) -> Any:
        self.sent.update(file.name for file in files)
        if next(self._late, None) is not None:
            raise self._error
        return super().add(*files, **options)


@pytest.mark.parametrize("error", LATE)
def test_files_that_come_too_late_are_sent_again(
    url: str, folder: Path, error: Exception
) -> None:
    with SlowService(url, error, late=5) as slow:
        outcomes = ingested(slow, picture_paths([folder]), 4)
    assert {outcome.status for outcome in outcomes} == {"created"}
    assert len(outcomes) == len(slow.sent) == 3
    assert slow.sent.total() == 3 + 5


def test_a_service_that_is_always_late_is_given_up_on(url: str, folder: Path) -> None:
    with SlowService(url, LATE[0], late=1000) as slow:
        outcomes = ingested(slow, picture_paths([folder]), 16)
    assert [outcome.status for outcome in outcomes] == ["failed"] * 3
    assert all(outcome.may_pass for outcome in outcomes)
    assert set(slow.sent.values()) == {3}  # beside others, and twice alone


def test_ingest_stops_when_the_service_is_gone(folder: Path) -> None:
    result = invoke("ingest", folder, url=address_of_nobody())
    assert result.exit_code == 1
    assert "Stopped: 0 added" in result.stderr
    assert "cannot be reached" in result.stderr


def test_search(run: Run, folder: Path, draw: Draw) -> None:
    run("ingest", folder)
    lines = run("search", "a blue thing", "--limit", "2").stdout.splitlines()
    assert len(lines) == 2
    score, image_id, name = lines[0].split()
    assert float(score) > 0.9
    assert name == str(folder / "below" / "blue.PNG")
    query = draw("query.png", "green", (9, 9))
    result = run("search", "--image", query, "--limit", "1", "--json")
    (hit,) = objects(result)
    assert hit["metadata"]["filename"] == "green.png"
    assert image_id != hit["id"]
    assert run("search").exit_code == 2
    like = run("search", "blue", "--image", query, "--like", hit["id"]).stdout
    assert "blue.PNG" in like
    assert hit["id"] not in like


def test_where_a_file_lies_is_kept_with_it(
    run: Run, precis: Precis, folder: Path
) -> None:
    run("ingest", folder)
    blue = folder / "below" / "blue.PNG"
    (image,) = precis.search("blue", limit=1)
    assert image.metadata == file_metadata(blue)
    assert image.metadata["path"] == str(blue)
    assert image.metadata["folder"] == str(blue.parent)
    changed = datetime.fromisoformat(image.metadata["modified_at"])
    assert changed.timestamp() == int(blue.stat().st_mtime)
    where = json.dumps({"folder": str(folder)})
    (only,) = objects(run("list", "--json", "--where", where))
    assert only["metadata"]["filename"] == "red.png"
    assert run("list", "--where", "folder").exit_code == 2
    assert run("list", "--where", "[]").exit_code == 2


def test_a_path_that_the_service_would_change_is_left_out(tmp_path: Path) -> None:
    decomposed = tmp_path / "e\u0301.png"
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    for path in (decomposed, strange):
        path.write_bytes(b"1")
        assert set(file_metadata(path)) == {"filename", "modified_at"}


def test_paths_for_pipes(run: Run, precis: Precis, folder: Path) -> None:
    run("ingest", folder)
    precis.add(PictureUpload("pasted.png", picture("blue", (9, 9)), "image/png"))
    blue = str(folder / "below" / "blue.PNG")
    printed = run("search", "blue", "--limit", "2", "--paths")
    assert printed.stdout == f"{blue}\n"
    assert printed.stderr == "1 of 2 images have no known path.\n"
    assert run("search", "blue", "--limit", "2", "-0").stdout == f"{blue}\0"


def test_the_first_digits_of_an_id_are_enough(run: Run, folder: Path) -> None:
    run("ingest", folder)
    images = objects(run("list", "--json"))
    whole = images[0]["id"]
    others = [image["id"] for image in images[1:]]
    length = next(
        length
        for length in range(1, 33)
        if not any(other.startswith(whole[:length]) for other in others)
    )
    short = whole[:length]
    assert objects(run("show", short, "--json"))[0]["id"] == whole
    name = images[0]["metadata"]["filename"].partition(".")[0]
    assert run("ask", "What?", "--image", short).stdout == f"I see {name}.\n"
    assert whole not in run("search", "--like", short).stdout
    ambiguous = run("show", "")
    assert ambiguous.exit_code == 1
    assert all(image["id"] in ambiguous.stderr for image in images)
    for text in ("g", "%", "_" * 31):
        unknown = run("show", text)
        assert unknown.exit_code == 1
        assert f"No image has an id that begins {text}" in unknown.stderr
    assert run("delete", short).stdout == f"deleted {whole}\n"
    assert run("show", whole).exit_code == 1


def test_collections(run: Run, folder: Path) -> None:
    assert run("collections", "create", "pets").exit_code == 0
    assert run("collections", "list").stdout == "pets\n"
    run("ingest", folder, "--collection", "pets")
    assert len(objects(run("list", "--json", "--collection", "pets"))) == 3
    assert objects(run("list", "--json")) == []
    again = run("collections", "create", "pets")
    assert again.exit_code == 1
    assert "pets" in again.stderr
    assert run("collections", "delete", "pets").exit_code == 1  # nobody said yes
    assert run("collections", "delete", "pets", "--yes").exit_code == 0
    assert run("collections", "list").stdout == ""


def test_info(run: Run, url: str) -> None:
    run("collections", "create", "pets")
    lines = run("info").stdout.splitlines()
    facts = dict(line.split(maxsplit=1) for line in lines)
    assert facts["client"].startswith("precis-client ")
    assert facts["service"] == url
    assert facts["state"] == "ready"
    assert facts["model"]
    assert facts["collections"] == "pets"


def test_an_error_names_the_address_and_the_remedy(tmp_path: Path) -> None:
    nobody = address_of_nobody()
    unreachable = invoke("list", url=nobody)
    assert unreachable.exit_code == 1
    assert nobody in unreachable.stderr
    assert "precis serve" in unreachable.stderr
    with served(tmp_path / "data", api_key="open sesame") as url:
        refused = invoke("list", url=url)
        assert "--api-key" in refused.stderr
        assert "--api-key" in invoke("info", url=url).stdout
    (tmp_path / "empty").mkdir()
    empty = invoke("ingest", tmp_path / "empty", url=nobody)
    assert str(tmp_path / "empty") in empty.stderr


def test_hits_have_a_probability_where_the_model_has_a_calibration(
    tmp_path: Path, folder: Path
) -> None:
    calibration = made_up_calibration()
    write_calibration(calibration, tmp_path / "calibration.json")
    with served(tmp_path / "data", calibration=tmp_path / "calibration.json") as url:
        invoke("ingest", folder, url=url)
        result = invoke("search", "blue", "--limit", "1", "--json", url=url)
    (hit,) = objects(result)
    probability = calibration.curve_of("blue").probability(hit["score"])
    assert hit["probability"] == pytest.approx(probability)


def test_an_unsure_answer_is_marked(tmp_path: Path, folder: Path) -> None:
    for threshold, said in ((0.5, ""), (0.9, "Unsure: the confidence is 0.88.\n")):
        path = tmp_path / "calibration.json"
        write_calibration(made_up_calibration(threshold), path)
        with served(tmp_path / "data", calibration=path) as url:
            invoke("ingest", folder, url=url)
            found = invoke("ask", "Where is the blue one", url=url)
            result = invoke("ask", "Where is the blue one", "--json", url=url)
        assert found.stdout == "I see blue.\n"
        assert found.stderr.endswith(said or ")\n")
        (answer,) = objects(result)
        assert answer["unsure"] is bool(said)
        assert answer["confidence"] == pytest.approx(0.88, abs=0.01)


def test_ask(run: Run, folder: Path) -> None:
    run("ingest", folder)
    found = run("ask", "Where is the blue one")
    assert found.stdout == "I see blue.\n"
    assert "From " in found.stderr
    red = PictureUpload.read(folder / "red.png").id
    green = PictureUpload.read(folder / "below/green.png").id
    assert (
        run("ask", "What?", "--image", red, "--image", green).stdout
        == "I see red green.\n"
    )
    result = run("ask", "count", "--image", red, "--max-tokens", "2", "--json")
    (answer,) = objects(result)
    assert answer["answer"] == "1 2"
    assert answer["finish_reason"] == "length"
    unknown = run("ask", "What?", "--image", "0" * 32)
    assert unknown.exit_code == 1
    assert "0" * 32 in unknown.stderr


def test_answers_in_a_form(run: Run, folder: Path, tmp_path: Path) -> None:
    run("ingest", folder)
    assert run("ask", "a red thing?", "--yes-no").stdout == "Yes\n"
    assert run("ask", "a red thing?", "--number").stdout == "1\n"
    options = ["--choice", "blue", "--choice", "red"]
    assert run("ask", "a red thing?", *options).stdout == "red\n"
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "boolean"}')
    (answer,) = objects(run("ask", "a red thing?", "--schema", schema, "--json"))
    assert answer["answer"] == "true"
    schema.write_text("text")
    assert run("ask", "a red thing?", "--schema", schema).exit_code == 2
    assert run("ask", "a red thing?", "--yes-no", "--number").exit_code == 2


def test_the_whole_library_is_asked(run: Run, folder: Path) -> None:
    run("ingest", folder)
    words = ["ask", "What is in my photos?", "--library", "--limit", "2", "--choice"]
    result = run(*words, "red")
    assert result.stdout == "red\n"
    assert result.stderr.count("[cited]") == 2
    (answer,) = objects(run(*words, "red", "--json"))
    assert answer["query"] is not None
    assert run("ask", "What?", "--library", "--image", "a").exit_code == 2


def test_list_show_delete(run: Run, folder: Path) -> None:
    run("ingest", "--in-flight", "1", folder)
    images = objects(run("list", "--json"))
    lines = run("list").stdout.splitlines()
    first_words = [line.split()[0] for line in lines]
    last_words = [line.split()[-1] for line in lines]
    assert first_words == ids(images)
    assert last_words == ["red.png", "blue.PNG", "green.png"]
    two = run("list", "--limit", "2")
    assert len(two.stdout.splitlines()) == 2
    first = images[0]
    shown = run("show", first["id"])
    assert (
        f"tokens    4 x 16, {first['tokens']['codec']}, {first['tokens']['bytes']} bytes"
        in shown.stdout
    )
    shown = run("show", first["id"], "--json")
    assert objects(shown) == [{**first, "words": None}]
    deleted = run("delete", "0" * 32, first["id"])
    assert deleted.exit_code == 1
    assert deleted.stdout == f"deleted {first['id']}\n"
    left = objects(run("list", "--json"))
    assert ids(left) == ids(images[1:])


def test_an_import_and_its_job(tmp_path: Path, folder: Path) -> None:
    (folder / "text.png").write_bytes(b"text")
    with served(tmp_path / "data", import_dir=folder) as url:
        run = partial(invoke, url=url)
        (begun,) = objects(run("jobs", "import", ".", "--json"))
        with Precis(url) as precis:
            eventually(lambda: precis.job(begun["id"]).state == "done")
        shown = run("jobs", "show", begun["id"])
        assert "1 failed" in shown.stdout
        assert "text.png: " in shown.stderr
        (line,) = run("jobs", "list").stdout.splitlines()
        assert line.split()[:2] == [begun["id"], "done"]
        assert ids(objects(run("jobs", "list", "--json"))) == [begun["id"]]
        assert run("jobs", "cancel", begun["id"]).exit_code == 0
        assert run("jobs", "import", "..").exit_code == 1


def test_the_key_is_taken_from_the_environment(tmp_path: Path) -> None:
    with served(tmp_path, api_key="open sesame") as url:
        refused = invoke("list", url=url)
        assert refused.exit_code == 1
        assert "Not authorized" in refused.stderr
        assert invoke("list", "--api-key", "open sesame", url=url).exit_code == 0
        allowed = CliRunner().invoke(
            main, ["list"], env={"PRECIS_URL": url, "PRECIS_API_KEY": "open sesame"}
        )
        assert allowed.exit_code == 0


@contextmanager
def _settings_of_serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Settings]]:
    import service.server

    given: list[Settings] = []
    with monkeypatch.context() as patch:
        patch.setattr(service.server, "run", given.append)
        yield given


def test_every_setting_is_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    command = main.get_command(click.Context(main), "serve")
    assert command is not None
    names = {parameter.name for parameter in command.params}
    assert names == set(Settings.model_fields)
    for parameter in command.params:
        assert isinstance(parameter, click.Option)
        assert parameter.help
    in_environment = {
        "PRECIS_PORT": "0",
        "PRECIS_KEEP": "none",
        "PRECIS_API_KEY": "open sesame",
    }
    # A flag wins over the environment.
    mixed = {"PRECIS_PORT": "1", "PRECIS_API_KEY": "open sesame"}
    flags = ["--port", "0", "--keep", "none"]
    ways = [
        ([*flags, "--api-key", "open sesame"], {}),
        ([], in_environment),
        (flags, mixed),
    ]
    with _settings_of_serve(monkeypatch) as given:
        for arguments, environment in ways:
            result = CliRunner().invoke(main, ["serve", *arguments], env=environment)
            assert result.exit_code == 0, result.output
    expected = Settings(port=0, keep="none", api_key="open sesame")
    assert given == [expected] * 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "-1"], "--port (or PRECIS_PORT)"),
        (["--port", "eighty"], "--port (or PRECIS_PORT)"),
        (["--keep", "everything"], "--keep"),
        (["--device", "gpu"], "--device (or PRECIS_DEVICE)"),
        (["--device", "cuda:first"], "--device (or PRECIS_DEVICE)"),
        (["--dtype", "int8"], "--dtype"),
        (["--api-key", "short"], "--api-key (or PRECIS_API_KEY)"),
        (["--max-files", "9", "--queue-size", "8"], "queue_size"),
    ],
)
def test_settings_that_make_no_sense(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
) -> None:
    with _settings_of_serve(monkeypatch) as given:
        result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code == 2
    assert complaint in result.output
    assert "short" not in result.output
    assert given == []


@pytest.mark.parametrize("command", ["", "serve", "ingest"])
def test_help_does_without_the_model(command: str) -> None:
    """Help pages, and the commands that talk to a service, import neither torch nor FAISS."""
    code = f"""
import sys
from precis_client.cli import main
main({[*command.split(), "--help"]}, standalone_mode=False)
sys.exit("torch" in sys.modules or "faiss" in sys.modules)
"""
    shown = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.DEVNULL,
        env=os.environ,
        check=False,
    )
    assert shown.returncode == 0


def test_outcomes_are_json(folder: Path, run: Run) -> None:
    outcomes = objects(run("ingest", "--json", folder))
    for outcome in outcomes:
        assert set(outcome) == {"path", "status", "image_id", "reason", "may_pass"}
    names = {Path(outcome["path"]).name for outcome in outcomes}
    assert names == {"red.png", "blue.PNG", "green.png"}
    assert Outcome(**outcomes[0]).status == "created"


def test_ingest_keeps_as_many_tokens_as_asked_for_and_more_later(
    run: Run, folder: Path
) -> None:
    def ingested(*more: str) -> list[str]:
        result = run("ingest", folder, "--in-flight", "1", "--json", *more)
        return statuses(objects(result))

    def kept() -> list[int]:
        images = objects(run("list", "--json"))
        return [image["tokens"]["count"] for image in images]

    assert ingested("--tokens", "2") == ["created"] * 3
    assert ingested() == ingested("--tokens", "1") == ["exists"] * 3
    assert kept() == [2, 2, 2]
    assert ingested("--tokens", "4") == ["created"] * 3
    assert kept() == [4, 4, 4]
    refused = run("ingest", folder / "red.png", "--tokens", "3")
    assert refused.exit_code == 1
    assert "not 3" in " ".join(refused.stderr.split())
