"""What tests of stores share: a small table, events for it, and a store in a folder."""

from pathlib import Path

from eventmill.schema.compile import compile_protos
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import Partitioning, TableId
from eventmill.wire.batch import Batch

BUILDS = TableId("local", "ci", "builds")
FIRST_SECOND = 1_790_000_000
DAY_SECONDS = 86_400
_SET = None


def builds_descriptor_set():
    """Return the compiled tests/protos/builds.proto."""
    global _SET
    if _SET is None:
        _SET = compile_protos([str(Path(__file__).parent / "protos" / "builds.proto")])
    return _SET


def builds_spec(**changes):
    """Return the definition of ``ci.builds``, partitioned by day of ``ended_at``."""
    changes.setdefault("partitioning", Partitioning(column="ended_at"))
    return spec_from_proto(BUILDS, builds_descriptor_set(), "ci.Build", **changes)


def build_type():
    """Return the message type of ``ci.builds``."""
    return MessageType.load(builds_descriptor_set(), "ci.Build")


def build_event(number, *, day=0, builder="linux", **fields):
    """Return one encoded build, ended on ``day`` of the tests' calendar."""
    event = build_type().cls(number=number, builder=builder, **fields)
    event.ended_at.seconds = FIRST_SECOND + day * DAY_SECONDS + number % 1000
    return event.SerializeToString()


def builds_batch(numbers, *, prefix="b", days=1):
    """Return a batch of builds with insert IDs ``PREFIX-NUMBER``, spread over ``days``."""
    numbers = list(numbers)
    return Batch.build(
        BUILDS,
        build_type().fingerprint,
        [f"{prefix}-{number}".encode() for number in numbers],
        [build_event(number, day=number % days) for number in numbers],
    )


def stored_ids(store):
    """Return the insert IDs of all rows of ``ci.builds``, with repeats, sorted."""
    rows = store.query("SELECT _insert_id AS id FROM ci.builds", row_limit=None)
    return sorted(row["id"] for row in rows)
