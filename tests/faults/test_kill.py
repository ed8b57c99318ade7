"""kill -9 of a process that ingests and compacts: everything acked is found, nothing twice."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from ingest_child import OPTIONS, TABLE, batch_of

from eventmill.base.errors import StoreBusyError
from eventmill.schema.compile import compile_protos
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import Partitioning
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.store import LocalStore

HERE = Path(__file__).parent
KILLS = 30


def spec():
    proto = HERE.parent / "protos" / "builds.proto"
    by_day = Partitioning(column="ended_at")
    return spec_from_proto(TABLE, compile_protos([str(proto)]), "ci.Build", partitioning=by_day)


def one_life(folder, run, rng):
    """Let a child ingest for a random while, kill its whole group, return the acked batches."""
    child = subprocess.Popen(
        [sys.executable, str(HERE / "ingest_child.py"), str(folder), str(run), str(run)],
        stdout=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
    )
    try:
        readable, _, _ = select.select([child.stdout], [], [], 30)
        assert readable, "the child did not start"
        assert child.stdout.readline() == b"ready\n"
        # Now and then long enough for the compactor, whose start alone may take half a second.
        select.select([], [], [], rng.uniform(0.02, 0.7) if run % 5 else rng.uniform(0.9, 1.6))
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        out = child.stdout.read()
        child.wait()
        child.stdout.close()
    return [int(line) for line in out.split(b"\n")[:-1] if line]


def reopened(folder):
    """Open the store once the killed group has let go of its locks."""
    for _ in range(200):
        try:
            return LocalStore.open(str(folder), options=OPTIONS)
        except StoreBusyError:
            time.sleep(0.02)  # the kernel frees the locks when it has torn the processes down
    raise AssertionError("the killed process still holds the store")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_thirty_kills_lose_nothing_and_double_nothing_seed_20261123(tmp_path):
    rng = random.Random(20261123)
    wanted = spec()
    with LocalStore.open(str(tmp_path), options=OPTIONS) as store:
        store.apply(wanted)
    message_type = MessageType.load(wanted.descriptor_set, wanted.message)
    acked = set()
    unacked_but_kept = 0
    for run in range(KILLS):
        numbers = one_life(tmp_path, run, rng)
        for number in numbers:
            batch = batch_of(message_type, wanted.fingerprint, run, number)
            acked.update(insert_id.decode() for insert_id in batch.insert_ids)
    with reopened(tmp_path) as store:
        rows = store.query("SELECT _insert_id AS id FROM ci.builds", row_limit=None)
        found = Counter(row["id"] for row in rows)
        assert acked - set(found) == set()
        assert [insert_id for insert_id, count in found.items() if count > 1] == []
        unacked_but_kept = len(set(found) - acked)
        # What the sender never heard of is put again, and is not doubled.
        for run in range(KILLS):
            for number in range(3):
                store.put(batch_of(message_type, wanted.fingerprint, run, number))
        stats = store.stats(TABLE)
        store.seal()
        compact_once(str(tmp_path), options=OPTIONS)
        counts = "SELECT COUNT(*) AS n, COUNT(DISTINCT _insert_id) AS ids FROM ci.builds"
        again = store.query(counts)
        assert next(iter(again)) == {"n": stats.rows, "ids": stats.rows}
    # The kills reached what they are for: rows in the lake, and writes broken off before the ack.
    assert len(acked) > 2_000
    assert stats.lake_rows > 0
    assert unacked_but_kept > 0
