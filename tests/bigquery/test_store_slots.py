"""Slots of workflows in BigQuery: the suite of every store, over the local surface; the script."""

import dataclasses
import re

import pyarrow as pa
import pytest
import requests
from google.api_core import exceptions as api
from warehouse_world import WarehouseSlotsContract, bigquery_store, served

from eventmill.base.errors import UnavailableError
from eventmill.schema.table import TableId
from eventmill.store.bigquery.store import BigQueryStore
from eventmill.store.memory import MemoryStore
from eventmill.store.slot_script import SlotScript, read_slot_script, write_slot_script
from eventmill.store.slots import SlotOutcome
from eventmill.testing.contracts.slots import hour, output
from eventmill.testing.events import BUILDS, build_spec

SLOTS, OUTPUT, STAGING = (TableId("shop", "own", name) for name in ("slots", "daily", "slot_1"))


class TestSlotsInBigQuery(WarehouseSlotsContract):
    def test_the_account_counts_what_was_replaced(self, store):
        """BigQuery keeps no account of rows that are gone."""
        store.replace_slot(BUILDS, hour(0), output("a", 5), generation=1)
        store.replace_slot(BUILDS, hour(0), output("b", 2), generation=2)
        assert store.stats(BUILDS).rows == 2


@pytest.fixture
def store():
    with bigquery_store(MemoryStore()) as store:
        store.apply(build_spec())
        yield store


def tables_of(store):
    return {item.table_id for item in store.client.list_tables("local.warehouse")}


def test_no_staging_table_is_left(store):
    store.replace_slot(BUILDS, hour(0), output("a", 3), generation=1)
    assert not [name for name in tables_of(store) if name.startswith("slot_")]
    assert "slots" in tables_of(store)


def test_a_staging_table_that_stays_undoes_nothing(store, monkeypatch):
    def broken(*arguments, **options):
        raise requests.ConnectionError("connection reset")

    monkeypatch.setattr(store.client, "delete_table", broken)
    outcome = store.replace_slot(BUILDS, hour(0), output("a", 3), generation=1)
    assert outcome == SlotOutcome(3, 0)
    assert [name for name in tables_of(store) if name.startswith("slot_")]


def test_what_breaks_off_before_the_commit_changes_nothing(store, monkeypatch):
    store.replace_slot(BUILDS, hour(0), output("a", 3), generation=1)

    def lost(*arguments):
        raise api.ServiceUnavailable("lost")

    with monkeypatch.context() as patch:
        patch.setattr(store._slots, "_swap", lost)
        with pytest.raises(api.ServiceUnavailable):
            store.replace_slot(BUILDS, hour(0), output("b", 1), generation=2)
    (row,) = store.query("SELECT COUNT(*) AS n FROM contract.builds WHERE name = 'a'")
    assert row["n"] == 3
    assert not [name for name in tables_of(store) if name.startswith("slot_")]
    again = store.replace_slot(BUILDS, hour(0), output("b", 1), generation=2)
    assert again == SlotOutcome(1, 3)


def test_a_transaction_that_met_another_one_is_tried_again(store, monkeypatch):
    def aborted(sql, values):
        if sql.startswith("BEGIN"):
            raise api.BadRequest("Transaction is aborted due to concurrent update against table x")
        return asked(sql, values)

    asked = store._slots._ask
    monkeypatch.setattr(store._slots, "_ask", aborted)
    with pytest.raises(UnavailableError, match="another transaction was at"):
        store.replace_slot(BUILDS, hour(0), output("b", 1), generation=2)


def test_a_table_that_wants_a_partition_filter(store):
    filtered = TableId("local", "contract", "filtered")
    spec = dataclasses.replace(build_spec(filtered), require_partition_filter=True)
    partitioning = dataclasses.replace(spec.partitioning, column="at")
    store.apply(dataclasses.replace(spec, partitioning=partitioning))
    at = pa.array([1_790_000_000, None], pa.timestamp("s", "UTC"))
    rows = pa.table({"name": ["a", "b"], "at": at})
    assert store.replace_slot(filtered, hour(0), rows, generation=1) == SlotOutcome(2, 0)
    assert store.replace_slot(filtered, hour(0), rows, generation=2) == SlotOutcome(2, 2)


@pytest.mark.parametrize("staging", [STAGING, None])
@pytest.mark.parametrize("conditions", [("TRUE",), ("at >= TIMESTAMP '0001-01-01'", "at IS NULL")])
def test_the_script_is_read_as_it_was_written(staging, conditions):
    script = SlotScript(SLOTS, OUTPUT, staging)
    text = write_slot_script(script, ("day", "group"), conditions)
    assert read_slot_script(text) == script
    assert text.count("DELETE FROM `shop.own.daily`") == len(conditions)
    assert ("`day`, `group`, `_insert_id`" in text) == (staging is not None)


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [
        ("COMMIT TRANSACTION", "ROLLBACK TRANSACTION"),
        ("generation > @generation", "generation < @generation"),
        ("_insert_id >= @low AND ", ""),
        (r"\(TRUE\)", "(TRUE); DELETE FROM `shop.own.other` WHERE (TRUE)"),
        ("DELETE FROM `shop.own.daily`", "DELETE FROM `shop.own.other`"),
        ("INSERT INTO `shop.own.daily`", "INSERT INTO `shop.own.other`"),
        ("SELECT `day`", "SELECT `night`"),
        ("$", "DROP TABLE `shop.own.daily`;"),
    ],
)
def test_no_other_script_is_read(pattern, instead):
    text = write_slot_script(SlotScript(SLOTS, OUTPUT, STAGING), ("day",))
    changed = re.sub(pattern, instead, text, count=1)
    assert changed != text
    assert read_slot_script(changed) is None


def test_another_script_is_refused_by_name(store):
    with pytest.raises(api.GoogleAPIError, match="a script other than the one"):
        store.client.query("BEGIN TRANSACTION; SELECT 1; COMMIT TRANSACTION;").result()


def test_only_who_may_replace_may_send_it():
    with served(MemoryStore()) as place, BigQueryStore(place) as store:
        store.apply(build_spec())
        store.replace_slot(BUILDS, hour(0), output("a", 1), generation=1)
        text = write_slot_script(
            SlotScript(TableId.parse("warehouse.slots"), TableId.parse("contract.gone"), None), ()
        )
        with pytest.raises(api.GoogleAPIError):
            store.client.query(text).result()
