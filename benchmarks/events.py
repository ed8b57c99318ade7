"""The events that every benchmark here sends: test results, seeded, 26 fields each."""

import random
from functools import cache
from pathlib import Path

from eventmill.schema.compile import compile_protos
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import Partitioning, TableId
from eventmill.wire.batch import Batch

TABLE = TableId("local", "bench", "results")
DAY_SECONDS = 86_400
FIRST_DAY = 1_790_000_000 // DAY_SECONDS * DAY_SECONDS


@cache
def spec():
    """Return the table's definition, partitioned by day of ``ended_at``."""
    proto = Path(__file__).with_name("results.proto")
    return spec_from_proto(
        TABLE,
        compile_protos([str(proto)]),
        "bench.Result",
        partitioning=Partitioning(column="ended_at"),
    )


@cache
def message_type():
    """Return the message type of ``spec``."""
    return MessageType.load(spec().descriptor_set, spec().message)


def make_events(count, seed=1, days=1):
    """Return ``count`` encoded events spread over ``days``, ascending in time."""
    rng = random.Random(seed)
    make = message_type().cls
    builders = [
        f"{os}-{kind}-{arch}-builder-{number:02d}"
        for os in ("linux", "mac", "win")
        for kind in ("rel", "dbg")
        for arch in ("x64", "arm64")
        for number in range(16)
    ]
    names = [f"Module{n % 400}Test.HandlesCase{n}" for n in range(20_000)]
    events = []
    for number in range(count):
        builder = builders[min(int(rng.paretovariate(0.6)) - 1, len(builders) - 1)]
        failed = rng.random() < 0.03
        case = rng.randrange(20_000)
        duration = int(rng.lognormvariate(12.5, 1.6))
        event = make(
            run_id=f"{rng.getrandbits(128):032x}", project="browser", bucket="ci", builder=builder,
            build_number=rng.randrange(400), build_id=str(8_700_000_000_000_000_000 + number),
            outcome=2 if failed else 1, suite=f"//component{case % 40}:unit_tests",
            test_name=names[case], duration_us=duration, attempt=1, flaky=rng.random() < 0.01,
            host=f"vm-{rng.randrange(1500):04d}.region{case % 7}.example.test",
            os=builder.partition("-")[0], arch="x64", commit=f"{rng.getrandbits(160):040x}",
            branch="main", started_us=FIRST_DAY * 1_000_000 - duration,
            cpu_seconds=duration / 1.2e6, rss_bytes_max=rng.randrange(5_000_000, 2_000_000_000),
            shard=rng.randrange(64), tags=("presubmit", "gpu")[: rng.randrange(3)],
        )  # fmt: skip
        if failed:
            event.failure_message = f"Expected equality of these values: a.size() is {case}"
        event.ended_at.seconds = FIRST_DAY + number * days * DAY_SECONDS // count
        event.ended_at.nanos = rng.randrange(1_000_000) * 1000
        device = rng.randrange(60)
        event.device.os_version = f"Ubuntu-24.04.{device}"
        event.device.kernel = f"6.1.{device}-cloud-amd64"
        event.device.cpu = ("Xeon 2.60GHz", "EPYC 7B12")[device % 2]
        event.device.cores = 8 * (1 + device % 4)
        event.device.memory_mb = 32_768 * (1 + device % 4)
        for _ in range(rng.randrange(1, 4)):
            event.phases.add(
                name=rng.choice(("checkout", "compile", "run tests", "upload")), outcome=1,
                duration_us=rng.randrange(90_000_000), log_bytes=rng.randrange(500_000),
            )  # fmt: skip
        events.append(event.SerializeToString())
    return events


def make_batches(events, size, prefix):
    """Return ``events`` as batches of ``size``, with insert IDs that begin with ``prefix``."""
    batches = []
    for at in range(0, len(events) - size + 1, size):
        ids = [b"%b-%d" % (prefix, at + n) for n in range(size)]
        batches.append(Batch.build(TABLE, message_type().fingerprint, ids, events[at : at + size]))
    return batches
