"""Cutting a longer list of events into batches that keep to the limits. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eventmill.wire.batch import BATCH_BYTES_MAX, BATCH_EVENTS_MAX, payload_overhead_bytes

EVENT_OVERHEAD_BYTES = payload_overhead_bytes(1) - payload_overhead_bytes(0)
"""Bytes that one more event adds to a payload beside its ID and itself."""


def cut(
    insert_ids: Sequence[bytes],
    events: Sequence[bytes],
    *,
    events_max: int = BATCH_EVENTS_MAX,
    bytes_max: int = BATCH_BYTES_MAX,
) -> Iterator[range]:
    """Yield the ranges of indexes that make one batch each: in order, without gap or overlap.

    Args:
        insert_ids: of the events, in order.
        events: encoded; none so large that it fits into no batch alone.
        events_max: events in one batch.
        bytes_max: bytes of one payload.
    """
    count = len(events)
    total = sum(map(len, insert_ids)) + sum(map(len, events)) + payload_overhead_bytes(count)
    if 0 < count <= events_max and total <= bytes_max and len(insert_ids) == count:
        yield range(count)  # by far the commonest, and told without looking at each event
        return
    start = 0
    size = head = payload_overhead_bytes(0)
    for index, (insert_id, event) in enumerate(zip(insert_ids, events, strict=True)):
        more = len(insert_id) + len(event) + EVENT_OVERHEAD_BYTES
        if index > start and (size + more > bytes_max or index - start == events_max):
            yield range(start, index)
            start, size = index, head
        size += more
    if start < len(events):
        yield range(start, len(events))
