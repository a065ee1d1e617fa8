"""Who may do what: scopes, the access that an API key grants, and when no key is needed."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from service.api_keys import SCOPES, ApiKeys, Scope
from service.errors import KeyNotSufficient, NoApiKey, NotAuthorized
from service.rate_limits import NO_LIMITS, Limits
from service.settings import Settings


@dataclass(frozen=True)
class Access:
    """What one caller may do."""

    scope: Scope
    collections: frozenset[str] | None = None  # None: every collection, and the rest
    key_id: str | None = (
        None  # of the stored key; None for the setting, and without a key
    )
    limits: Limits = NO_LIMITS  # the key's own

    @property
    def caller(self) -> str:
        """Whom the rate limits count: each key for itself, and requests without one together."""
        return self.key_id or "-"

    def check(self, needed: Scope, collections: Iterable[str]) -> None:
        """Raises KeyNotSufficient for a request that names these collections."""
        if SCOPES.index(self.scope) < SCOPES.index(needed):
            raise KeyNotSufficient(
                f"This needs a key with scope {needed}; the key has scope {self.scope}."
            )
        if self.collections is None:
            return
        named = set(collections)
        if not named or not named <= self.collections:
            own = ", ".join(sorted(self.collections))
            raise KeyNotSufficient(
                f"The key is for these collections alone: {own}; name one of them."
            )


EVERYTHING = Access("admin")


class AccessControl:
    """Decides what a key grants. Thread-safe."""

    def __init__(self, settings: Settings, keys: ApiKeys) -> None:
        self._settings = settings
        self._keys = keys

    @property
    def needs_key(self) -> bool:
        """Whether requests need a key. A key that was ever made closes the service for good."""
        if self._has_keys():
            return True
        is_trusted = is_loopback(self._settings.host)
        return not (is_trusted or self._settings.allow_anonymous)

    def check_start(self) -> None:
        """Raises NoApiKey for a service that others could reach although it has no key."""
        if self.needs_key and not self._has_keys():
            raise NoApiKey(
                f"The service would listen on {self._settings.host} and has no API key. Make one"
                " with `precis keys create`, or allow requests without a key with"
                " --allow-anonymous."
            )

    def access_of(self, key: str | None) -> Access:
        """What the key of a request grants, None being no key. Raises NotAuthorized."""
        if not self.needs_key:
            return EVERYTHING
        if key is None:
            raise NotAuthorized("Send an API key as `Authorization: Bearer KEY`.")
        if self._is_setting(key):
            return EVERYTHING
        stored = self._keys.find(key)
        if stored is None:
            raise NotAuthorized("The API key is unknown, or was revoked.")
        return Access(stored.scope, stored.collections, stored.id, stored.limits)

    def _has_keys(self) -> bool:
        return self._settings.api_key is not None or self._keys.exist()

    def _is_setting(self, key: str) -> bool:
        expected = self._settings.api_key
        if expected is None:
            return False
        secret = expected.get_secret_value()
        return hmac.compare_digest(
            key.encode(errors="replace"), secret.encode(errors="replace")
        )


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name may mean any address.
        return False
