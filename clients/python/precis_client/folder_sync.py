"""A library kept in step with a folder: new pictures are stored, those of removed ones deleted.

What was stored of which file is kept in a small file of its own, so that only images of this folder
are ever deleted, and unchanged files are not read again. docs/quickstart.md says where it lies.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_state_path

from precis_client.errors import FolderUnusable, NotFound
from precis_client.ingestion import Ingestion, Outcome
from precis_client.picture_paths import (
    PATH,
    UNREADABLE_FOLDERS,
    file_metadata,
    picture_paths,
)
from precis_client.sync_client import Precis

VERSION = 1


@dataclass(frozen=True)
class SeenFile:
    """A file as it was seen last."""

    modified_ns: int
    size_bytes: int
    image_id: str | None  # None if it could not be stored

    def is_as(self, status: os.stat_result) -> bool:
        """Whether the file has not changed since."""
        seen = (self.modified_ns, self.size_bytes)
        return seen == (status.st_mtime_ns, status.st_size)


Seen = dict[str, SeenFile]  # by path


@dataclass(frozen=True)
class Removal:
    """An image that was deleted since its file is gone."""

    path: str
    image_id: str
    status: str = "removed"


class FolderSync:
    """One folder and one library. `step` brings them into step once."""

    def __init__(
        self, precis: Precis, folder: Path, state_file: Path, *, most_in_flight: int
    ) -> None:
        """The state is kept in `state_file`, which need not exist."""
        self._precis = precis
        self._folder = folder
        self._state_file = state_file
        self._most_in_flight = most_in_flight
        self._seen = read_state(state_file)

    def step(self) -> Iterator[Outcome | Removal]:
        """Stores what is new or changed, deletes the images of what is gone; what was done.

        Raises FolderUnusable where the folder is gone or has no picture any more, and what an
        Ingestion raises.
        """
        before = dict(self._seen)
        passed_over: Counter[str] = Counter()
        files = self._files(passed_over)
        if before and not files:
            raise FolderUnusable(
                f"{self._folder} has no pictures any more. Is its disk mounted? Nothing was"
                " deleted; `precis delete` does so."
            )
        try:
            yield from self._store(files)
            # What cannot be seen is not known to be gone.
            if not passed_over[UNREADABLE_FOLDERS]:
                yield from self._remove(before, files)
        finally:
            if self._seen != before:
                write_state(self._state_file, self._seen)

    def _files(self, passed_over: Counter[str]) -> dict[str, os.stat_result]:
        if not self._folder.is_dir():
            raise FolderUnusable(
                f"{self._folder} is not a folder. Is its disk mounted?"
            )
        files = {}
        for path in picture_paths([self._folder], passed_over):
            try:
                files[str(path)] = path.stat()
            except OSError:
                continue  # removed meanwhile, or a link to nowhere
        return files

    def _store(self, files: dict[str, os.stat_result]) -> Iterator[Outcome]:
        changed = []
        for name, status in files.items():
            seen = self._seen.get(name)
            if seen is None or not seen.is_as(status):
                changed.append(Path(name))
        ingestion = Ingestion(
            self._precis, changed, most_in_flight=self._most_in_flight
        )
        with closing(ingestion.outcomes()) as outcomes:
            for outcome in outcomes:
                name = str(outcome.path)
                if outcome.image_id is not None and outcome.status == "exists":
                    self._note_path(outcome.image_id, outcome.path)
                if not outcome.may_pass:
                    status = files[name]
                    self._seen[name] = SeenFile(
                        status.st_mtime_ns, status.st_size, outcome.image_id
                    )
                yield outcome

    def _note_path(self, image_id: str, path: Path) -> None:
        """Tells the library where the file of an image is now, if it is not where it was."""
        metadata = self._precis.image(image_id).metadata
        known = metadata.get(PATH)
        if isinstance(known, str) and Path(known).exists():
            return
        self._precis.set_metadata(image_id, {**metadata, **file_metadata(path)})

    def _remove(
        self, before: Seen, files: dict[str, os.stat_result]
    ) -> Iterator[Removal]:
        for name in self._seen.keys() - files.keys():
            del self._seen[name]
        held = {seen.image_id for seen in self._seen.values()}
        for name, seen in before.items():
            if seen.image_id is None or seen.image_id in held:
                continue
            if name in self._seen and self._seen[name] == seen:
                continue
            held.add(seen.image_id)  # another path may have had it too
            try:
                self._precis.delete(seen.image_id)
            except NotFound:
                continue
            yield Removal(name, seen.image_id)


def state_path(url: str, collection: str | None, folder: Path) -> Path:
    """Where the state of this folder and this library is kept."""
    named = json.dumps([url, collection, str(folder)])
    digest = hashlib.sha256(named.encode()).hexdigest()[:16]
    state_folder: Path = user_state_path("precis", appauthor=False)
    return state_folder / "watch" / f"{digest}.json"


def read_state(file: Path) -> Seen:
    """The files seen last; none where there is no state, or none of this version that is whole."""
    try:
        state: dict[str, Any] = json.loads(file.read_bytes())
        if state["version"] != VERSION or state["sha256"] != _digest(state["files"]):
            return {}
        return {name: SeenFile(**seen) for name, seen in state["files"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_state(file: Path, seen: Seen) -> None:
    """Puts the state in place of the earlier one, whole or not at all. Raises OSError."""
    files = {name: asdict(each) for name, each in seen.items()}
    state = {"version": VERSION, "sha256": _digest(files), "files": files}
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    with new.open("w") as opened:
        json.dump(state, opened)
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(file)


def _digest(files: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
