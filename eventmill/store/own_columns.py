"""The columns that stored rows have beside their table's own.

``_insert_id`` is the event's identity, ``_ingested_at`` the time of its commit. Both are stored
with every row and shown by queries that name them. ``_whole_event`` is there only where an event
has fields that its table lacks, and no query sees it: the rows are read from it once the table
has those fields. With it goes ``_whole_event_version``, of the definition that judged the event.
"""

from __future__ import annotations

import pyarrow as pa

INSERT_ID = "_insert_id"
INGESTED_AT = "_ingested_at"
WHOLE_EVENT = "_whole_event"
JUDGED_BY = "_whole_event_version"
OWN_FIELDS = (
    pa.field(INSERT_ID, pa.string(), nullable=False),
    pa.field(INGESTED_AT, pa.timestamp("us", tz="UTC"), nullable=False),
)
WHOLE_EVENT_FIELDS = (pa.field(WHOLE_EVENT, pa.binary()), pa.field(JUDGED_BY, pa.int32()))
