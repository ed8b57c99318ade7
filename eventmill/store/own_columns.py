"""The columns that stored rows have beside their table's own.

``_insert_id`` is the event's identity, ``_ingested_at`` the time of its commit. Both are stored
with every row and shown by queries that name them. ``_whole_event`` is there only where an event
has fields that its table lacks, and no query sees it: the rows are read from it once the table
has those fields. With it goes ``_whole_event_version``, of the definition that judged the event.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from eventmill.wire.slot import SlotKey

INSERT_ID = "_insert_id"
INGESTED_AT = "_ingested_at"
WHOLE_EVENT = "_whole_event"
JUDGED_BY = "_whole_event_version"
OWN_FIELDS = (
    pa.field(INSERT_ID, pa.string(), nullable=False),
    pa.field(INGESTED_AT, pa.timestamp("us", tz="UTC"), nullable=False),
)
WHOLE_EVENT_FIELDS = (pa.field(WHOLE_EVENT, pa.binary()), pa.field(JUDGED_BY, pa.int32()))


def slot_rows(fitted: pa.Table, slot: SlotKey, at_us: int) -> pa.Table:
    """Return a slot's rows with the insert IDs that are its own, ingested at ``at_us``.

    Args:
        fitted: with the table's columns, as ``wire.output_rows.fit_output`` returns them.
        slot: whose rows they are.
        at_us: in microseconds since 1970.
    """
    count = fitted.num_rows
    numbers = pa.array(range(count), pa.int64()).cast(pa.string())
    ids = pc.binary_join_element_wise(slot.insert_id_low, numbers, "/")
    times = pa.repeat(pa.scalar(at_us, OWN_FIELDS[1].type), count)
    columns = [*fitted.columns, ids, times]
    return pa.Table.from_arrays(columns, schema=pa.schema([*fitted.schema, *OWN_FIELDS]))
