"""A rejected event, whole, as it is kept until somebody decides what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass

from eventmill.schema.problem import Reason
from eventmill.schema.table import TableId


@dataclass(frozen=True, slots=True)
class QuarantinedEvent:
    """One rejected event with everything needed to understand it and to put it again."""

    table: TableId
    insert_id: str
    payload: bytes
    """The original bytes: an encoded message, or JSON text as it came in."""
    is_json: bool
    reason: Reason
    field: str
    message: str
    client: str
    """Who sent it: the client's name and version as it gave them; empty when unknown."""
    fingerprint: str
    """Of the schema that the sender encoded with; empty when unknown."""
