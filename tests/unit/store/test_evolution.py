"""Definitions that grow over live data: nothing is rewritten for a column, nothing is dropped."""

import sqlite3
from contextlib import closing
from itertools import product
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from proto_world import compiled

from eventmill.base.errors import CorruptStoreError
from eventmill.base.settings import StoreSettings
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import Partitioning, TableId
from eventmill.schema.wire_walk import bytes_field, encode_varint
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.decode import FrameDecoder
from eventmill.store.local.frame import scan
from eventmill.store.local.store import LocalStore
from eventmill.store.memory import MemoryStore
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


@pytest.mark.parametrize("compacted", ["never", "before", "after", "both"])
def test_an_early_event_that_the_new_columns_cannot_hold_does_not_stop_its_table(folder, compacted):
    newer = (
        "message M { string name = 1; In in = 2; repeated In ins = 3; string text = 8;"
        " google.protobuf.Timestamp at = 9; uint64 big = 10; repeated string list = 11;"
        " string date = 12 [(bqschema.options).bq_type = 'DATE']; string good = 13; }"
    ) + IN % ""
    good = bytes_field(13, b"g")
    spoilt = {
        "no utf-8": bytes_field(8, b"\xff\xfe"),
        "no year": bytes_field(9, b"\x08" + encode_varint(2**40)),
        "over int64": b"\x50" + encode_varint(2**64 - 1),
        "another wire type": b"\x40\x05",
        "no element": bytes_field(11, b"ok") + bytes_field(11, b"\xff"),
        "no date": bytes_field(12, b"2026-02-30"),
        "a group": b"\xa3\x01\x08\x05\xa4\x01",
    }
    with LocalStore.open(folder) as store:
        store.apply(spec(OLD))
        put(store, *(event(OLD, name=name) + good + bad for name, bad in spoilt.items()))
        put(store, event(OLD, name="fine") + good, start=100)
        if compacted in ("before", "both"):
            to_lake(store, folder)
        store.apply(spec(newer))
        for _ in range(2):
            rows = {row["name"]: row for row in store.query("SELECT * FROM t.m")}
            assert set(rows) == {*spoilt, "fine"}
            assert {row["good"] for row in rows.values()} == {"g"}
            for row in rows.values():
                assert (row["text"] or "", row["at"], row["big"] or 0) == ("", None, 0)
                assert (row["list"], row["date"]) == ([], None)
            # The field of another wire type is read by protobuf itself as one it does not know.
            assert store.stats(TABLE).ahead_rows == len(spoilt)
            if compacted in ("after", "both"):
                assert to_lake(store, folder).errors == []


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


@pytest.mark.parametrize("compacted", [False, True])
def test_the_column_of_a_removed_field_keeps_what_it_had_and_takes_what_older_senders_send(
    folder, compacted
):
    shrunk = OLD.replace("string name = 1;", "reserved 1;")
    with LocalStore.open(folder) as store:
        store.apply(spec(OLD))
        put(store, event(OLD, name="before"))
        store.apply(spec(shrunk))
        put(store, event(OLD, name="after"), start=1)
        put(store, event(shrunk), start=2, body=shrunk)
        for _ in range(2):
            names = [row["name"] for row in store.query("SELECT name FROM t.m ORDER BY 1")]
            assert names == [None, "after", "before"]
            assert store.stats(TABLE).ahead_rows == 0
            if compacted:
                to_lake(store, folder)
        no_text = store.put(
            Batch.build(TABLE, "", [b"bad"], [event(OLD) + bytes_field(1, b"\xff")])
        )
        assert no_text.rejected[0].reason == "invalid_utf8"
        store.apply(spec(OLD))
        names = [row["name"] or "" for row in store.query("SELECT name FROM t.m ORDER BY 1")]
        assert names == ["", "after", "before"]


@pytest.mark.parametrize("format_", [1, 2])
def test_a_folder_of_a_format_before_is_brought_up(folder, format_):
    with LocalStore.open(folder) as store:
        store.apply(spec(OLD))
        put(store, event(OLD, name="plain"))
    db = sqlite3.connect(f"{folder}/store.db")
    with db:
        if format_ < 2:
            db.execute("ALTER TABLE files DROP COLUMN ahead_rows")
        db.execute("ALTER TABLE files DROP COLUMN is_output")
        db.execute("ALTER TABLE tables DROP COLUMN replaced_rows")
        db.execute("ALTER TABLE tables DROP COLUMN last_ingested_us")
        db.execute("DROP TABLE slots")
        db.execute("DROP TABLE slot_files")
        db.execute(f"UPDATE facts SET value = '{format_}' WHERE key = 'format'")
    db.close()
    with pytest.raises(CorruptStoreError, match="open it once for writing"):
        LocalStore.open(folder, writer=False)
    with LocalStore.open(folder) as store:
        to_lake(store, folder)
        assert [row["name"] for row in store.query("SELECT name FROM t.m")] == ["plain"]


# -- the same answer whenever a store compacts ---------------------------------------------------

PLAIN_IN = "message In { string a = 1; %s } "
FEW = (
    "message M { string name = 1; In in = 2; repeated In ins = 3; map<string, In> by = 4;"
    " In none = 5; Out out = 6; %s } message Out { In deep = 1; string o = 2; } "
)
MANY = (
    FEW
    % (
        "int64 i = 10; string s = 11; bool b = 12; double d = 13; bytes y = 14; E e = 15;"
        " string day = 16 [(bqschema.options).bq_type = 'DATE'];"
        " oneof o { string oa = 24; int32 ob = 25; }"
        " int64 us = 17 [(bqschema.options).bq_type = 'TIMESTAMP'];"
        " uint64 num = 18 [(bqschema.options).bq_type = 'NUMERIC']; float f = 19;"
        " map<string, string> doc = 20 [(bqschema.options).bq_type = 'JSON'];"
        " repeated In more = 21; In one = 22; map<string, int32> m = 23;"
        " google.protobuf.Struct st = 26; repeated string tags = 27;"
        " optional int32 opt = 28; google.protobuf.Timestamp at = 29;"
    )
    + PLAIN_IN
    % (
        "string b = 2; int32 n = 3; repeated string l = 4; repeated Low ls = 5; Low low = 6;"
        " map<string, string> doc = 7 [(bqschema.options).bq_type = 'STRING'];"
    )
    + "message Low { string z = 1; } enum E { ZERO = 0; ONE = 1; }"
)
FEW = FEW % "" + PLAIN_IN % ""
NEW_IN = {"b": None, "n": None, "l": [], "ls": [], "low": None, "doc": None}
NEW_M = {
    "i": None, "s": None, "b": None, "d": None, "y": None, "e": None, "day": None, "oa": None,
    "ob": None, "us": None, "num": None, "f": None, "doc": None, "more": [], "one": None, "m": [],
    "st": None, "tags": [], "opt": None, "at": None,
}  # fmt: skip
OLD_ROW = {
    "name": "old", "in": {"a": "1", **NEW_IN}, "ins": [{"a": "2", **NEW_IN}, {"a": "", **NEW_IN}],
    "by": [{"key": "k", "value": {"a": "3", **NEW_IN}}], "none": None,
    "out": {"deep": {"a": "4", **NEW_IN}, "o": "5"}, **NEW_M,
}  # fmt: skip
OLD_EVENT = {
    "name": "old", "in": {"a": "1"}, "ins": [{"a": "2"}, {}], "by": {"k": {"a": "3"}},
    "out": {"deep": {"a": "4"}, "o": "5"},
}  # fmt: skip
EMPTY_ROW = {
    "name": "", "in": None, "ins": [], "by": [], "none": None, "out": None, **NEW_M,
}  # fmt: skip
AHEAD_EVENT = {
    "name": "ahead", "s": "q", "in": {"n": 1}, "by": {"k": {"b": "u"}}, "one": {"a": "g"},
    "out": {"deep": {"low": {}}},
}  # fmt: skip
AHEAD_ROW = {
    **EMPTY_ROW, "name": "ahead", "s": "q", "i": 0, "in": {"a": "", **NEW_IN, "n": 1},
    "by": [{"key": "k", "value": {"a": "", **NEW_IN, "b": "u"}}],
    "out": {"deep": {"a": "", **NEW_IN, "low": {"z": ""}}, "o": ""},
    # The event carries the record, so that its sender knew it: what it left unset has its default.
    "one": {"a": "g", "b": "", "n": 0, "l": [], "ls": [], "low": None, "doc": "{}"},
}  # fmt: skip
ZERO_ON_THE_WIRE = b"\x50\x00"
"""Field 10, i, explicitly 0: as a sender writes it that declares it ``optional``."""


def local_at(moments, folder):
    """Return a store that compacts when told of a moment that is one of ``moments``."""
    store = LocalStore.open(folder)

    def settle(moment):
        if moment in moments:
            store.seal()
            report = compact_once(folder, options=StoreSettings(file_grace_seconds=0.0))
            assert report.segments or report.caught_up_files
            assert report.errors == []

    return store, settle


def in_memory(moments, folder):
    return MemoryStore(), lambda moment: None


OWN = ("_insert_id", "_ingested_at")
MOMENTS = ("before", "between", "after")
EVERY_MOMENT = [
    pytest.param(make, [m for m, is_in in zip(MOMENTS, chosen, strict=True) if is_in])
    for make in (local_at, in_memory)
    for chosen in (product((False, True), repeat=3) if make is local_at else [(False,) * 3])
]


@pytest.mark.parametrize(("make", "moments"), EVERY_MOMENT)
def test_rows_from_before_a_column_are_null_in_it_whenever_they_are_compacted(
    folder, make, moments
):
    store, settle = make(moments, folder)
    sql = "SELECT * FROM t.m ORDER BY _insert_id"
    with closing(store):
        store.apply(spec(FEW))
        early = [event(FEW, **OLD_EVENT), b"", event(MANY, **AHEAD_EVENT) + ZERO_ON_THE_WIRE]
        put(store, *early, body=FEW)
        settle("before")
        store.apply(spec(MANY))
        settle("between")
        assert list(store.query(sql)) == [OLD_ROW, EMPTY_ROW, AHEAD_ROW]
        put(store, event(MANY, name="new"), start=3, body=MANY)
        settle("after")
        *rows, new = store.query(sql)
        assert rows == [OLD_ROW, EMPTY_ROW, AHEAD_ROW]
        assert (new["i"], new["s"], new["e"], new["doc"], new["in"]) == (0, "", "ZERO", "{}", None)
        assert store.stats(TABLE).ahead_rows == 0
        counts = store.query(
            "SELECT COUNT(i) AS i, COUNT(m.in.n) AS n, COUNTIF(s = '') AS s FROM t.m"
        )
        assert list(counts) == [{"i": 2, "n": 1, "s": 1}]


STEPS = ("first", "second", "third", "fourth")
KEPT = "string name = 1; E e = 2;"
GROWING = (
    f"message M {{ {KEPT} int64 flips = 3; }} enum E {{ ZERO = 0; }}",
    f"message M {{ {KEPT} int64 flips = 3; int64 x = 4; }} enum E {{ ZERO = 0; ONE = 1; }}",
    f"message M {{ {KEPT} optional int64 flips = 3; int64 x = 4; int64 y = 5; }} %s",
    f"message M {{ {KEPT} optional int64 flips = 3; int64 x = 4; int64 y = 5; int64 z = 6; }} %s",
)
GROWING = [body.replace("%s", "enum E { ZERO = 0; ONE = 1; TWO = 2; }") for body in GROWING]
X, Y, TWO = b"\x20\x07", b"\x28\x08", b"\x10\x02"


@pytest.mark.parametrize(
    ("make", "moments"),
    [
        *((local_at, [s for s, is_in in zip(STEPS, chosen, strict=True) if is_in])
          for chosen in product((False, True), repeat=4)),
        (in_memory, []),
    ],
)  # fmt: skip
def test_an_event_is_read_by_the_first_definition_that_holds_all_of_it(folder, make, moments):
    store, settle = make(moments, folder)
    sql = "SELECT name, e, flips, x, y, z FROM t.m ORDER BY _insert_id"
    with closing(store):
        for number, (step, body) in enumerate(zip(STEPS, GROWING, strict=True)):
            store.apply(spec(body))
            # Of what no definition had a place for when the event came, only what it sets is there;
            # what its definition had is as that had it, whatever became of the field since.
            sent = (event(body, name=f"{number}") + more for more in (b"", TWO, X + TWO, X + Y))
            put(store, *sent, start=10 * (number + 1), body=body)
            settle(step)
        assert [tuple(row.values()) for row in store.query(sql)] == [
            ("0", "ZERO", 0, None, None, None), ("0", "2", 0, None, None, None),
            ("0", "2", 0, 7, None, None), ("0", "ZERO", None, 7, 8, None),
            ("1", "ZERO", 0, 0, None, None), ("1", "2", 0, 0, None, None),
            ("1", "2", 0, 7, None, None), ("1", "ZERO", None, 7, 8, None),
            ("2", "ZERO", None, 0, 0, None), ("2", "TWO", None, 0, 0, None),
            ("2", "TWO", None, 7, 0, None), ("2", "ZERO", None, 7, 8, None),
            ("3", "ZERO", None, 0, 0, 0), ("3", "TWO", None, 0, 0, 0),
            ("3", "TWO", None, 7, 0, 0), ("3", "ZERO", None, 7, 8, 0),
        ]  # fmt: skip


def test_a_file_without_whole_events_has_no_column_for_them(folder):
    body = "message M { string name = 1; google.protobuf.Timestamp at = 2; }"
    ahead = event(body, name="first", at={"seconds": 0}) + X
    with LocalStore.open(folder) as store:
        store.apply(spec(body, partitioning=Partitioning(column="at")))
        put(store, ahead, event(body, name="second", at={"seconds": 86_400}), body=body)
        assert to_lake(store, folder).ahead_rows == 1
    paths = sorted(Path(folder).glob("tables/local.t.m.*/lake/*/*.parquet"))
    extra = [set(pq.read_schema(path).names) - {"name", "at", *OWN} for path in paths]
    assert extra == [{"_whole_event", "_whole_event_version"}, set()]


@pytest.mark.parametrize("keeps_judge", [True, False])
def test_rows_of_one_file_that_different_definitions_judged_stay_apart(folder, keeps_judge):
    with LocalStore.open(folder) as store:
        for number, body in enumerate(GROWING[:2]):
            store.apply(spec(body))
            put(store, event(body, name=f"{number}") + Y, start=number, body=body)
        assert to_lake(store, folder).ahead_rows == 2
        if not keeps_judge:
            _without_judges(folder)
        store.apply(spec(GROWING[2]))
        # A file from before the judge was kept: its events were read as if by the file's own.
        first = ("0", None if keeps_judge else 0, 8)
        for _ in range(2):
            rows = store.query("SELECT name, x, y FROM t.m ORDER BY _insert_id")
            assert [tuple(row.values()) for row in rows] == [first, ("1", 0, 8)]
            to_lake(store, folder)


def _without_judges(folder):
    (path,) = Path(folder).glob("tables/local.t.m.*/lake/*/*.parquet")
    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows.drop_columns(["_whole_event_version"]), path)


def test_rows_of_the_newest_definition_are_read_without_a_look_at_earlier_ones(folder):
    asked = []
    with LocalStore.open(folder) as store:
        for body in GROWING[:2]:
            store.apply(spec(body))
        put(store, event(GROWING[1], name="new"), body=GROWING[1])
        (path,) = Path(folder).glob("tables/local.t.m.*/log/*.log")
        decoder = FrameDecoder(store.describe(TABLE), asked.append)
        frames = list(scan(path.read_bytes()))
    for for_lake in (True, False):
        assert decoder.decode(frames, for_lake=for_lake)["x"].to_pylist() == [0]
    assert decoder.count_ahead(frames) == 0
    assert asked == []
