"""A store with one table, made from the text of a message: what the mapping's tests are about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from proto_world import compiled

from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.rows import RowEncoder
from eventmill.schema.table import TableId
from eventmill.store.memory import MemoryStore
from eventmill.wire.batch import Batch
from eventmill.wire.columns import ColumnReader
from eventmill.wire.verdict import Verdict

G = "google.protobuf"
PROTO3 = 'syntax = "proto3";'
EDITION = 'edition = "2023";'
TABLE = TableId("local", "d", "t")
LOW, HIGH = -(2**63), 2**63 - 1
FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Row = dict[str, Any]


def bq(type_name: str) -> str:
    return f'[(bqschema.options).bq_type = "{type_name}"]'


@dataclass(frozen=True)
class World:
    """A store with the table ``d.t`` of a message, and what the message takes."""

    message_type: MessageType
    store: MemoryStore
    lines: list[str]
    both_ways: ColumnReader

    def send(self, rows: list[Row | bytes]) -> Verdict:
        """Send rows, or events as they are, in that order."""
        encode = RowEncoder(self.message_type).encode
        events = [row if isinstance(row, bytes) else encode(row) for row in rows]
        ids = [f"{place:06}".encode() for place in range(len(events))]
        return self.store.put(Batch.build(TABLE, self.message_type.fingerprint, ids, events))

    def read(self, what: str = "a") -> list[Any]:
        """Return one value a row, in the order in which they were sent."""
        answer = self.store.query(
            f"SELECT {what} AS value FROM d.t ORDER BY _insert_id", row_limit=None
        )
        return [row["value"] for row in answer]


def world(body: str, syntax: str = PROTO3) -> World:
    descriptor_set = compiled(body, syntax)
    spec = spec_from_proto(TABLE, descriptor_set, "t.M", partitioning=None)
    store = MemoryStore()
    store.apply(spec)
    lines = [
        f"{path} {column.type} {column.mode}"
        for top in spec.columns
        for path, column in top.walk()
        if path.split(".")[0] == "a"
    ]
    return World(MessageType.load(descriptor_set, "t.M"), store, lines, ColumnReader(spec))
