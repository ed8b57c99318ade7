"""The audit: acts for good, refusals counted, and never more than a disk can bear."""

import pytest
from access_world import OPEN, bearer, wish

from eventmill.base.errors import StorageFullError, UsageError
from eventmill.server.access import (
    ANONYMOUS,
    Access,
    AccessUpkeep,
    CredentialsError,
    Resource,
)
from eventmill.server.access.access import FOLDER_OWNER
from eventmill.server.access.audit import (
    KINDS_MAX,
    REPEAT_SECONDS,
    WAITING_MAX,
    Act,
    RefusalTally,
    audit_batch,
)
from eventmill.server.access.policy import Binding
from eventmill.store.local.store import LocalStore
from eventmill.testing.contracts import ServiceContract

ALL = "SELECT * FROM eventmill.audit ORDER BY recorded_at"


def refusal(number=0, *, principal="", route="GET /x", reason="unknown"):
    return Act("refused", principal, "", f"try {number}", 1.0 * number, route, reason)


def test_repeats_make_one_row_a_minute_with_their_number(clock):
    tally, rows = RefusalTally(), []
    seconds = 600
    for second in range(seconds):
        for _ in range(50):
            tally.note(refusal(second))
        rows += tally.take(clock.now())
        clock.advance(1)
    rows += tally.take_all(clock.now())
    assert sum(act.count for _, act in rows) == 50 * seconds
    assert len(rows) <= seconds / REPEAT_SECONDS + 2
    assert rows[0][1].count == 50  # the first is told at once
    assert rows[-1][1].detail == "try 599"
    assert len({row_id for row_id, _ in rows}) == len(rows)


def test_a_knocker_with_many_ways_makes_no_more_rows_than_there_are_kinds(clock):
    tally, rows = RefusalTally(), []
    for number in range(20_000):
        tally.note(refusal(number, route=f"GET /{number}"))
        if number % 1_000 == 999:
            rows += tally.take(clock.now())
            clock.advance(1)
    rows += tally.take_all(clock.now())
    assert len(rows) <= 2 * (KINDS_MAX + 1)
    assert sum(act.count for _, act in rows) == 20_000
    others = [act for _, act in rows if act.reason == "too_many_kinds"]
    assert sum(act.count for act in others) == 20_000 - KINDS_MAX


def test_kinds_that_are_silent_make_room_for_others(clock):
    tally = RefusalTally()
    for number in range(KINDS_MAX):
        tally.note(refusal(route=f"GET /{number}"))
    assert len(tally.take(clock.now())) == KINDS_MAX
    clock.advance(REPEAT_SECONDS)
    assert tally.take(clock.now()) == []
    tally.note(refusal(route="GET /new"))
    ((_, act),) = tally.take(clock.now())
    assert act.route == "GET /new"


def test_a_row_is_bounded_whatever_a_stranger_wrote():
    act = Act("refused", "", "r" * 10_000, "d" * 10_000, 1.0, "x", "y", 1, "p" * 999, "c" * 10_000)
    assert len(audit_batch([("1", act)]).payload) < 1_000
    strange = Act("refused", "", "\ud800", "\x00", 1.0, "x", "y", 1, "", "\ud800")
    assert audit_batch([("1", strange)]).count == 1


class Full:
    """A store that has no space, for a while."""

    def __init__(self, store):
        self.store = store
        self.is_full = True
        self.kept = []

    def keep_own(self, batch):
        if self.is_full:
            raise StorageFullError("no space")
        self.kept += batch.insert_ids
        self.store.keep_own(batch)

    def __getattr__(self, name):
        return getattr(self.store, name)


def test_a_full_disk_delays_the_audit_and_nothing_else(access, store, ring, clock, caplog):
    full = Full(store)
    upkeep = AccessUpkeep(access, full, clock)
    ring.create(wish("ci", "reader:*"))
    access.refused(None, "GET /x", access_error())
    upkeep.round()
    upkeep.round()
    assert "no space" in caplog.text
    full.is_full = False
    upkeep.round()
    assert sorted(row["act"] for row in store.query(ALL)) == ["key_created", "refused"]
    upkeep.round()
    assert len(full.kept) == 2


def access_error():
    return CredentialsError("unknown", "no")


def test_refusals_that_wait_are_bounded(clock):
    tally = RefusalTally()
    rows = [(str(number), refusal(number)) for number in range(WAITING_MAX + 10)]
    tally.give_back(rows)
    assert tally.dropped == 10
    assert tally.take(clock.now()) == rows[:WAITING_MAX]


def test_an_act_is_written_with_what_was_done_and_carried_on_once(
    access, store, ring, clock, tmp_path
):
    ring.create(wish("ci", "appender:ops.builds", "reader:ops.*"))
    access.close()  # the process dies before anything was carried on
    again = Access.open(str(tmp_path), clock=clock)
    upkeep = AccessUpkeep(again, store, clock)
    store.keep_own(audit_batch(again.waiting_acts(10)))  # and once more, before it was forgotten
    upkeep.round()
    (row,) = store.query(ALL)
    assert (row["act"], row["principal"], row["resource"]) == ("key_created", "folder", "key ci")
    assert row["detail"] == "appender:ops.builds, reader:ops.*"
    assert again.waiting_acts(10) == []
    again.close()


def test_an_act_that_was_not_done_is_not_noted(access, store, ring, audit):
    ring.create(wish("ci", "reader:*"))
    with pytest.raises(UsageError, match="live key"):
        ring.create(wish("ci", "reader:*"))
    with pytest.raises(UsageError, match="no live key"):
        ring.revoke("nobody")
    assert [row["resource"] for row in audit()] == ["key ci"]


def test_every_administrative_act_is_in_the_audit(access, ring, audit):
    ring.create(wish("ci", "reader:*"))
    member = "serviceAccount:ci@local.iam.eventmill.local"
    binding = Binding("roles/bigquery.dataEditor", (member,))
    access.set_policy(FOLDER_OWNER, Resource.dataset("ops"), [binding])
    access.record(ANONYMOUS, "quarantine_replayed", OPEN, "3 events")
    ring.revoke("ci")
    rows = {row["act"]: row for row in audit()}
    assert set(rows) == {"key_created", "policy_set", "quarantine_replayed", "key_revoked"}
    assert rows["policy_set"]["detail"] == f"roles/bigquery.dataEditor {member}"
    assert rows["policy_set"]["resource"] == "local.ops.*"
    assert rows["quarantine_replayed"]["principal"] == "anonymous"


def test_the_embedded_store_keeps_the_audit_across_a_new_start(tmp_path, access, ring, clock):
    folder = str(tmp_path / "data")
    ring.create(wish("ci", "reader:*"))
    with LocalStore.open(folder) as store:
        AccessUpkeep(access, store, clock).round()
        store.seal()
    with LocalStore.open(folder) as store:
        rows = list(store.query(ALL))
        assert [row["resource"] for row in rows] == ["key ci"]
        assert [table.id for table in store.tables()] == []
        assert store.describe(type(OPEN)("local", "eventmill", "audit")).version == 1


def test_a_folder_from_before_the_audit_gets_its_table(tmp_path):
    folder = str(tmp_path / "data")
    with LocalStore.open(folder) as store:
        uid = store._cache.find(type(OPEN)("local", "eventmill", "audit")).uid
        with store._admin.writing():
            store._admin.delete_table(uid)
    with LocalStore.open(folder) as store:
        assert list(store.query(ALL)) == []


def test_a_store_without_own_tables_tells_refusals_to_the_log(access, clock, caplog):
    upkeep = AccessUpkeep(access, object(), clock)
    access.refused(None, "GET /x", access_error())
    upkeep.round()
    assert "refused 1 times" in caplog.text


def test_what_is_due_is_written_when_the_server_stops(client, make, store, access):
    make("boss", "admin:*")
    for _ in range(3):
        client.get("/api/v1/tables", headers=bearer("em_x"))
    client.__exit__(None, None, None)
    counted = store.query("SELECT SUM(`count`) AS n FROM eventmill.audit WHERE act = 'refused'")
    assert next(iter(counted))["n"] == 3


class TestAccessUpkeep(ServiceContract):
    @pytest.fixture
    def service(self, store):
        access = Access.in_memory()
        yield AccessUpkeep(access, store)
        access.close()
