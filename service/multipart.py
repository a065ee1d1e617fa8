"""Multipart bodies whose files may be named by `filename*` (RFC 5987) alone.

RFC 7578 forbids that form, and the parser below us drops it; some clients send it all the same.
"""

from __future__ import annotations

from contextlib import aclosing
from email.message import Message
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request


class UploadRequest(Request):
    """A request that reads such a body."""

    def form(self, **limits: Any) -> Any:
        """See Request: the form, to be awaited."""
        content_type, _ = parse_options_header(self.headers.get("content-type"))
        if content_type != b"multipart/form-data":
            return super().form(**limits)
        return self._parsed(limits)

    async def _parsed(self, limits: dict[str, Any]) -> FormData:
        async with aclosing(self.stream()) as stream:
            parser = _Parser(self.headers, stream, **limits)
            try:
                return await parser.parse()
            except MultiPartException as error:
                raise HTTPException(400, error.message) from error


class _Parser(MultiPartParser):
    def on_headers_finished(self) -> None:
        """See MultiPartParser."""
        part = self._current_part
        part.content_disposition = with_plain_filename(part.content_disposition or b"")
        super().on_headers_finished()


def with_plain_filename(disposition: bytes) -> bytes:
    """A Content-Disposition that has `filename` where it had `filename*` alone."""
    _, options = parse_options_header(disposition)
    if b"filename" in options or b"filename*" not in disposition.lower():
        return disposition
    message = Message()
    message["Content-Disposition"] = disposition.decode("latin-1")
    name = message.get_filename()
    if name is None:
        return disposition
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return disposition + f'; filename="{quoted}"'.encode(errors="replace")
