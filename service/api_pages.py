"""The API's description for people: Swagger UI at /docs and ReDoc at /redoc.

Their scripts and styles are files of the package fastapi_offline: a browser loads nothing from
anywhere but the service.
"""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

_PACKAGE = ("fastapi_offline", "static")
FILES = "/docs/files"
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_POLICY = (
    "default-src 'none'; script-src 'self'{scripts}; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; {more}"
)
_OF_SWAGGER = "style-src 'self'"
# ReDoc writes its styles into the page, and searches in a worker that it starts from a blob.
_OF_REDOC = "style-src 'unsafe-inline'; worker-src blob:"


def add_api_pages(app: FastAPI) -> None:
    """Adds both pages. The app's own, which load from a content delivery network, must be off."""
    # Relative addresses, which hold behind a proxy that adds a prefix too.
    files = FILES.lstrip("/")
    swagger = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{app.title}: Swagger UI",
        swagger_js_url=f"{files}/swagger-ui-bundle.js",
        swagger_css_url=f"{files}/swagger-ui.css",
        swagger_favicon_url="web/icon.svg",
    )
    redoc = get_redoc_html(
        openapi_url="openapi.json",
        title=f"{app.title}: ReDoc",
        redoc_js_url=f"{files}/redoc.standalone.js",
        redoc_favicon_url="web/icon.svg",
        with_google_fonts=False,
    )
    _add_page(app, "/docs", swagger, _OF_SWAGGER)
    _add_page(app, "/redoc", redoc, _OF_REDOC)
    app.mount(FILES, StaticFiles(packages=[_PACKAGE]), name="docs-files")


def _add_page(app: FastAPI, path: str, page: HTMLResponse, more: str) -> None:
    html = bytes(page.body).decode()
    scripts = "".join(f" '{_hash(code)}'" for code in _INLINE_SCRIPT.findall(html))
    policy = _POLICY.format(scripts=scripts, more=more)

    @app.get(path, include_in_schema=False)
    def api_page() -> HTMLResponse:
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})


def _hash(code: str) -> str:
    """The name by which a policy admits an inline script."""
    digest = hashlib.sha256(code.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
