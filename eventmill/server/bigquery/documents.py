"""Resources as JSON: which keys of one are taken, how a change is merged, lists in pages."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from eventmill.server.bigquery.calls import Call
from eventmill.server.bigquery.errors import ApiError, invalid, unsupported

_T = TypeVar("_T")
_NUMBER_MAX = 2**63 - 1


def check_keys(
    document: Mapping[str, Any], taken: Collection[str], ignored: Collection[str], kind: str
) -> None:
    """Refuse by name what a resource says that this surface would not keep to.

    Args:
        document: the resource as it was sent.
        taken: keys that mean something here.
        ignored: keys that the server itself writes, and that clients send back.
        kind: what it is, for the message.
    """
    for key, value in document.items():
        if key in taken or key in ignored or value in (None, "", [], {}, False):
            continue
        raise unsupported(f"{key} of a {kind}")


def merged(
    said: Mapping[str, Any], document: Mapping[str, Any], keys: Collection[str]
) -> dict[str, Any]:
    """Return ``said`` changed by a PATCH: null removes a key, labels are merged one by one."""
    result = dict(said)
    for key in keys:
        if key not in document:
            continue
        value = document[key]
        if key == "labels" and isinstance(value, Mapping):
            labels = {**result.get("labels", {}), **value}
            value = {name: text for name, text in labels.items() if text is not None}
        if value is None or value == {}:
            result.pop(key, None)
        else:
            result[key] = value
    return result


def labels_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a resource."""
    labels = document.get("labels") or {}
    if not isinstance(labels, Mapping) or not all(
        isinstance(name, str) and isinstance(text, str) for name, text in labels.items()
    ):
        raise invalid("labels must be an object of texts", "labels")
    return dict(labels)


def text_of(document: Mapping[str, Any], key: str) -> str:
    """Return a text of a resource; empty where there is none."""
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid(f"{key} must be a text", key)
    return value


def number_of(document: Mapping[str, Any], key: str) -> int | None:
    """Return a whole number of a resource, which may be written as text; None: none is said."""
    value = document.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _NUMBER_MAX:
        raise invalid(f"{key} must be a whole number from 0", key)
    return value


def etag_of(*parts: object) -> str:
    """Return the ETag of a state that ``parts`` name."""
    text = "|".join(map(str, parts))
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:12]).decode("ascii")


def check_etag(call: Call, etag: str) -> bool:
    """Return whether the call names a state by If-Match, or refuse it when it names another."""
    wanted = call.headers.get("if-match")
    if wanted is None or wanted == "*":
        return False
    if wanted.strip('"') != etag:
        raise ApiError(412, "conditionNotMet", "Precondition check failed: it has changed since")
    return True


def page(
    call: Call, items: Sequence[_T], shown: Callable[[_T], dict[str, Any]], name: str
) -> dict[str, Any]:
    """Return one page of a list, with the token of the next one where there is more.

    Args:
        call: says ``maxResults`` and ``pageToken``.
        items: all of the list, in an order that stays.
        shown: makes the entry of one item.
        name: the key of the list in the answer.
    """
    limit = call.number("maxResults", 1000) or 1000
    start = token_number(call.query.get("pageToken"))
    part = items[start : start + limit]
    document: dict[str, Any] = {name: [shown(item) for item in part]} if part else {}
    if start + limit < len(items):
        document["nextPageToken"] = token_of(start + limit)
    return document


def token_of(place: int) -> str:
    """Return the page token that stands for a place in a list."""
    return base64.urlsafe_b64encode(f"at:{place}".encode()).decode("ascii")


def token_number(token: str | None) -> int:
    """Return the place that a page token stands for; 0 where there is none."""
    if not token:
        return 0
    try:
        word, _, number = base64.urlsafe_b64decode(token).decode().partition(":")
        if word == "at":
            return int(number)
    except (binascii.Error, ValueError):
        pass
    raise invalid("Invalid page token", "pageToken")
