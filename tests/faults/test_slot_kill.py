"""kill -9 of a process that replaces slots beside its compactor: one set of rows for each slot."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slot_child import OPTIONS, SLOTS, TABLE, rows_of, slot_of
from store_world import builds_spec

from eventmill.base.errors import StoreBusyError
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.store import LocalStore

CHILD = Path(__file__).parent / "slot_child.py"
KILLS = 20
FOUND = """
SELECT builder, number, COUNT(*) AS n, SUM(artifact_bytes) AS s, COUNT(DISTINCT _insert_id) AS ids
FROM ci.builds GROUP BY builder, number
"""


def one_life(folder, run, rng):
    """Let a child replace some slots, kill its group in the midst, return what it wrote."""
    child = subprocess.Popen(
        [sys.executable, str(CHILD), str(folder), str(run), str(run)],
        stdout=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
    )
    try:
        readable, _, _ = select.select([child.stdout], [], [], 30)
        assert readable, "the child did not start"
        assert child.stdout.readline() == b"ready\n"
        lines = [child.stdout.readline() for _ in range(2 * rng.randint(0, 12))]
        # Now and then until the compactor, which takes a while to start, has its part in it.
        before = merged_files(folder)
        while run % 4 == 0 and merged_files(folder) <= before and len(lines) < 4_000:
            lines.append(child.stdout.readline())
        time.sleep(rng.uniform(0.0, 0.05))
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        rest = child.stdout.read()
        child.wait()
        child.stdout.close()
    return [line.split() for line in (b"".join(lines) + rest).decode().split("\n")[:-1]]


def reopened(folder):
    """Open the store once the killed group has let go of its locks."""
    for _ in range(200):
        try:
            return LocalStore.open(str(folder), options=OPTIONS)
        except StoreBusyError:
            time.sleep(0.02)  # the kernel frees the locks when it has torn the processes down
    raise AssertionError("the killed process still holds the store")


def check(store, acked, begun):
    """Each slot has the rows of its last acked attempt, or of one that was begun after it."""
    found = {}
    for row in store.query(FOUND):
        assert row["builder"] not in found, "rows of two attempts"
        found[row["builder"]] = row
    for number in range(SLOTS):
        row = found.get(f"slot-{number}")
        if row is None:
            assert number not in acked
            continue
        rows = rows_of(number, row["number"])
        count = rows.num_rows
        assert (row["n"], row["s"], row["ids"]) == (count, count * (count - 1) // 2, count)
        assert row["number"] >= acked.get(number, 0)
        assert row["number"] in begun[number]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_twenty_kills_leave_one_set_of_rows_for_each_slot_seed_20261124(tmp_path):
    rng = random.Random(20261124)
    acked, begun = {}, {number: set() for number in range(SLOTS)}
    total = broken_off = merged = 0
    with LocalStore.open(str(tmp_path), options=OPTIONS) as store:
        store.apply(builds_spec())
    for run in range(KILLS):
        lines = one_life(tmp_path, run + 1, rng)
        broken_off += bool(lines) and lines[-1][0] == "begin"
        for word, number, generation in lines:
            if word == "begin":
                begun[int(number)].add(int(generation))
            else:
                acked[int(number)] = int(generation)
                total += 1
        with LocalStore.open(str(tmp_path), writer=False) as reader:
            check(reader, acked, begun)
        merged += bool(merged_files(tmp_path))
    with reopened(tmp_path) as store:
        check(store, acked, begun)
        for number in range(SLOTS):
            generation = (KILLS + 1) * 1_000_000
            begun[number].add(generation)
            rows = rows_of(number, generation)
            store.replace_slot(TABLE, slot_of(number), rows, generation=generation)
            acked[number] = generation
        assert compact_once(str(tmp_path), options=OPTIONS).errors == []
        check(store, acked, begun)
        stats = store.stats(TABLE)
        assert stats.rows == sum(rows_of(n, acked[n]).num_rows for n in range(SLOTS))
        time.sleep(OPTIONS.file_grace_seconds + 0.05)
        compact_once(str(tmp_path), options=OPTIONS)
        compact_once(str(tmp_path), options=OPTIONS)
        assert sum(file.endswith(".tmp") for file in files_below(tmp_path)) == 0
    # The kills reached what they are for: attempts broken off, and files that were put together.
    assert total > 150
    assert broken_off > 5
    assert merged > 3


def merged_files(folder):
    return {name for name in files_below(folder) if name.startswith("slots-")}


def files_below(folder):
    return [name for _, _, names in os.walk(folder) for name in names]
