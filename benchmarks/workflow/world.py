"""What the parts share: a store whose lake has the sample's events, and its workflow."""

import os
import shutil
import tempfile
import time
from pathlib import Path

from eventmill.schema.message_type import MessageType
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.store import LocalStore
from eventmill.wire.batch import Batch
from eventmill.workflow.reading import SHIPPED_FOLDER, read_workflow
from eventmill.workflow.shipped.cq_sample import START_SECONDS, sample_rows

EVENTS_AN_ATTEMPT = 9.5
HOUR = 3_600
SEED = 1
_BATCH = 10_000


class World:
    """A store with about ``events`` events of attempts that start within ``hours``."""

    def __init__(self, events, hours):
        self.folder = tempfile.mkdtemp(prefix="eventmill-bench-")
        self.hours = hours
        self.definition = read_workflow(os.path.join(SHIPPED_FOLDER, "cq_attempts"))
        self.store = LocalStore.open(os.path.join(self.folder, "store"))
        (entry,) = self.definition.inputs
        self.table = self.store.apply(entry.spec)
        self._message = MessageType.load(entry.spec.descriptor_set, entry.spec.message).cls
        self._generation = 0
        self._puts = 0
        attempts = int(events / EVENTS_AN_ATTEMPT)
        self.events = self.put(sample_rows(attempts, SEED, attempts_a_day=attempts * 24 / hours))
        self.compact()

    def close(self):
        """Remove the store."""
        self.store.close()
        shutil.rmtree(self.folder)

    def put(self, rows):
        """Put rows of events; return how many they were."""
        events = [self._message(**row).SerializeToString() for row in rows]
        for begin in range(0, len(events), _BATCH):
            some = events[begin : begin + _BATCH]
            self._puts += 1
            ids = [b"%d-%d" % (self._puts, place) for place in range(len(some))]
            verdict = self.store.put(
                Batch.build(self.table.id, self.table.spec.fingerprint, ids, some)
            )
            assert verdict.accepted == len(some)
        return len(events)

    def compact(self):
        """Turn everything into Parquet files."""
        self.store.seal()
        report = compact_once(os.path.join(self.folder, "store"))
        assert not report.errors

    @property
    def slot(self):
        """One slot that has all attempts."""
        return START_SECONDS, START_SECONDS + self.hours * HOUR

    @property
    def slots(self):
        """The hours of the schedule."""
        begin, end = self.slot
        return [(at, at + HOUR) for at in range(begin, end, HOUR)]

    def files(self):
        """Return the Parquet files of the events."""
        tables = Path(self.folder, "store", "tables")
        return sorted(str(path) for path in tables.glob("local.cq.raw_events.*/lake/*/*.parquet"))

    def forget_output(self):
        """Drop the output table, with the slots that it has."""
        self.store.drop(self.definition.output.table)

    def next_generation(self):
        """Return the number of another attempt."""
        self._generation += 1
        return self._generation


def timed(call, *arguments):
    """Return how many seconds a call takes, and what it returns."""
    began = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - began, result
