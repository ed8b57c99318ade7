"""Dead letters, and folders that come and go: whatever breaks off, each event is in one place."""

import errno
import os
import threading

import pytest
from drain_world import (
    FINGERPRINT,
    dead_letter,
    drained,
    header_of,
    left,
    names_in,
    table_folder,
    waiting,
)
from file_steps import CrashError, FileSteps
from spool_world import WAIT, refusing

from eventmill.client.drain import bring_back
from eventmill.client.spool import owner
from eventmill.client.spool.owner import OwnerFolder, orphans, remove_unfinished

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no spool on this system")


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


def test_an_error_of_any_length_leaves_a_header_that_can_be_read(sink, spool):
    for number, word in enumerate(("a", "\x01", "\N{GRINNING FACE}")):
        path = dead_letter(spool, f"{number}-old", "e", why=word * 1_000_000)
        header = header_of(path)
        assert header["fingerprint"] == FINGERPRINT
        assert set(header["error"]) == {word}


def test_unfinished_dead_letters_and_owners_are_not_sent_and_go_when_they_are_old(sink, spool):
    left(spool, "1-a", "a")
    dead = dead_letter(spool, "2-b", "b")
    unfinished = dead.with_name(".new-3-c-1.seg")
    unfinished.write_bytes(dead.read_bytes())
    half_made = table_folder(spool) / ".new-4-d-0123"
    half_made.mkdir()
    for name in ("lock", "acked"):
        (half_made / name).touch()
    assert waiting(spool) == {"ended": 1, "dead letters": 1}
    assert bring_back(str(table_folder(spool))) == 1
    assert drained(sink, spool)[1]
    assert set(sink.rows) == {b"a", b"b"}
    assert unfinished.exists(), "somebody may be at work on it"
    remove_unfinished(str(table_folder(spool)), unfinished.stat().st_mtime + 7200)
    assert not unfinished.exists()
    assert not half_made.exists()


# -- bringing dead letters back -----------------------------------------------------------------


def test_dead_letters_that_several_bring_back_are_moved_once_each(sink, spool):
    for turn in range(15):
        names = [f"{turn}.{number}" for number in range(5)]
        for number, name in enumerate(names):
            dead_letter(spool, f"{turn}-{number}", name)
        start = threading.Barrier(4)
        moved = []

        def run(start=start, moved=moved):
            start.wait(WAIT)
            moved.append(bring_back(str(table_folder(spool))))

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        start.wait(WAIT)
        drained(sink, spool)
        for thread in threads:
            thread.join(WAIT)
        assert sum(moved) == 5
        drained(sink, spool)
        assert names_in(spool) == []
        assert len(sink.rows) == 5 * (turn + 1)
    assert sum(batch.count for batch in sink.batches) == 75, "each was put once"


@pytest.mark.parametrize(
    "earlier", ["nothing", "empty", "unlocked", "acked", "removed", "unfinished"]
)
def test_what_an_earlier_call_left_is_not_in_the_way(sink, spool, earlier):
    path = dead_letter(spool, "1-a", *[f"a{n}" for n in range(9)])
    table, name = str(table_folder(spool)), path.stem
    if earlier == "empty":  # the lock was gone already
        os.mkdir(os.path.join(table, name))
    elif earlier == "unfinished":
        os.mkdir(os.path.join(table, f".new-{name}"))
    elif earlier != "nothing":
        folder = OwnerFolder.create(table, name)
        if earlier == "acked":
            folder.write_checkpoint(1, path.stat().st_size)
        elif earlier == "removed":
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(owner.os, "rename", refusing(errno.EIO))
                folder.remove()
        folder.release()
    assert bring_back(table) == 1
    assert not path.exists()
    assert waiting(spool) == {"ended": 9}
    assert drained(sink, spool)[1]
    assert len(sink.rows) == 9
    assert set(names_in(spool)) <= {f".new-{name}"}


def test_a_checkpoint_that_is_taken_back_is_so_before_the_letter_comes(spool):
    path = dead_letter(spool, "1-a", "a")
    table, name = str(table_folder(spool)), path.stem
    folder = OwnerFolder.create(table, name)
    folder.write_checkpoint(1, path.stat().st_size)
    folder.release()
    with FileSteps() as steps:
        assert bring_back(table) == 1
    acked = os.path.join(table, name, "acked")
    done = [steps.seen.index(step) for step in [
        ("ftruncate", acked), ("fsync", acked), ("rename", str(path)),
        ("fsync", os.path.join(table, name)), ("fsync", os.path.join(table, ".dead")),
    ]]  # fmt: skip
    assert done == sorted(done), "a power cut must not find the letter behind an old checkpoint"


def test_a_dead_letter_whose_folder_somebody_holds_stays_where_it_is(spool):
    path = dead_letter(spool, "1-a", "a")
    held = OwnerFolder.create(str(table_folder(spool)), path.stem)
    assert bring_back(str(table_folder(spool))) == 0
    assert path.exists()
    held.release()
    assert bring_back(str(table_folder(spool))) == 1


def test_a_letter_that_was_moved_is_never_removed_by_a_fault_that_follows(spool, monkeypatch):
    path = dead_letter(spool, "1-a", "a")
    real = os.fsync

    def fsync(descriptor):
        real(descriptor)
        path.parent.rmdir()  # a job that cleans up

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FileNotFoundError):
        bring_back(str(table_folder(spool)))
    monkeypatch.undo()
    assert waiting(spool) == {"ended": 1}


def test_no_room_for_a_folder_leaves_the_letter(spool, monkeypatch):
    path = dead_letter(spool, "1-a", "a")
    monkeypatch.setattr(os, "mkdir", refusing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        bring_back(str(table_folder(spool)))
    monkeypatch.undo()
    assert path.exists()


# -- what cannot be removed ---------------------------------------------------------------------


def test_a_segment_that_cannot_be_unlinked_is_sent_once(sink, spool, monkeypatch, caplog):
    path = left(spool, "1-a", "a", "b")
    monkeypatch.setattr(os, "unlink", refusing(errno.EDQUOT))
    work, is_done = drained(sink, spool)
    assert is_done
    assert work.tally.accepted == 2
    assert work.tally.duplicates == 0
    assert waiting(spool) == {}
    again, is_done = drained(sink, spool)
    assert is_done
    assert again.tally.duplicates == 0
    assert "cannot be taken over" in caplog.text
    monkeypatch.undo()
    drained(sink, spool)
    assert not path.exists()
    assert sum(batch.count for batch in sink.batches) == 2


def test_of_a_folder_that_goes_every_step_leaves_what_the_next_can_remove(spool):
    path = left(spool, "1-a", "a")
    with FileSteps() as steps:
        OwnerFolder.adopt(str(path)).remove()
    count = len(steps.seen)
    assert count > 6
    for at in range(count):
        left(spool, f"{at}-b", "b")
        with FileSteps(at) as steps, pytest.raises(CrashError):
            OwnerFolder.adopt(str(table_folder(spool) / f"{at}-b")).remove()
        for each in orphans(str(table_folder(spool))):
            OwnerFolder.adopt(each).remove()
        remove_unfinished(str(table_folder(spool)), 1e12)
        assert names_in(spool) == [], (at, steps.seen[-1])
