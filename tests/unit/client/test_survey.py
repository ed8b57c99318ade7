"""What waits, seen from outside: counted as a drain would find it, and never touched."""

import errno
import os
import threading
from pathlib import Path

import pytest
from drain_world import (
    TABLE,
    dead_letter,
    drained,
    left,
    living,
    segment_of,
    table_folder,
    waiting,
)
from spool_world import ALL, WAIT, refusing

from eventmill.client.spool import owner
from eventmill.client.spool.owner import OwnerFolder, is_locked, unacked
from eventmill.client.spool.survey import State, findings_in, table_around, tables_below
from eventmill.testing.events import build

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no spool on this system")


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


def found_in(spool):
    return list(findings_in(str(table_folder(spool))))


def below(root):
    faults = []
    return list(tables_below(str(root), faults.append)), faults


# -- findings -----------------------------------------------------------------------------------


def test_each_owner_is_found_with_what_is_not_acked(sink, spool):
    own = living(spool, "1-own", "a0", "a1", "a2", staged_at=100.0)
    left(spool, "2-ended", *[f"b{n}" for n in range(20)], staged_at=50.0, segment_bytes=300)
    living(spool, "3-idle")
    findings = {finding.owner: finding for finding in found_in(spool)}
    assert set(findings) == {"1-own", "2-ended"}, "who has staged nothing has no folder"
    assert (findings["1-own"].state, findings["2-ended"].state) == (State.LIVING, State.ENDED)
    assert str(findings["1-own"].table) == TABLE
    mine, ended = findings["1-own"].amount, findings["2-ended"].amount
    assert (mine.segments, mine.events, mine.oldest_at) == (1, 3, 100.0)
    assert (ended.events, ended.oldest_at) == (20, 50.0)
    assert ended.segments == len(list((table_folder(spool) / "2-ended").glob("*.seg"))) > 2
    sizes = [path.stat().st_size for path in (table_folder(spool) / "2-ended").glob("*.seg")]
    assert 0 < sum(sizes) - ended.bytes < 120, "the first header counts as acked"
    # What is acked is no longer counted, and a living owner is shown with nothing left.
    first = own.spool.take(bytes_max=1 << 20, count_max=2)
    own.spool.settle(first)
    (mine,) = [finding.amount for finding in found_in(spool) if finding.owner == "1-own"]
    assert (mine.events, mine.bytes) == (1, segment_of(own.path).stat().st_size - first.end)
    own.spool.settle(own.spool.take(**ALL))
    (mine,) = [finding.amount for finding in found_in(spool) if finding.owner == "1-own"]
    assert (mine.events, mine.bytes, mine.oldest_at) == (0, 0, None)


def test_it_counts_what_a_drain_then_sends(sink, spool):
    left(spool, "1-a", "a0", "a1", rows=[("r0", b'{"name": "r0"}')])
    torn = segment_of(left(spool, "2-b", "b0", "b1"))
    torn.write_bytes(torn.read_bytes()[:-3])
    hit = segment_of(left(spool, "3-c", "c0", "c1", "c2"))
    hit.write_bytes(hit.read_bytes().replace(build("c1"), b"x" * len(build("c1"))))
    headless = segment_of(left(spool, "4-d", "d0"))
    headless.write_bytes(b"?" + headless.read_bytes()[1:])
    assert waiting(spool) == {"ended": 7}
    work, is_done = drained(sink, spool)
    assert is_done
    assert work.tally.accepted == 7
    assert waiting(spool) == {"damaged": 0}
    (damaged,) = found_in(spool)
    kept = list((table_folder(spool) / ".damaged").iterdir())
    assert damaged.amount.segments == len(kept) == 2
    assert damaged.amount.bytes == sum(path.stat().st_size for path in kept)
    assert str(table_folder(spool)) in damaged.error


def test_dead_letters_are_found_by_their_error(spool):
    dead_letter(spool, "1-a", "a0", "a1", why="too large")
    dead_letter(spool, "2-b", "b0", why="too large")
    broken = dead_letter(spool, "3-c", "c0", "c1", why="foreign")
    content = bytearray(broken.read_bytes())
    content[40] ^= 0xFF
    broken.write_bytes(content)
    findings = {finding.error: finding for finding in found_in(spool)}
    assert {finding.state for finding in findings.values()} == {State.DEAD}
    assert findings.pop("too large").amount.events == 3
    ((error, finding),) = findings.items()
    assert "header is damaged" in error
    assert (finding.amount.events, finding.amount.oldest_at) == (2, 2.5)


def test_it_changes_and_locks_nothing(spool):
    own = living(spool, "1-own", "a")
    ended = left(spool, "2-ended", "b")
    dead_letter(spool, "3-dead", "c")
    table = table_folder(spool)

    def state():
        return {
            path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in sorted(table.rglob("*"))
        }

    before = state()
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    for _ in range(3):
        assert waiting(spool) == {"living": 1, "ended": 1, "dead letters": 1}
    assert state() == before
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) == descriptors
    OwnerFolder.adopt(str(ended)).release()
    assert is_locked(str(own.path))


def test_those_who_look_at_the_same_time_do_not_take_each_other_for_a_process(spool):
    ended = str(left(spool, "1-a", "a"))
    start, stop = threading.Barrier(4), threading.Event()
    seen = []

    def look():
        start.wait(WAIT)
        while not stop.is_set():
            seen.append(is_locked(ended))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    start.wait(WAIT)
    own = [is_locked(ended) for _ in range(3_000)]
    stop.set()
    for thread in threads:
        thread.join(WAIT)
    assert len(seen) > 100
    assert not any(own)
    assert not any(seen)


def test_what_goes_while_it_is_looked_at_is_passed_over(spool):
    path = left(spool, "1-a", *[f"a{n}" for n in range(9)], segment_bytes=150)
    letters = [dead_letter(spool, f"{n}-d", "d") for n in range(2)]
    rest = unacked(str(path))
    next(rest)
    for segment in path.glob("*.seg"):
        segment.unlink()
    assert list(rest) == []
    findings = findings_in(str(table_folder(spool)))
    real = os.listdir

    def listdir(folder):
        names = real(folder)
        if str(folder).endswith(".dead"):
            letters[0].unlink()  # somebody brings it back
        return names

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "listdir", listdir)
        assert [(str(f.state), f.amount.events) for f in findings] == [("dead letters", 1)]
    for name in ("acked", "lock"):
        (path / name).unlink()
    path.rmdir()
    assert list(unacked(str(path))) == []


def test_what_cannot_be_read_is_an_error_and_not_nothing(spool, monkeypatch):
    left(spool, "1-a", "a")
    real = os.stat

    def stat(path, *args, **options):
        if str(path).endswith("lock"):  # as in another user's folder
            refusing(errno.EACCES)(path)
        return real(path, *args, **options)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(owner.os, "open", refusing(errno.EACCES))
    tables, _ = below(spool)
    assert tables == [str(table_folder(spool))]
    with pytest.raises(PermissionError):
        found_in(spool)


# -- where --------------------------------------------------------------------------------------


def test_tables_are_found_from_any_folder_above_them_and_from_their_own(tmp_path, monkeypatch):
    left(tmp_path / "spools" / "b" / "http_1", "1-a", "a")
    left(tmp_path / "spools" / "a" / "http_2", "1-a", "a")
    dead_letter(tmp_path / "spools" / "a" / "http_3", "1-a", "a")
    wanted = [str(tmp_path / "spools" / part / TABLE) for part in ("a/http_2", "a/http_3")]
    assert below(tmp_path / "spools" / "a") == (wanted, [])
    assert below(tmp_path)[0] == [*wanted, str(tmp_path / "spools" / "b" / "http_1" / TABLE)]
    monkeypatch.chdir(wanted[0])
    assert below(".")[0] == [wanted[0]]


def test_folders_that_only_look_like_tables_are_none(tmp_path):
    for name in ("local.contract.empty", "my.app", "my.own.app"):
        (tmp_path / name / "http_1").mkdir(parents=True)
    # A short name of a table is not the one by which an uploader finds it.
    (tmp_path / "contract.builds" / "1-a").mkdir(parents=True)
    (tmp_path / "contract.builds" / "1-a" / "lock").touch()
    left(tmp_path / "my.own.app" / "http_1", "1-a", "a")
    assert below(tmp_path) == ([str(tmp_path / "my.own.app" / "http_1" / TABLE)], [])


def test_links_are_followed_and_a_ring_of_them_ends(tmp_path):
    left(tmp_path / "elsewhere" / "spool", "1-a", "a")
    root = tmp_path / "root"
    root.mkdir()
    (root / "spool").symlink_to(tmp_path / "elsewhere" / "spool")
    (tmp_path / "elsewhere" / "spool" / "ring").symlink_to(root)
    (root / "nowhere").symlink_to(tmp_path / "nowhere")
    assert below(root) == ([str(root / "spool" / TABLE)], [])


def test_folders_that_cannot_be_listed_are_told(tmp_path, monkeypatch):
    left(tmp_path / "a", "1-a", "a")
    (tmp_path / "b").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path).endswith("/b"):
            refusing(errno.EACCES)(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    tables, faults = below(tmp_path)
    assert tables == [str(tmp_path / "a" / TABLE)]
    assert [Path(fault.filename).name for fault in faults] == ["b"]


def test_a_part_of_a_tables_folder_names_its_table(spool):
    ended = left(spool, "1-a", "a")
    letter = dead_letter(spool, "2-b", "b")
    table = str(table_folder(spool))
    assert table_around(str(ended)) == table
    assert table_around(str(letter.parent)) == table
    assert table_around(table) is None
    assert table_around(str(spool)) is None
