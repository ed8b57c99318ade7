"""A drain that dies around every file operation, and real ones that are killed: nothing is lost,
nothing is in the store twice, and the next drain finishes the work."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from chaos import ChaosProxy
from drain_world import (
    dead_letter,
    drain_of,
    left,
    living,
    names_in,
    segment_of,
    table_folder,
    waiting,
)
from file_steps import CrashError, FileSteps

from eventmill.base.errors import PermanentError
from eventmill.base.settings import ServerSettings
from eventmill.client.drain import bring_back
from eventmill.client.spool.dead import dead_letters_in
from eventmill.client.spool.owner import is_locked, orphans, remove_unfinished, unacked
from eventmill.client.spool.reading import read_records
from eventmill.client.spool.record import HEAD_BYTES
from eventmill.client.spool.segment import FileSegment, salt_of
from eventmill.server.run import Server
from eventmill.store.local.store import LocalStore
from eventmill.store.memory import MemoryStore
from eventmill.testing.events import build, build_spec
from eventmill.testing.fakes import WrappedSink

WAIT = 30.0
SENT = [f"s{number}" for number in range(9)]
EXPECTED = sorted([*SENT, "refused-0", "refused-1", "beside-0", "beside-2", "dead-0", "dead-1"])

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no spool on this system"),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A spool with all that one may find in one."""
    spool = tmp_path_factory.mktemp("prepared") / "spool"
    left(spool, "1-sent", *SENT, segment_bytes=160)
    torn = max((table_folder(spool) / "1-sent").glob("*.seg"))
    record_bytes = HEAD_BYTES + len(SENT[-1]) + len(build(SENT[-1]))
    torn.write_bytes(torn.read_bytes() + torn.read_bytes()[-record_bytes:-3])
    left(spool, "2-refused", "refused-0", "refused-1")
    damaged = segment_of(left(spool, "3-damaged", "beside-0", "hit", "beside-2"))
    content = damaged.read_bytes()
    damaged.write_bytes(content.replace(build("hit"), b"?" * len(build("hit"))))
    letter = dead_letter(spool, "4-dead", "dead-0", "dead-1")
    (letter.parent / ".new-5-unfinished-1.seg").write_bytes(letter.read_bytes())
    (table_folder(spool) / ".new-6-unfinished").mkdir()
    return spool


class Target(WrappedSink):
    """A store that refuses some events for now, and whose puts are steps like any other."""

    def __init__(self, store):
        super().__init__(store)
        self.steps = None
        self.refuses = True
        self.events = {}

    def put(self, batch, *, timeout_seconds=None):
        if self.refuses and b"refused-0" in batch.insert_ids:
            raise PermanentError("not now")
        for insert_id, event in zip(batch.insert_ids, batch.events, strict=True):
            assert self.events.setdefault(insert_id, event) == event
        if self.steps is None:
            return self.inner.put(batch)
        return self.steps.step("put", "store", lambda: self.inner.put(batch))

    def stored(self):
        rows = self.inner.query("SELECT _insert_id AS id FROM contract.builds", row_limit=None)
        return sorted(row["id"] for row in rows)


def target():
    store = MemoryStore()
    store.apply(build_spec())
    return Target(store)


def drain(sink, spool):
    """What ``eventmill spool drain --dead-letters`` does with one table."""
    bring_back(str(table_folder(spool)))
    return drain_of(sink, spool).run(60.0, lambda: None)


def ids_on_disk(spool):
    """Return the insert IDs that wait, and those of dead letters, whoever finds them."""
    waits, dead = [], []
    for path in orphans(str(table_folder(spool))):
        for segment, begin in unacked(path):
            waits += ids_of(segment, begin)
    for path in dead_letters_in(str(table_folder(spool))):
        segment = FileSegment(path, 0, salt_of(Path(path).stem), create=False)
        dead += ids_of(segment, 0)
        segment.close()
    return waits, dead


def ids_of(segment, at):
    ids = []
    while at < segment.size:
        records = read_records(segment, at, segment.size, 1 << 20, 10_000)
        ids += [insert_id.decode() for insert_id in records.ids]
        at += records.end or segment.size
    return ids


def test_a_crash_around_every_file_operation_loses_and_doubles_nothing(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "dry")
    sink = target()
    with FileSteps() as dry:
        sink.steps = dry
        assert drain(sink, tmp_path / "dry")
    assert {name for name, _ in dry.seen} >= {
        *("open", "mkdir", "rmdir", "rename", "unlink", "put"),
        *("pwrite", "fsync", "fdatasync"),
    }
    assert waiting(tmp_path / "dry") == {"damaged": 0, "dead letters": 2}
    happened = Counter()
    for at, (name, _) in enumerate(dry.seen):
        for how in ("before", "torn", "after"):
            if how == "torn" and name not in ("write", "pwrite"):
                continue
            happened += crashed(prepared, tmp_path / f"{at}-{how}", FileSteps(at, how))
    # The edges: an event is in two places, and some have no place but one that was just made.
    for edge in ("stored and waits", "dead and waits", "dead alone", "stored alone"):
        assert happened[edge] > 0, happened


def crashed(prepared, folder, steps):
    """Let one drain die, look at what there is, drain again, and look once more."""
    spool = folder / "spool"
    shutil.copytree(prepared, spool)
    sink = target()
    sink.steps = steps
    with pytest.raises(CrashError), steps:
        drain(sink, spool)
    where = (folder.name, steps.seen[-1])
    # What a dead process has left: each event somewhere, and no lock.
    stored, (waits, dead) = set(sink.stored()), ids_on_disk(spool)
    assert stored | {*waits, *dead} >= set(EXPECTED), where
    assert len(waits) == len(set(waits)), where
    for one, other in (("refused-0", "refused-1"), ("dead-0", "dead-1")):
        assert dead.count(one) == dead.count(other), "a dead letter has its name when it is whole"
    assert len(sink.stored()) == len(stored), where
    assert not any(is_locked(path) for path in orphans(str(table_folder(spool)))), where
    edges = Counter({
        "stored and waits": len(stored & set(waits)),
        "dead and waits": len(set(dead) & set(waits)),
        "dead alone": len(set(dead) - set(waits) - stored),
        "stored alone": len(stored - set(waits)),
    })  # fmt: skip
    # The next one finishes the work, and leaves nothing behind that would not go by itself.
    sink.steps, sink.refuses = None, False
    assert drain(sink, spool), where
    assert sink.stored() == EXPECTED, where
    assert ids_on_disk(spool) == ([], []), where
    remove_unfinished(str(table_folder(spool)), 1e12)
    assert names_in(spool) == [], where
    assert os.listdir(table_folder(spool) / ".dead") == [], where
    kept = b"".join(path.read_bytes() for path in (table_folder(spool) / ".damaged").iterdir())
    assert kept.count(b"?" * len(build("hit"))) == 1, where
    shutil.rmtree(folder)
    return edges


def test_a_crash_of_the_drain_after_a_crash_is_no_different(prepared, tmp_path):
    rng = random.Random(1)
    died = 0
    for turn in range(25):
        spool = tmp_path / str(turn)
        shutil.copytree(prepared, spool)
        sink = target()
        for _ in range(8):
            steps = FileSteps(rng.randrange(25), rng.choice(["before", "torn", "after"]))
            sink.refuses = rng.random() < 0.5
            try:
                with steps:
                    sink.steps = steps
                    drain(sink, spool)
            except CrashError:
                died += 1
            stored, (waits, dead) = set(sink.stored()), ids_on_disk(spool)
            assert stored | {*waits, *dead} >= set(EXPECTED), (turn, steps.seen[-1])
        sink.steps, sink.refuses = None, False
        assert drain(sink, spool)
        assert sink.stored() == EXPECTED, turn
        assert ids_on_disk(spool) == ([], []), turn
    assert died > 100


# -- real processes -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with LocalStore.open(str(tmp_path_factory.mktemp("store"))) as store:
        store.apply(build_spec())
        yield store


@pytest.fixture(scope="module")
def server(store):
    with Server(store, ServerSettings(port=0)) as server:
        yield server


def draining(spool, url, *flags):
    """Start ``eventmill spool drain`` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "eventmill", "spool", "drain", str(spool), "--store", url, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def end_of(process):
    """Return the exit code and the one line of counts of a drain; None when it had none."""
    out, err = process.communicate(timeout=WAIT)
    lines = out.splitlines()
    assert len(lines) <= 1, err
    return process.returncode, json.loads(lines[0]) if lines else None


def until(condition):
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def stored_of(store, prefix):
    rows = store.query(
        f"SELECT _insert_id AS id FROM contract.builds WHERE STARTS_WITH(_insert_id, '{prefix}')",
        row_limit=None,
    )
    return Counter(row["id"] for row in rows)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_drain_that_is_stopped_by_a_signal_is_taken_up_by_the_next(
    tmp_path, store, server, number
):
    spool, prefix = tmp_path / "spool", f"{number.name}-"
    names = [f"{prefix}{each}" for each in range(400)]
    for place in range(20):
        left(spool, f"{place}-left", *names[place * 20 : place * 20 + 20])
    rng = random.Random(number)
    with ChaosProxy(server.port, slow=0.5, slow_seconds=0.02, reply_lost=0.2) as proxy:
        for _ in range(3):
            before = len(names_in(spool))
            goal = before - rng.randrange(1, 5)
            process = draining(spool, proxy.url)
            until(lambda goal=goal: len(names_in(spool)) <= goal)
            process.send_signal(number)
            code, counts = end_of(process)
            assert len(names_in(spool)) > 0, "it was stopped in the middle"
            assert not any(is_locked(path) for path in orphans(str(table_folder(spool))))
            if number == signal.SIGINT:
                assert code == 130
                assert counts["left"] == waiting(spool)["ended"] > 0
            else:
                assert (code, counts) == (-number, None)
        code, counts = end_of(draining(spool, proxy.url))
        assert proxy.happened["reply_lost"] > 0
    assert (code, counts["left"]) == (0, 0)
    assert stored_of(store, prefix) == Counter(names)
    assert names_in(spool) == []


def test_two_drains_beside_a_living_sender_send_each_event_once(tmp_path, store, server):
    spool = tmp_path / "spool"
    own = living(spool, "99-living", "pair-own")
    names = [f"pair-{each}" for each in range(400)]
    for place in range(40):
        left(spool, f"{place}-left", *names[place * 10 : place * 10 + 10])
    with ChaosProxy(server.port, slow=1.0, slow_seconds=0.01) as proxy:
        processes = [draining(spool, proxy.url) for _ in range(2)]
        ends = [end_of(process) for process in processes]
    assert [code for code, _ in ends] == [0, 0]
    told = [counts for _, counts in ends if counts]
    assert sum(counts["accepted"] for counts in told) == 400
    assert sum(counts["duplicates"] for counts in told) == 0
    assert stored_of(store, "pair-") == Counter(names)
    assert names_in(spool) == ["99-living"]
    assert len(own.take_all()) == 1
