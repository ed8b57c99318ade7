"""The spool as the caller of ``stage`` sees it: full, refused, adopted, and every event counted."""

import errno
import os
import shutil
import time

import pytest
from spool_world import WAIT, Build, Owner, refuse_opens, refusing

from eventmill.base.errors import UnavailableError, UsageError
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.spool import owner
from eventmill.client.spool.owner import is_locked, orphans


@pytest.fixture
def uploader_of(sink, tmp_path):
    made = []

    def make(**options):
        options = {
            "spool_dir": str(tmp_path / "spool"),
            "retry_base_seconds": 0.001,
            "flush_interval_seconds": 0.0,
            **options,
        }
        made.append(BatchUploader(sink, "contract.builds", **options))
        return made[-1]

    yield make
    sink.gate.set()
    for uploader in made:
        uploader.close(WAIT)
        assert_conserved(uploader.stats())


def assert_conserved(stats):
    undelivered = sum(stats.undelivered.values())
    settled = stats.accepted + stats.duplicates + stats.rejected + undelivered
    lost = stats.dropped.get("oldest", 0) + stats.dropped.get("damaged", 0)
    assert stats.staged + stats.adopted == settled + lost + stats.left


@pytest.mark.parametrize("from_call", [1, 2])
def test_too_many_open_files_are_told_and_staging_goes_on_when_there_are_fewer(
    uploader_of, sink, monkeypatch, from_call
):
    events = uploader_of()
    refuse_opens(monkeypatch, errno.EMFILE, from_call=from_call)
    for _ in range(3):
        with pytest.raises(UnavailableError) as raised:
            events.stage(Build(name="a"))
        assert events.spool_folder in str(raised.value)
        assert "open files" in str(raised.value)
        assert os.listdir(events.spool_folder) == []
    monkeypatch.undo()
    events.stage(Build(name="a"))
    assert events.flush(WAIT) == 0
    assert events.stats().staged == len(sink.rows) == 1


@pytest.mark.parametrize("case", ["a file is there", "not allowed"])
def test_a_folder_that_cannot_be_made_is_told_with_its_name(
    uploader_of, tmp_path, monkeypatch, case
):
    if case == "a file is there":
        (tmp_path / "file").write_text("")
        events = uploader_of(spool_dir=str(tmp_path / "file" / "spool"))
    else:
        events = uploader_of()
        monkeypatch.setattr(owner.os, "mkdir", refusing(errno.EACCES))
    with pytest.raises(UsageError) as raised:
        events.stage(Build(name="a"))
    assert events.spool_folder in str(raised.value)
    assert events.stats().staged == 0


def test_every_event_is_accounted_for_when_everything_happens_at_once(uploader_of, sink):
    events = uploader_of(spool_bytes_max=2_000_000, on_full="drop_oldest")
    left = Owner(events.spool_folder, "gone")
    left.append(*range(10))
    left.crash()
    (name,) = [name for name in os.listdir(left.path) if name.endswith(".seg")]
    content = bytearray((left.path / name).read_bytes())
    content[-1] ^= 0xFF
    (left.path / name).write_bytes(content)
    sink.errors = [UnavailableError("down"), None, UsageError("not taken")]
    sink.gate.clear()
    took = [events.stage(Build(name="x" * 100_000)) for _ in range(60)]
    sink.gate.set()
    assert all(took)
    assert events.flush(WAIT) == 0
    deadline = time.monotonic() + WAIT
    while (stats := events.stats()).oldest_age_seconds:  # what was adopted, flush does not await
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert stats.staged == 60
    assert stats.adopted == 10
    assert stats.dropped["damaged"] == 1
    assert stats.dropped["oldest"] > 0
    assert sum(stats.undelivered.values()) > 0
    assert stats.retried > 0
    assert stats.send_seconds > 0
    assert_conserved(stats)


def test_what_close_leaves_is_counted_as_left_and_sent_by_the_next(uploader_of, sink):
    sink.gate.clear()
    events = uploader_of()
    for number in range(5):
        events.stage(Build(name=str(number)), insert_id=f"i-{number}")
    assert events.close(0.05) == 5
    assert events.stats().left == 5
    assert_conserved(events.stats())
    sink.gate.set()
    heir = uploader_of()
    heir.stage(Build(name="next"), insert_id="next")
    deadline = time.monotonic() + WAIT
    while heir.stats().adopted < 5 or list(orphans(heir.spool_folder))[1:]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert heir.flush(WAIT) == 0
    assert set(sink.rows) == {*(b"i-%d" % number for number in range(5)), b"next"}


def refilled(uploader_of, sink):
    """Return an uploader with six events on their way whose spool somebody has deleted."""
    sink.gate.clear()
    events = uploader_of(spool_bytes_max=4_000_000, on_full="drop_newest")
    for number in range(6):
        assert events.stage(Build(name="x" * 10_000), insert_id=f"before-{number}")
    shutil.rmtree(os.path.dirname(events.spool_folder))
    return events


def test_a_spool_that_is_deleted_is_begun_anew_with_the_next_segment(uploader_of, sink, caplog):
    events = refilled(uploader_of, sink)
    for number in range(30):  # a segment has a megabyte
        assert events.stage(Build(name="x" * 100_000), insert_id=f"after-{number}")
    assert "deleted" in caplog.text
    assert list(orphans(events.spool_folder))
    sink.gate.set()
    assert events.flush(WAIT) == 0
    assert len(sink.rows) == 36
    assert events.stats().dropped == {}
    assert events.close(WAIT) == 0
    assert os.listdir(events.spool_folder) == []


def test_a_spool_that_is_deleted_is_begun_anew_when_adoption_finds_that(uploader_of, sink):
    events = refilled(uploader_of, sink)
    events._spool.adopt()
    assert events.stage(Build(name="x"), insert_id="after")
    (folder,) = orphans(events.spool_folder)
    assert is_locked(folder)
    events._spool.adopt()
    assert list(orphans(events.spool_folder)) == [folder]
    sink.gate.set()
    assert events.flush(WAIT) == 0
    assert len(sink.rows) == 7
    assert events.stats().spooled_bytes < 1_000, "what was deleted is let go of"
