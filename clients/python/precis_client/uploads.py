"""A picture to be uploaded: its bytes, name and media type."""

from __future__ import annotations

import errno
import hashlib
import mimetypes
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ID_LENGTH = (
    32  # hex digits of the sha256 that make an image's id, as the service makes it
)

PictureFile = str | os.PathLike[str]


@dataclass(frozen=True)
class PictureUpload:
    """A picture in memory, so that its request can be sent again if the service is busy."""

    name: str
    data: bytes
    media_type: str = "application/octet-stream"

    @classmethod
    def read(cls, file: PictureFile) -> PictureUpload:
        """Reads a file and guesses the media type from its name. Raises OSError."""
        path = Path(file)
        if path.exists() and not (path.is_file() or path.is_dir()):
            # Reading would wait for a writer, or never end.
            raise OSError(errno.EINVAL, "It is a pipe or a device", str(path))
        name = unicode_name(path.name)
        media_type, _ = mimetypes.guess_type(name)
        return cls(name, path.read_bytes(), media_type or cls.media_type)

    @cached_property
    def sha256(self) -> str:
        """Hash (hex) of the bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def id(self) -> str:
        """The id under which the service stores exactly these bytes."""
        return self.sha256[:ID_LENGTH]


def unicode_name(name: str) -> str:
    """The name of a file as text that can be sent: U+FFFD in place of bytes that are not UTF-8."""
    # To the file system a name is bytes; Python smuggles those that are no text through as halves
    # of surrogate pairs.
    return os.fsencode(name).decode(errors="replace")


def as_upload(file: PictureFile | PictureUpload) -> PictureUpload:
    """`file` itself if it is an upload, otherwise the file it names."""
    return file if isinstance(file, PictureUpload) else PictureUpload.read(file)
