"""Quarantine is a table like any other: ``eventmill.quarantine``, filled by the store itself.

So a rejected event is kept by the same log, with the same ack, as an accepted one, and is listed
by the same SQL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from eventmill.base.clock import Clock
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import DEFAULT_PROJECT, TableId, TableSpec
from eventmill.store.own_protos import own_descriptor_set
from eventmill.wire.batch import BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Batch, encode_payload
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.verdict import Rejection

OWN_DATASET = "eventmill"
"""Dataset of the tables that the store keeps about itself; users cannot write to it."""
QUARANTINE = TableId(DEFAULT_PROJECT, OWN_DATASET, "quarantine")

_CHUNK_BYTES = BATCH_BYTES_MAX // 2


@cache
def quarantine_spec() -> TableSpec:
    """Return the definition of the quarantine table."""
    return spec_from_proto(
        QUARANTINE, own_descriptor_set("quarantine"), "eventmill.QuarantinedEvent"
    )


def rejected_events(batch: Batch, rejected: Sequence[Rejection]) -> list[QuarantinedEvent]:
    """Return the rejected events of ``batch``, whole."""
    events = batch.events
    return [
        QuarantinedEvent(
            table=batch.table,
            insert_id=rejection.insert_id,
            payload=events[rejection.index],
            is_json=False,
            reason=rejection.reason,
            field=rejection.field,
            message=rejection.message,
            client=batch.client,
            fingerprint=batch.fingerprint,
        )
        for rejection in rejected
    ]


def quarantine_batches(events: Sequence[QuarantinedEvent], clock: Clock) -> Iterator[Batch]:
    """Encode ``events`` as batches of the quarantine table, in order."""
    spec = quarantine_spec()
    message_type = MessageType.load(spec.descriptor_set, spec.message)
    ids: list[bytes] = []
    rows: list[bytes] = []
    size = 0
    for event in events:
        row: Any = message_type.cls(
            table_name=str(event.table),
            insert_id=event.insert_id,
            reason=event.reason.value,
            field_path=event.field,
            message=event.message,
            payload=event.payload,
            is_json=event.is_json,
            client=event.client,
            fingerprint=event.fingerprint,
        )
        row.quarantined_at.FromMicroseconds(int(clock.now() * 1e6))
        encoded = row.SerializeToString()
        if rows and (size + len(encoded) > _CHUNK_BYTES or len(rows) == BATCH_EVENTS_MAX):
            yield _batch(spec, ids, rows)
            ids, rows, size = [], [], 0
        ids.append(_identity(event))
        rows.append(encoded)
        size += len(encoded)
    if rows:
        yield _batch(spec, ids, rows)


def _batch(spec: TableSpec, ids: Sequence[bytes], rows: Sequence[bytes]) -> Batch:
    payload = encode_payload(ids, rows)
    # One rejected event can be as large as a whole batch, and is kept all the same.
    return Batch(spec.table, spec.fingerprint, payload, bytes_max=len(payload))


def _identity(event: QuarantinedEvent) -> bytes:
    """Name a rejected event by what it is, so that a retry of its batch keeps it once."""
    parts = (str(event.table).encode(), event.insert_id.encode("utf-8", "replace"), event.payload)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:40].encode()
