"""``eventmill spool``: what waits is shown, and sent, and every end of it is told."""

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest
from drain_world import TABLE, dead_letter, left, living, segment_of, table_folder, waiting
from spool_world import refusing

from eventmill.base.errors import AccessError, PermanentError
from eventmill.cli import spool as command
from eventmill.schema.table import TableId
from eventmill.store.local.store import LocalStore
from eventmill.testing.events import build_spec

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no spool on this system")
OTHER = "local.contract.attempts"


@pytest.fixture
def builds(call):
    """The command line with a store that has the table of the tests' spools."""
    with LocalStore.open("eventmill-data") as store:
        store.apply(build_spec())
    return call


def stored(call, table=TABLE):
    answer = call("query", f"SELECT _insert_id AS id FROM `{table}` ORDER BY id")
    assert answer.code == 0, answer.err
    return [row["id"] for row in answer.rows]


def as_other_table(spool):
    """Give what is in the table's folder of ``spool`` to another table, which sorts before it."""
    os.rename(table_folder(spool), Path(spool, OTHER))
    return Path(spool, OTHER)


def putting(monkeypatch, *errors):
    """Let puts fail with ``errors``, one each, None with none of them."""
    real, due = LocalStore.put, list(errors)

    def put(self, batch, *, timeout_seconds=None):
        error = due.pop(0) if due else None
        if error is not None:
            raise error
        return real(self, batch, timeout_seconds=timeout_seconds)

    monkeypatch.setattr(LocalStore, "put", put)


# -- status -------------------------------------------------------------------------------------


def test_status_shows_each_owner_and_dead_letter_of_each_spool(call):
    own = living("spools/a", "11-own", "a0", "a1")
    left("spools/b", "22-ended", "b0")
    dead_letter("spools/b", "33-dead", "c0", "c1", why="too large")
    answer = call("spool", "status", "spools")
    assert answer.code == 0
    here = os.getcwd()
    shown = [
        (row["spool"], row["table"], row["state"], row["owner"], row["segments"], row["events"])
        for row in answer.rows
    ]
    assert shown == [
        (f"{here}/spools/a", TABLE, "living", "11-own", 1, 2),
        (f"{here}/spools/b", TABLE, "ended", "22-ended", 1, 1),
        (f"{here}/spools/b", TABLE, "dead letters", None, 1, 2),
    ]
    assert answer.rows[0]["bytes"] == segment_of(own.path).stat().st_size
    assert answer.rows[0]["oldest_age_seconds"] > 1e9
    assert [row["error"] for row in answer.rows] == [None, None, "too large"]


def test_status_on_a_terminal_is_by_table_with_ages_for_people(call):
    now = command.SYSTEM_CLOCK.now()
    owner = "41234-0123456789abcdef"
    living("spools/a", owner, "a0", staged_at=now - 3 * 86_400 - 5_000)
    left("spools/b", "22-ended", "b0", staged_at=now - 150)
    dead_letter("spools/b", "33-dead", "c0", why="\x1b[31mtoo large, " + "far too large " * 9)
    answer = call("spool", "status", "spools", "--format", "table")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert f"{os.getcwd()}/spools/a/{TABLE}" in lines
    assert f"{os.getcwd()}/spools/b/{TABLE}" in lines
    (mine,) = [line for line in lines if owner in line]
    assert mine.split()[:2] == ["living", owner]
    assert mine.split()[-2:] == ["1", "3d"], "events, and an age that needs no seconds"
    (ended,) = [line for line in lines if "22-ended" in line]
    assert ended.split()[-1] == "2m"
    # As a narrow terminal shows it; what is long stands on a line of its own.
    assert [line for line in lines if line.startswith("state")]
    told = f"dead letters (1 events): \\x1b[31mtoo large, {'far too large ' * 9}".strip()
    assert told in [line.strip() for line in lines]


def test_status_without_a_folder_is_about_the_default_ones(call, tmp_path, monkeypatch):
    monkeypatch.setenv("EVENTMILL_SPOOL_DIR", str(tmp_path / "mine"))
    answer = call("spool", "status", "--format", "table")
    assert (answer.code, answer.out) == (0, "")
    assert f"nothing waits below {tmp_path}/mine" in answer.err
    left(tmp_path / "mine" / "program" / "http_host", "1-a", "a")
    assert [row["events"] for row in call("spool", "status").rows] == [1]
    monkeypatch.delenv("EVENTMILL_SPOOL_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    left(tmp_path / "state" / "eventmill" / "spool" / "p" / "s", "1-a", "a", "b")
    assert [row["events"] for row in call("spool", "status").rows] == [2]


def test_status_tells_what_it_may_not_read_and_shows_the_rest(call, monkeypatch):
    left("spools/a", "1-a", "a")
    left("spools/b", "1-b", "b")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("/a"):
            refusing(errno.EACCES)(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    answer = call("spool", "status", "spools")
    assert answer.code == 1
    assert [row["owner"] for row in answer.rows] == ["1-b"]
    assert "spools/a cannot be read: Permission denied" in answer.err
    monkeypatch.undo()


def test_a_fault_without_a_path_is_told_with_the_tables(call, monkeypatch):
    left("spool", "1-a", "a")

    def pread(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", pread)
    answer = call("spool", "status", "spool")
    assert answer.code == 1
    assert f"{table_folder('spool')} cannot be read: Input/output error" in answer.err


@pytest.mark.parametrize("verb", ["status", "drain"])
def test_a_part_of_a_spool_is_refused_as_nothing_would_be_found_in_it(builds, verb):
    path = left("spool", "1-a", "a")
    letter = dead_letter("spool", "2-b", "b")
    for part in (path, letter.parent):
        answer = builds("spool", verb, str(part))
        assert answer.code == 2
        assert answer.err.rstrip().endswith(f"name {os.getcwd()}/spool/{TABLE}")


# -- drain --------------------------------------------------------------------------------------


def test_drain_sends_what_ended_processes_left_under_its_insert_ids(builds):
    left("spool", "1-a", "a0", "a1")
    left("spool", "2-b", "b0")
    answer = builds("spool", "drain", "spool")
    assert (answer.code, answer.err) == (0, "")
    assert answer.rows == [
        {
            "table": TABLE, "sent": 3, "accepted": 3, "duplicates": 0, "rejected": 0,
            "undelivered": 0, "damaged": 0, "left": 0,
        }
    ]  # fmt: skip
    assert stored(builds) == ["a0", "a1", "b0"]
    again = builds("spool", "drain", "spool")
    assert (again.code, again.out) == (0, "")
    assert "nothing waits in spool" in again.err


def test_a_copy_of_a_dead_hosts_spools_is_shown_and_drained(builds, tmp_path):
    left("home/spool/checkout.py/http_host", "1-a", "a0", "a1")
    dead_letter("home/spool/checkout.py/http_host", "2-b", "b0")
    shutil.copytree("home/spool", "old-spool")
    shutil.rmtree("home")
    shown = builds("spool", "status", "old-spool").rows
    assert [(row["state"], row["events"]) for row in shown] == [("ended", 2), ("dead letters", 1)]
    assert builds("spool", "drain", shown[0]["spool"], "--dead-letters").code == 0
    assert stored(builds) == ["a0", "a1", "b0"]


def test_drain_takes_the_folder_of_one_table(builds):
    left("spool", "1-a", "a0")
    other = as_other_table("spool")
    left("spool", "1-a", "b0")
    answer = builds("spool", "drain", str(table_folder("spool")))
    assert answer.code == 0
    assert stored(builds) == ["b0"]
    assert other.exists()


def test_a_table_that_the_store_lacks_is_left_and_the_others_are_sent(builds):
    left("spool", "1-a", "x0", "x1")
    dead_letter("spool", "3-c", "x2")
    as_other_table("spool")
    left("spool", "1-a", "a0")
    for flags in ([], ["--dead-letters"]):
        answer = builds("spool", "drain", "spool", *flags)
        assert answer.code == 1
        lacking = answer.rows[0]
        assert (lacking["table"], lacking["sent"], lacking["undelivered"]) == (OTHER, 0, 0)
        assert lacking["left"] == (3 if flags else 2)
        assert "run this again" in answer.err
        assert OTHER in answer.err
    assert stored(builds) == ["a0"]
    with LocalStore.open("eventmill-data") as store:
        store.apply(build_spec(TableId.parse(OTHER)))
    assert builds("spool", "drain", "spool", "--dead-letters").code == 0
    assert stored(builds, OTHER) == ["x0", "x1", "x2"]


def test_dead_letters_are_sent_when_they_are_asked_for_and_told_otherwise(builds):
    dead_letter("spool", "1-a", "a0", "a1")
    answer = builds("spool", "drain", "spool")
    assert (answer.code, answer.rows[0]["sent"]) == (0, 0)
    assert "2 events of earlier are dead letters; --dead-letters sends them" in answer.err
    answer = builds("spool", "drain", "spool", "--dead-letters")
    assert (answer.code, answer.rows[0]["accepted"], answer.err) == (0, 2, "")
    assert stored(builds) == ["a0", "a1"]


def test_dead_letters_that_were_asked_for_and_are_left_are_no_success(builds, monkeypatch):
    dead_letter("spool", "1-a", "a0")
    monkeypatch.setattr("eventmill.client.drain.bring_back", lambda folder: 0)
    answer = builds("spool", "drain", "spool", "--dead-letters")
    assert (answer.code, answer.rows[0]["left"]) == (1, 1)
    assert "1 events are left" in answer.err


def test_what_the_store_will_not_take_becomes_dead_letters(builds, monkeypatch):
    left("spool", "1-a", "a0", "a1")
    left("spool", "2-b", "b0")
    putting(monkeypatch, PermanentError("no thanks"))
    answer = builds("spool", "drain", "spool")
    assert answer.code == 1
    assert (answer.rows[0]["undelivered"], answer.rows[0]["accepted"]) == (2, 1)
    assert "2 events were not taken and are dead letters now: no thanks" in answer.err
    assert "of earlier" not in answer.err
    assert builds("spool", "drain", "spool", "--dead-letters").code == 0
    assert stored(builds) == ["a0", "a1", "b0"]


def test_rejected_events_exit_with_3_and_are_in_quarantine(builds):
    left("spool", "1-a", "a0", rows=[("r0", b'{"seconds": "soon"}')])
    answer = builds("spool", "drain", "spool")
    assert answer.code == 3
    assert (answer.rows[0]["sent"], answer.rows[0]["rejected"]) == (2, 1)
    assert f"eventmill quarantine list --table {TABLE}" in answer.err
    listed = builds("quarantine", "list", "--table", TABLE)
    assert [row["insert_id"] for row in listed.rows] == ["r0"]


def test_damaged_events_are_no_success(builds):
    path = segment_of(left("spool", "1-a", "a0", "a1"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    answer = builds("spool", "drain", "spool")
    assert (answer.code, answer.rows[0]["damaged"], answer.rows[0]["accepted"]) == (1, 1, 1)
    assert f"{os.getcwd()}/spool/{TABLE}/.damaged" in answer.err
    assert [row["state"] for row in builds("spool", "status", "spool").rows] == ["damaged"]


def test_what_a_living_process_has_is_left_to_it(builds):
    own = living("spool", "1-own", "mine")
    left("spool", "2-b", "b0")
    answer = builds("spool", "drain", "spool")
    assert (answer.code, answer.rows[0]["accepted"], answer.rows[0]["left"]) == (0, 1, 0)
    assert "1 events are left to 1-own, a process that lives" in answer.err
    assert stored(builds) == ["b0"]
    assert len(own.take_all()) == 1


def test_several_spools_are_never_sent_to_one_store(builds):
    left("spools/a", "1-a", "a0")
    left("spools/b", "1-b", "b0")
    answer = builds("spool", "drain", "spools")
    assert answer.code == 2
    assert f"{os.getcwd()}/spools/a" in answer.err
    assert f"{os.getcwd()}/spools/b" in answer.err
    assert stored(builds) == []
    assert waiting("spools/a") == waiting("spools/b") == {"ended": 1}


def test_the_spool_of_another_user_is_refused(builds, monkeypatch):
    left("spool", "1-a", "a0")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    answer = builds("spool", "drain", "spool")
    assert answer.code == 2
    assert f"sudo -u '#{user}'" in answer.err
    assert waiting("spool") == {"ended": 1}


def test_without_a_store_nothing_is_moved(call):
    left("spool", "1-a", "a0")
    dead_letter("spool", "2-b", "b0")
    answer = call("spool", "drain", "spool", "--dead-letters")
    assert answer.code == 2
    assert "there is no store at" in answer.err
    assert waiting("spool") == {"ended": 1, "dead letters": 1}


def test_where_there_is_no_such_store_nothing_becomes_a_dead_letter(builds, monkeypatch):
    left("spool", "1-a", "a0")
    dead_letter("spool", "2-b", "b0")

    def describe(self, table):
        raise PermanentError("this is a printer")

    monkeypatch.setattr(LocalStore, "describe", describe)
    answer = builds("spool", "drain", "spool", "--dead-letters")
    assert (answer.code, answer.rows[0]["left"]) == (1, 2)
    assert "2 events are left: this is a printer" in answer.err
    assert waiting("spool") == {"ended": 1, "dead letters": 1}


def test_a_server_that_is_down_is_waited_for_until_time_is_over(call):
    left("spool", "1-a", "a0")
    address = ["--store", "http://127.0.0.1:9"]
    answer = call("spool", "drain", "spool", *address, "--timeout", "300ms")
    assert (answer.code, answer.rows[0]["left"]) == (1, 1)
    assert "1 events are left: " in answer.err
    assert "127.0.0.1:9" in answer.err
    assert waiting("spool") == {"ended": 1}


def test_a_key_that_is_refused_is_told_at_once_and_costs_no_event(builds, monkeypatch):
    left("spool", "1-a", "a0")
    putting(monkeypatch, AccessError("the key may not append"))
    began = command.SYSTEM_CLOCK.monotonic()
    answer = builds("spool", "drain", "spool", "--timeout", "1h")
    assert command.SYSTEM_CLOCK.monotonic() - began < 60
    assert (answer.code, answer.rows[0]["left"], answer.rows[0]["undelivered"]) == (1, 1, 0)
    assert "are left: the key may not append" in answer.err
    assert builds("spool", "drain", "spool").code == 0
    assert stored(builds) == ["a0"]


def test_ctrl_c_tells_what_was_sent_and_loses_nothing(builds, monkeypatch):
    left("spool", "1-a", "a0")
    left("spool", "2-b", "b0", "b1")
    putting(monkeypatch, None, KeyboardInterrupt())
    answer = builds("spool", "drain", "spool")
    assert answer.code == 130
    assert (answer.rows[0]["accepted"], answer.rows[0]["left"]) == (1, 2)
    assert "2 events are left: this was broken off; run this again" in answer.err
    assert answer.err.endswith("interrupted\n")
    assert builds("spool", "drain", "spool").code == 0
    assert stored(builds) == ["a0", "b0", "b1"]


def test_a_disk_that_fails_for_one_table_does_not_keep_the_others(builds, monkeypatch):
    with LocalStore.open("eventmill-data") as store:
        store.apply(build_spec(TableId.parse(OTHER)))
    left("spool", "1-a", "x0")
    other = as_other_table("spool")
    left("spool", "1-a", "a0")
    (other / ".dead").write_bytes(b"no folder")
    putting(monkeypatch, PermanentError("no thanks"))
    answer = builds("spool", "drain", "spool")
    assert answer.code == 1
    assert f"error: {other.absolute()}: " in answer.err
    assert stored(builds) == ["a0"]
    (other / ".dead").unlink()
    assert builds("spool", "drain", "spool").code == 0
    assert stored(builds, OTHER) == ["x0"]


def test_a_folder_that_cannot_be_taken_over_is_left_and_told(builds, monkeypatch):
    path = left("spool", "1-a", "a0")
    (path / "acked").unlink()
    (path / "acked").mkdir()
    answer = builds("spool", "drain", "spool")
    assert answer.code == 1
    assert "Is a directory" in answer.err
    assert stored(builds) == []


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_shown_on_a_terminal_alone(builds, monkeypatch, is_terminal):
    left("spool", "1-a", "a0")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    answer = builds("spool", "drain", "spool")
    assert (answer.code, answer.rows[0]["accepted"]) == (0, 1)
    assert (f"{TABLE} 1 events" in answer.err) is is_terminal
    assert is_terminal or answer.err == ""
