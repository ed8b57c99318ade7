"""The two columns that every table has beside its own.

``_insert_id`` is the event's identity, ``_ingested_at`` the time of its commit. Both are stored
with every row and shown by queries that name them.
"""

from __future__ import annotations

import pyarrow as pa

INSERT_ID = "_insert_id"
INGESTED_AT = "_ingested_at"
OWN_FIELDS = (
    pa.field(INSERT_ID, pa.string(), nullable=False),
    pa.field(INGESTED_AT, pa.timestamp("us", tz="UTC"), nullable=False),
)
