"""The web page at /, and its scripts, styles and pictures under /web."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.types import Scope

_FOLDER = Path(__file__).parent / "web"
# A browser asks whether a file has changed before it uses its copy. Otherwise half of the modules
# might be those of an earlier version.
_HEADERS = {"Cache-Control": "no-cache"}


class _PageFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        """See `StaticFiles`."""
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


def add_web_page(app: FastAPI) -> None:
    """Adds the page and its files."""
    app.mount("/web", _PageFiles(directory=_FOLDER), name="web")

    @app.get("/", include_in_schema=False)
    def start_page() -> Response:
        return FileResponse(_FOLDER / "index.html", headers=_HEADERS)
