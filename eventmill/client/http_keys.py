"""A server's keys: made, listed and revoked from afar."""

from __future__ import annotations

from urllib.parse import quote

from eventmill.client.http_sink import HttpSink
from eventmill.wire.keys import KeyFacts, KeyWish, NewKey

_KEYS = "/api/v1/keys"


class HttpKeys(HttpSink):
    """The keys of the server at a URL, as far as one's own key administers them."""

    def create(self, wish: KeyWish) -> NewKey:
        """Make a key; an API token is in the answer, and nowhere else ever again.

        Raises:
            UsageError: there is a live key of that name, or the wish makes no sense.
            AccessError: one's own key may not.
        """
        told = self._json("POST", _KEYS, wish.to_json(), repeatable=False)
        return NewKey(
            KeyFacts.from_json(told["key"]), str(told.get("token", "")), bool(told.get("is_first"))
        )

    def all(self) -> list[KeyFacts]:
        """Return every key, revoked ones too, ascending by name and age."""
        return [KeyFacts.from_json(entry) for entry in self._json("GET", _KEYS)["keys"]]

    def revoke(self, name: str) -> KeyFacts:
        """End the live key ``name`` for good: on return the server refuses it."""
        told = self._json("DELETE", f"{_KEYS}/{quote(name, safe='')}", repeatable=False)
        return KeyFacts.from_json(told["key"])
