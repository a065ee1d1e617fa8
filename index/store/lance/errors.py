"""Errors of Lance and of the object store below it as the index's own.

Lance has a class for a conflict of two commits; all else it tells in words.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from lance.commit import CommitConflictError

from index.errors import (
    StoreAccessDenied,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnreachable,
)

_ABSENT = re.compile(r"^Dataset at path .* was not found")
_SOURCE_PLACE = re.compile(r",? *\S+\.rs:\d+:\d+")
_XML_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
_WRAPPERS = re.compile(
    r"^(External error: |LanceError\(\w+\): |Generic \S+ error: |Encountered \w+ error: )+"
)

# The first that is found in the message decides. The text stands for the message where that would
# tell a caller no more, or too much: addresses, headers of answers.
_KINDS: tuple[tuple[str, type[StoreError], str | None], ...] = (
    (
        r"(get|load|loading|fetch) \S* ?credentials|CredentialsNotLoaded|token request",
        StoreAccessDenied,
        "the object store gave no access: no credentials were found",
    ),
    (
        r"NoSuchBucket|ContainerNotFound|bucket does not exist",
        StoreUnreachable,
        None,
    ),
    (
        r"40[13] \w+|ExpiredToken|privileges|Unauthenticated|PermissionDenied",
        StoreAccessDenied,
        None,
    ),
    (r"os error (28|122)\b", StoreFull, "no space is left"),
    (r"os error (1|13|30)\b", StoreReadOnly, "the folder cannot be written"),
    (
        r"error sending request|after \d+ retries|timed out|50[0234] \w+",
        StoreUnreachable,
        "the object store does not answer",
    ),
    (
        r"Not found: |Invalid range|of size 0 bytes|[Cc]orrupt|magic|[Dd]ecod|end of file"
        r"|fill whole buffer",
        StoreDamaged,
        None,
    ),
)


@contextlib.contextmanager
def lance_errors() -> Iterator[None]:
    """Turns an error of Lance into a StoreError; CommitConflictError passes."""
    try:
        yield
    except (StoreError, CommitConflictError):
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise _translated(str(error)) from error


def is_absent(error: ValueError) -> bool:
    """Whether an error of `lance.dataset` says that there is no dataset."""
    return _ABSENT.match(str(error)) is not None


def conflict(attempts: int) -> StoreBusy:
    """What a writer tells that others were faster every time."""
    return StoreBusy(
        f"others wrote to the store before this writer could, {attempts} times"
    )


def _translated(message: str) -> StoreError:
    for pattern, kind, text in _KINDS:
        if re.search(pattern, message):
            return kind(f"Lance: {text or _line(message)}")
    return StoreError(f"Lance: {_line(message)}")


def _line(message: str) -> str:
    """The message on one line, without places in the source and answers in XML."""
    told = _XML_MESSAGE.search(message)
    if told is not None:
        return told.group(1).strip()
    first = _SOURCE_PLACE.sub("", message).strip().split("\n")[0]
    return _WRAPPERS.sub("", first)
