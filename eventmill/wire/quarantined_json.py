"""Rejected events as JSON: what a client reports that it could not encode."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from eventmill.base.errors import UsageError
from eventmill.schema.problem import Reason
from eventmill.schema.table import TableId
from eventmill.wire.quarantined import QuarantinedEvent


def quarantined_to_json(event: QuarantinedEvent) -> dict[str, Any]:
    """Return ``event`` in JSON's types, its payload in base64."""
    return {
        "table": str(event.table),
        "insert_id": event.insert_id,
        "payload": base64.b64encode(event.payload).decode("ascii"),
        "is_json": event.is_json,
        "reason": event.reason.value,
        "field": event.field,
        "message": event.message,
        "client": event.client,
        "fingerprint": event.fingerprint,
    }


def quarantined_from_json(document: Mapping[str, Any]) -> QuarantinedEvent:
    """Read what ``quarantined_to_json`` made.

    Raises:
        UsageError: a key is missing or does not fit; the message names it.
    """
    texts: dict[str, str] = {}
    for key in ("table", "insert_id", "payload", "reason", "field", "message"):
        value = document.get(key)
        if not isinstance(value, str):
            raise UsageError(f"a quarantined event needs {key!r} as a text, not {value!r}")
        texts[key] = value
    try:
        payload = base64.b64decode(texts["payload"], validate=True)
        reason = Reason(texts["reason"])
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"a quarantined event's payload or reason: {error}") from error
    return QuarantinedEvent(
        table=TableId.parse(texts["table"]),
        insert_id=texts["insert_id"],
        payload=payload,
        is_json=bool(document.get("is_json")),
        reason=reason,
        field=texts["field"],
        message=texts["message"],
        client=str(document.get("client") or ""),
        fingerprint=str(document.get("fingerprint") or ""),
    )
