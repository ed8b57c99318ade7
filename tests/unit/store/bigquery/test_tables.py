"""Tables and their definitions: races, other tools' work beside ours, the view."""

import dataclasses
import threading
from datetime import UTC, datetime

import pytest
from google.cloud import bigquery

from eventmill.base.errors import (
    CorruptStoreError,
    SchemaConflictError,
    TableNotFoundError,
    UnavailableError,
    UsageError,
)
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import Partitioning, TableId
from eventmill.store.bigquery import catalog
from eventmill.store.bigquery.definition import DEFINITION_LABEL, fields_of, reference
from eventmill.store.bigquery.events_in import StorageDoor
from eventmill.store.bigquery.place import BigQueryPlace
from eventmill.store.bigquery.storage_write import TableNotThereError
from eventmill.store.bigquery.store import PIECE_BYTES, BigQueryStore
from eventmill.store.bigquery.tables import BigQueryTables, view_sql
from eventmill.testing.events import BUILDS, build, build_batch, build_spec
from eventmill.testing.fakes import FakeClock
from eventmill.wire.batch import Batch

VIEW = TableId("local", "contract", "builds_deduplicated")
FOREIGN = [
    bigquery.SchemaField("name", "STRING"),
    bigquery.SchemaField("seconds", "INTEGER"),
]


def live(store, table=BUILDS):
    return store.client.get_table(reference(table))


def make_foreign(store, table=BUILDS, fields=FOREIGN, **more):
    store.client.create_dataset(table.dataset, exists_ok=True)
    made = bigquery.Table(reference(table), schema=fields)
    for name, value in more.items():
        setattr(made, name, value)
    return store.client.create_table(made)


def test_two_applies_at_once_make_one_table_with_one_definition(store, other):
    begin = threading.Barrier(2)
    made, failed = [], []

    def apply(one):
        begin.wait()
        try:
            made.append(one.apply(build_spec()))
        except SchemaConflictError as error:
            failed.append(error)

    threads = [threading.Thread(target=apply, args=(one,)) for one in (store, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []
    assert [table.version for table in made] == [1, 1]
    assert store.describe(BUILDS) == other.describe(BUILDS)


def test_a_change_by_others_since_the_table_was_read_is_not_overwritten(store, other, monkeypatch):
    store.apply(build_spec(version="older"))
    write, stale = BigQueryTables._write, []

    def late(self, seen, before, after):
        if not stale:
            stale.append(seen.etag)
            other.apply(build_spec(version="newer"))
        return write(self, seen, before, after)

    monkeypatch.setattr(store._tables, "_write", late.__get__(store._tables))
    applied = store.apply(build_spec())
    assert stale
    assert "host" in [column.name for column in applied.spec.columns]  # of the other's apply
    assert store.describe(BUILDS) == other.describe(BUILDS)
    assert store.put(build_batch("a", version="newer")).accepted == 1


def test_a_table_that_changes_at_every_try_is_given_up(store, monkeypatch):
    store.apply(build_spec(version="older"))
    monkeypatch.setattr(store._tables, "_write", lambda *_: False)
    with pytest.raises(SchemaConflictError, match="5 times"):
        store.apply(build_spec())


def test_a_table_of_other_tools_is_not_written_before_it_is_adopted(store):
    make_foreign(store)
    assert [column.name for column in store.describe(BUILDS).spec.columns] == ["name", "seconds"]
    with pytest.raises(TableNotFoundError, match="`eventmill table apply` adopts it"):
        store.put(build_batch("a", version="older"))
    assert store.stats(BUILDS).rows == 0


def test_a_table_of_other_tools_is_adopted_with_its_rows_and_labels(store):
    make_foreign(store, labels={"cost": "42"})
    old = [{"name": "old", "seconds": 1}, {"name": "older", "seconds": 2}]
    assert store.client.insert_rows_json(reference(BUILDS), old) == []
    adopted = store.apply(store.describe(BUILDS).spec)
    assert (adopted.version, live(store).labels["cost"]) == (1, "42")
    event = MessageType.load(adopted.spec.descriptor_set, adopted.spec.message).cls(name="new")
    fingerprint = adopted.spec.fingerprint
    batch = Batch.build(BUILDS, fingerprint, [b"i1"], [event.SerializeToString()])
    assert store.put(batch).accepted == 1
    (row,) = store.query("SELECT COUNT(*) AS n FROM contract.builds_deduplicated")
    assert row["n"] == 3
    assert store.apply(adopted.spec) == adopted  # and again, with the columns as they are


def test_labels_that_an_adopted_table_had_stay_when_its_definition_has_none(store):
    make_foreign(store, labels={"cost": "42"})
    store.apply(dataclasses.replace(store.describe(BUILDS).spec, labels={"team": "ci"}))
    labels = live(store).labels
    assert (labels["cost"], labels["team"]) == ("42", "ci")


def test_labels_and_policy_tags_of_others_are_kept(store):
    store.apply(dataclasses.replace(build_spec(version="older"), labels={"team": "ci"}))
    table = live(store)
    table.labels = {"cost": "42"}
    store.client.update_table(table, ["labels"])
    changed = dataclasses.replace(build_spec(), labels={"team": "builds"})
    store.apply(changed)
    labels = live(store).labels
    assert (labels["cost"], labels["team"]) == ("42", "builds")
    assert DEFINITION_LABEL in labels


def test_fields_of_others_stay_with_all_that_is_set_on_them():
    spec = build_spec()
    tagged = bigquery.SchemaField(
        "NAME", "STRING", policy_tags=bigquery.PolicyTagList(["projects/p/tags/secret"])
    )
    theirs = bigquery.SchemaField("theirs", "STRING")
    table = bigquery.Table("local.contract.builds", schema=[theirs, tagged])
    fields = fields_of(spec, table)
    assert [field.name for field in fields[:3]] == ["theirs", "NAME", "seconds"]
    assert fields[1].policy_tags.names == ("projects/p/tags/secret",)
    own = {field.name: field.mode for field in fields if field.name.startswith("_")}
    assert own == {"_insert_id": "NULLABLE", "_ingested_at": "NULLABLE"}
    # And again, on the table as it is then: BigQuery would refuse REQUIRED.
    again = fields_of(spec, bigquery.Table("local.contract.builds", schema=fields))
    assert [(f.name, f.mode) for f in again] == [(f.name, f.mode) for f in fields]


def test_a_table_goes_with_its_view_and_other_tables_stay(store):
    store.apply(build_spec())
    assert live(store, VIEW).table_type == "VIEW"
    store.drop(BUILDS)
    for table in (BUILDS, VIEW):
        with pytest.raises(TableNotFoundError):
            store.describe(table)


def test_a_table_that_has_the_views_name_is_neither_replaced_nor_removed(store):
    make_foreign(store, VIEW)
    with pytest.raises(SchemaConflictError, match="rename or remove it"):
        store.apply(build_spec())
    store.drop(BUILDS)
    assert live(store, VIEW).table_type == "TABLE"


def test_a_view_that_is_missing_is_made_by_the_next_apply(store):
    store.apply(build_spec())
    store.client.delete_table(reference(VIEW))
    store.apply(build_spec())
    assert live(store, VIEW).table_type == "VIEW"


def test_the_view_shows_each_event_once_and_rows_of_others_all(store):
    spec = build_spec()
    sql = view_sql(spec)
    assert "_insert_id IS NULL OR ROW_NUMBER()" in sql
    store.apply(spec)
    store.put(build_batch("a", "b"))
    (row,) = store.query(f"SELECT COUNT(*) AS n FROM ({sql})")
    assert row["n"] == 2


def test_a_definition_that_was_deleted_is_told_and_mended_by_an_apply(store, place):
    store.apply(build_spec())
    table = live(store)
    table.labels = {DEFINITION_LABEL: "f" * 24}
    store.client.update_table(table, ["labels"])
    clock = FakeClock()
    with BigQueryStore(place, clock) as fresh:
        began = clock.monotonic()
        with pytest.raises(CorruptStoreError, match="again mends it"):
            fresh.describe(BUILDS)
        assert clock.monotonic() - began >= catalog.SETTLING_SECONDS
        mended = fresh.apply(build_spec())
        assert fresh.describe(BUILDS) == mended
        assert fresh.put(build_batch("a")).accepted == 1


def test_definitions_and_rejected_events_are_where_the_address_says(place):
    elsewhere = dataclasses.replace(place, own_dataset="meta")
    with BigQueryStore(elsewhere) as store:
        store.apply(build_spec())
        store.put(build_batch("a", "b", events=[build("a"), b"\xff\xff"]))
        assert {table.table_id for table in store.client.list_tables("meta")} >= {
            "definitions", "quarantine", "quarantine_deduplicated",
        }  # fmt: skip
        assert [table.id for table in store.tables()] == [BUILDS]


def test_a_large_rejected_event_is_kept_in_pieces_that_make_it_whole(store):
    store.apply(build_spec())
    event = b"\xff" + bytes(range(256)) * 9_000  # no message, and larger than two pieces
    verdict = store.put(build_batch("big", "good", events=[event, build("good")]))
    assert (verdict.accepted, len(verdict.rejected)) == (1, 1)
    kept = store.query(
        "SELECT payload, message FROM warehouse.quarantine_deduplicated ORDER BY message"
    )
    pieces = [dict(row) for row in kept]
    assert len(pieces) == -(-len(event) // PIECE_BYTES) == 3
    assert [piece["message"][:11] for piece in pieces] == [
        "part 1 of 3",
        "part 2 of 3",
        "part 3 of 3",
    ]
    assert b"".join(piece["payload"] for piece in pieces) == event


# -- the minutes after a change ---------------------------------------------------------------


def unknown_for(monkeypatch, times, door=StorageDoor):
    append, left = door.append, [times]

    def late(self, *args):
        if left[0]:
            left[0] -= 1
            raise TableNotThereError("not known yet")
        return append(self, *args)

    monkeypatch.setattr(door, "append", late)
    return left


def test_a_writer_that_does_not_know_the_table_yet_is_a_matter_of_time(store, monkeypatch):
    store.apply(build_spec())
    left = unknown_for(monkeypatch, 1)
    with pytest.raises(UnavailableError) as raised:
        store.put(build_batch("a"))
    assert raised.value.retry_after_seconds
    assert store.put(build_batch("a")).accepted == 1
    assert left == [0]


def test_a_table_that_was_removed_is_no_matter_of_time(store, other, monkeypatch):
    store.apply(build_spec())
    store.put(build_batch("a"))
    other.drop(BUILDS)
    unknown_for(monkeypatch, 1)
    with pytest.raises(TableNotFoundError):
        store.put(build_batch("b"))


def test_a_rejected_event_waits_for_its_table_and_the_good_ones_are_not_sent_again(
    place, monkeypatch
):
    clock = FakeClock()
    with BigQueryStore(place, clock) as store:
        store.apply(build_spec())
        append, calls = StorageDoor.append, []

        def late(self, *args):
            calls.append(self._table.table)
            if calls.count("quarantine") in (1, 2) and calls[-1] == "quarantine":
                raise TableNotThereError("not known yet")
            return append(self, *args)

        monkeypatch.setattr(StorageDoor, "append", late)
        verdict = store.put(build_batch("a", "b", events=[build("a"), b"\xff\xff"]))
    assert (verdict.accepted, len(verdict.rejected)) == (1, 1)
    assert calls == ["builds", "quarantine", "quarantine", "quarantine"]


def test_all_or_none_is_had_by_one_api_alone_and_judges_before_it_writes(store, place):
    store.apply(build_spec())
    with pytest.raises(Exception, match="none was written"):
        store.load(build_batch("a", "b", events=[build("a"), b"\xff\xff"]))
    assert store.stats(BUILDS).rows == 0
    store.load(build_batch("a", "b"))
    assert store.stats(BUILDS).rows == 2
    older = dataclasses.replace(place, write="insert_all")
    with BigQueryStore(older) as older, pytest.raises(UsageError):
        older.load(build_batch("c"))


def test_a_definition_is_looked_up_again_when_it_is_old(place, other):
    clock = FakeClock()
    with BigQueryStore(place, clock) as store:
        store.apply(build_spec())
        store.put(build_batch("a"))
        other.apply(build_spec(version="newer"))
        clock.sleep(61)
        assert store.put(build_batch("b")).accepted == 1
        assert "host" in [c.name for c in store._entries[BUILDS][0].definition.table.spec.columns]


def test_the_place_of_a_store_is_told_without_its_options():
    place = BigQueryPlace("p1", endpoint="http://127.0.0.1:1")
    with BigQueryStore(place) as store:
        assert (store.address, repr(store)) == ("bigquery://p1", "<BigQueryStore p1>")


def test_rows_are_counted_in_a_table_that_asks_for_a_filter(store):
    partitioning = Partitioning(column="at")
    spec = dataclasses.replace(
        build_spec(), partitioning=partitioning, require_partition_filter=True
    )
    store.apply(spec)
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    store.put(build_batch("a", "b", events=[build("a", at=moment), build("b")]))
    stats = store.stats(BUILDS)
    assert (stats.rows, stats.newest_event_at) == (2, moment.timestamp())
