"""What the environment says of the service. No other module of the client reads it."""

from __future__ import annotations

import os

URL = "PRECIS_URL"
API_KEY = "PRECIS_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
# What a command says to somebody without the right key.
KEY_REMEDY = f"Give a key that may do this with --api-key or {API_KEY}."


def service_url() -> str:
    """The address of the service: PRECIS_URL, or the local one."""
    return os.environ.get(URL) or DEFAULT_URL


def api_key() -> str | None:
    """The key of the service: PRECIS_API_KEY, or None."""
    return os.environ.get(API_KEY) or None
