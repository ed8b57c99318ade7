"""Definitions that grow over live data: nothing is rewritten for a column, nothing is dropped."""

import sqlite3

import pytest
from proto_world import compiled

from eventmill.base.errors import CorruptStoreError
from eventmill.base.settings import StoreSettings
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import Partitioning, TableId
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.store import LocalStore
from eventmill.wire.batch import Batch

TABLE = TableId("local", "t", "m")
IN = "message In { string a = 1; %s }"
OLD = "message M { string name = 1; In in = 2; repeated In ins = 3; }" + IN % ""
NEW = (
    "message M { string name = 1; In in = 2; repeated In ins = 3;"
    " optional int64 size = 4; repeated string tags = 5; In more = 6; }"
) + IN % "optional string b = 2;"
NEWEST = NEW.replace("In more = 6;", "In more = 6; string last = 7;")
FULL = {
    "name": "full", "in": {"a": "1", "b": "2"}, "ins": [{"a": "3", "b": "4"}, {"a": "5"}],
    "size": 6, "tags": ["x", "y"], "more": {"b": "8"},
}  # fmt: skip
SQL = "SELECT name, m.in, ins, size, tags, more FROM t.m ORDER BY name"
PLAIN = {"name": "plain", "in": {"a": "p", "b": None}, "ins": [], "size": None, "more": None}


def spec(body, **changes):
    changes.setdefault("partitioning", Partitioning())
    return spec_from_proto(TABLE, compiled(body), "t.M", **changes)


def event(body, **fields):
    return MessageType.load(compiled(body), "t.M").cls(**fields).SerializeToString()


def put(store, *events, start=0, body=OLD):
    ids = [b"%d" % (start + number) for number in range(len(events))]
    known = MessageType.load(compiled(body), "t.M").fingerprint
    verdict = store.put(Batch.build(TABLE, known, ids, list(events)))
    assert verdict.accepted == len(events)


def to_lake(store, folder):
    store.seal()
    return compact_once(folder, options=StoreSettings(file_grace_seconds=0.0))


def full_row():
    return {
        "name": "full", "in": {"a": "1", "b": "2"},
        "ins": [{"a": "3", "b": "4"}, {"a": "5", "b": None}],
        "size": 6, "tags": ["x", "y"], "more": {"a": "", "b": "8"},
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "store")


@pytest.mark.parametrize("compacted", ["never", "before", "after", "both"])
@pytest.mark.parametrize("clustering", [(), ("name",)])
def test_fields_sent_before_their_columns_appear_wherever_the_rows_are(
    folder, compacted, clustering
):
    with LocalStore.open(folder) as store:
        store.apply(spec(OLD, clustering=clustering))
        put(store, event(NEW, **FULL), event(OLD, name="plain", **{"in": {"a": "p"}}))
        if compacted in ("before", "both"):
            report = to_lake(store, folder)
            assert report.ahead_rows == 1
        assert (store.stats(TABLE).rows, store.stats(TABLE).ahead_rows) == (2, 1)
        assert next(iter(store.query("SELECT * FROM t.m ORDER BY name"))) == {
            "name": "full", "in": {"a": "1"}, "ins": [{"a": "3"}, {"a": "5"}],
        }  # fmt: skip
        store.apply(spec(NEW, clustering=clustering))
        for _ in range(2):
            full, plain = store.query(SQL)
            assert full == full_row()
            assert {**plain, "tags": None} == {**PLAIN, "tags": None}
            assert (store.stats(TABLE).rows, store.stats(TABLE).ahead_rows) == (2, 0)
            if compacted in ("after", "both"):
                report = to_lake(store, folder)
                if compacted == "both":
                    assert report.caught_up_files in (1, 0)
        count = "SELECT COUNT(*) AS n, COUNT(size) AS sizes, SUM(ARRAY_LENGTH(tags)) AS t FROM t.m"
        assert list(store.query(count)) == [{"n": 2, "sizes": 1, "t": 2}]


def test_a_file_is_caught_up_once_and_what_is_still_ahead_stays_whole(folder):
    with LocalStore.open(folder) as store:
        store.apply(spec(OLD))
        put(store, event(NEWEST, last="z", **FULL), event(NEW, **FULL), event(OLD, name="plain"))
        assert to_lake(store, folder).ahead_rows == 2
        store.apply(spec(NEW))
        assert store.stats(TABLE).ahead_rows == 1
        assert to_lake(store, folder).caught_up_files == 1
        assert store.stats(TABLE).ahead_rows == 1
        assert to_lake(store, folder).caught_up_files == 0
        store.apply(spec(NEWEST))
        sql = "SELECT name, last, size FROM t.m ORDER BY last DESC, name"
        rows = [(row["name"], row["last"] or "", row["size"]) for row in store.query(sql)]
        assert rows == [("full", "z", 6), ("full", "", 6), ("plain", "", None)]
        assert to_lake(store, folder).caught_up_files == 1
        again = [(row["name"], row["last"] or "", row["size"]) for row in store.query(sql)]
        assert again == rows
        assert store.stats(TABLE).ahead_rows == 0


def test_small_files_with_and_without_whole_events_are_merged(folder):
    with LocalStore.open(folder) as store:
        store.apply(spec(OLD))
        for number in range(8):
            sent = event(NEW, **FULL) if number % 2 else event(OLD, name="plain")
            put(store, sent, start=number)
            report = to_lake(store, folder)
        assert report.merged_files == 8
        assert (store.stats(TABLE).rows, store.stats(TABLE).ahead_rows) == (8, 4)
        store.apply(spec(NEW))
        assert next(iter(store.query("SELECT SUM(size) AS s, COUNT(*) AS n FROM t.m"))) == {
            "s": 24, "n": 8,
        }  # fmt: skip


def test_rows_from_before_a_repeated_column_have_an_empty_list_in_it(folder):
    with LocalStore.open(folder) as store:
        store.apply(spec(OLD))
        put(store, event(OLD, name="plain"))
        to_lake(store, folder)
        store.apply(spec(NEW))
        sql = "SELECT ARRAY_LENGTH(tags) AS n, tags, size FROM t.m"
        assert list(store.query(sql)) == [{"n": 0, "tags": [], "size": None}]
        put(store, event(NEW, name="later"), start=7, body=NEW)
        to_lake(store, folder)
        assert [row["n"] for row in store.query(sql)] == [0, 0]


def test_a_sender_of_an_older_definition_loses_nothing_when_a_field_was_removed(folder):
    """The column stays; what is sent for it is kept with the event."""
    shrunk = OLD.replace("string name = 1;", "reserved 1;")
    with LocalStore.open(folder) as store:
        store.apply(spec(OLD))
        put(store, event(OLD, name="before"))
        store.apply(spec(shrunk))
        put(store, event(OLD, name="after"), start=1)
        assert store.stats(TABLE).ahead_rows == 2
        to_lake(store, folder)
        store.apply(spec(OLD))
        names = [row["name"] for row in store.query("SELECT name FROM t.m ORDER BY 1")]
        assert names == ["after", "before"]


def test_a_folder_of_the_format_before_is_brought_up(folder):
    with LocalStore.open(folder) as store:
        store.apply(spec(OLD))
        put(store, event(OLD, name="plain"))
    db = sqlite3.connect(f"{folder}/store.db")
    with db:
        db.execute("ALTER TABLE files DROP COLUMN ahead_rows")
        db.execute("UPDATE facts SET value = '1' WHERE key = 'format'")
    db.close()
    with pytest.raises(CorruptStoreError, match="open it once for writing"):
        LocalStore.open(folder, writer=False)
    with LocalStore.open(folder) as store:
        to_lake(store, folder)
        assert [row["name"] for row in store.query("SELECT name FROM t.m")] == ["plain"]
