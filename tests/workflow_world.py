"""What tests of workflows share: a folder with a workflow, and a store with its input."""

from __future__ import annotations

from pathlib import Path

from store_world import BUILDS, build_event, build_type, builds_spec

from eventmill.store.memory import MemoryStore
from eventmill.wire.batch import Batch

HOUR = 3_600
DAY = 24 * HOUR
NOON = 1_790_000_000 // DAY * DAY + 12 * HOUR
"""2026-09-21T12:00:00Z, in seconds since 1970."""

TOML = """\
name = "{name}"
owner = "ci-team@example.com"
description = "Builds that ended, by builder."

[[input]]
table = "ci.builds"
{input}
[output]
table = "ci.builds_per_builder"
proto = "per_builder.proto"
message = "ci.PerBuilder"

[schedule]
{schedule}
"""
PROTO = """\
syntax = "proto3";
package ci;
import "google/protobuf/timestamp.proto";

// Builds of one builder that ended in one slot.
message PerBuilder {
  google.protobuf.Timestamp slot_start = 1;
  string builder = 2;
  int64 builds = 3;
  optional double cpu_seconds = 4;
}
"""
SQL = """\
SELECT @slot_start AS slot_start, builder, COUNT(*) AS builds, SUM(cpu_seconds) AS cpu_seconds
FROM ci.builds
WHERE ended_at >= @slot_start AND ended_at < @slot_end
GROUP BY builder
"""


def make_workflow(
    root: Path,
    name: str = "per-builder",
    *,
    toml: str = TOML,
    schedule: str = 'every = "1h"',
    input_keys: str = "",
    sql: str | None = SQL,
    proto: str = PROTO,
    files: dict[str, str] | None = None,
) -> Path:
    """Write the folder of a workflow below ``root`` and return it."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    text = toml.replace("{name}", name).replace("{input}", input_keys)
    (folder / "workflow.toml").write_text(text.replace("{schedule}", schedule))
    (folder / "per_builder.proto").write_text(proto)
    if sql is not None:
        (folder / "query.sql").write_text(sql)
    for path, content in (files or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def builds_at(seconds, numbers, *, builder="linux", prefix="b", **fields):
    """Return a batch of builds that ended at ``seconds``, one second after the other."""
    events = []
    for place, number in enumerate(numbers):
        event = build_type().cls.FromString(build_event(number, builder=builder, **fields))
        event.ended_at.seconds = int(seconds) + place
        event.ended_at.nanos = 0
        events.append(event.SerializeToString())
    ids = [f"{prefix}-{number}".encode() for number in numbers]
    return Batch.build(BUILDS, build_type().fingerprint, ids, events)


def builds_store(store=None, **changes):
    """Return a store with the table ``ci.builds``."""
    store = store or MemoryStore()
    store.apply(builds_spec(**changes))
    return store


def rows_of(store, table="ci.builds_per_builder"):
    """Return what the output holds, ordered."""
    return list(store.query(f"SELECT * FROM {table} ORDER BY slot_start, builder", row_limit=None))
