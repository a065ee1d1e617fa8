"""A full disk, a read-only folder, an fsync that fails: a clear error, and no acknowledged image is
lost.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.index.libraries import assert_found, counts, read_tokens
from tests.index.samples import make_image
from tests.index.store.disk_trouble import open_here

FAILING_FSYNC = """
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int fails(void) {
    const char *flag = getenv("FSYNC_FAILS");
    return flag && access(flag, F_OK) == 0;
}
#include <sys/syscall.h>
int fsync(int fd) { if (fails()) { errno = EIO; return -1; } return syscall(SYS_fsync, fd); }
int fdatasync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return syscall(SYS_fdatasync, fd);
}
"""


def run(scenario: str, folder: Path, **environment: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.index.store.disk_trouble", scenario, str(folder)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def errors_of(steps: list[dict[str, object]]) -> list[object]:
    return [step["error"] for step in steps if "error" in step]


def check_whole(folder: Path, steps: list[dict[str, object]]) -> None:
    """All that was acknowledged is there, searchable and right; what failed and never came again is
    not.
    """
    stored = {int(str(step["stored"])) for step in steps if "stored" in step}
    assert stored
    library = open_here(folder)
    try:
        assert counts(library) == {len(stored)}
        for number in stored:
            assert_found(library, [number])
            errors = read_tokens(library, number) - make_image(number).tokens
            assert abs(errors).max() < 0.05
    finally:
        library.close()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, where this user may mount one."""
    folder = tmp_path / "mount"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1500k", "none", str(folder)]
    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    mounting = subprocess.run(command, capture_output=True, check=False)
    if mounting.returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing_and_the_library_goes_on(mounted: Path) -> None:
    (mounted / "blocker").write_bytes(bytes(700_000))
    steps = run("full", mounted)
    assert errors_of(steps) == ["StoreFull"]
    check_whole(mounted, steps)


def test_a_file_that_may_not_grow_loses_nothing(tmp_path: Path) -> None:
    steps = run("outgrow", tmp_path)
    assert errors_of(steps) == ["StoreError"]
    check_whole(tmp_path, steps)


def test_a_read_only_file_system_is_told(mounted: Path) -> None:
    library = open_here(mounted)
    library.put([make_image(0)])
    library.close()
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    assert run("open", mounted) == [{"error": "StoreReadOnly"}]
    assert run("open", mounted / "new") == [{"error": "StoreReadOnly"}]
    subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True)
    check_whole(mounted, [{"stored": 0}])


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    assert run("open", tmp_path) == [{"error": "StoreReadOnly"}]


def test_a_failing_fsync_is_no_acknowledgement(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    source = tmp_path / "fsync.c"
    source.write_text(FAILING_FSYNC)
    shim = tmp_path / "fsync.so"
    flag = tmp_path / "flag"
    folder = tmp_path / "library"
    compile_shim = ["cc", "-shared", "-fPIC", "-o", str(shim), str(source)]
    subprocess.run(compile_shim, check=True)
    steps = run("fsync", folder, LD_PRELOAD=str(shim), FSYNC_FAILS=str(flag))
    assert errors_of(steps) == ["StoreError"]
    check_whole(folder, steps)
