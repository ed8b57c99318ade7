"""What every store must keep that can replace the rows of a slot."""

# ruff: noqa: D102, S101
# A contract's tests say in their names what they hold, and assert is how.

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import pyarrow as pa
import pytest

from eventmill.base.errors import (
    AccessError,
    OutputError,
    SchemaConflictError,
    StaleAttemptError,
    TableNotFoundError,
)
from eventmill.schema.table import Partitioning, TableId
from eventmill.store.port import Store
from eventmill.store.slots import SlotKey, SlotOutcome, SlotStore
from eventmill.testing.events import BUILDS, build_batch, build_spec

WAIT_SECONDS = 60.0
HOUR = 3600
DAY = 86_400
BY_DAY = TableId("local", "contract", "by_day")
_FIRST = 1_790_000_000 // DAY * DAY


class StoreOfSlots(Store, SlotStore, Protocol):
    """A store that keeps this suite."""


def hour(number: int, workflow: str = "hourly", *, hours: int = 1) -> SlotKey:
    """Return the slot that begins ``number`` hours after the suite's first day began."""
    start = _FIRST + number * HOUR
    return SlotKey(workflow, start, start + hours * HOUR)


def output(name: str, count: int, value: int = 1) -> pa.Table:
    """Return ``count`` rows of builds."""
    return pa.table({"name": [name] * count, "seconds": pa.array([value] * count, pa.int32())})


class SlotStoreContract:
    """Subclass with one fixture, ``store``: open and without tables; closed by the fixture."""

    own_table = TableId("local", "eventmill", "quarantine")
    """A table that the store keeps about itself."""

    def settle(self, store: StoreOfSlots) -> None:
        """Do now what the store does in its own time, such as compaction; here nothing."""

    @pytest.fixture(autouse=True)
    def builds(self, store: StoreOfSlots) -> TableId:
        """Make the table that the suite writes into."""
        return store.apply(build_spec()).id

    def counts(self, store: StoreOfSlots) -> dict[str, int]:
        """Return how many rows there are of each name."""
        sql = "SELECT name, COUNT(*) AS n FROM contract.builds GROUP BY name"
        return {row["name"]: row["n"] for row in store.query(sql)}

    def test_rows_are_there_with_insert_ids_of_their_slot(self, store: StoreOfSlots) -> None:
        slot = hour(0)
        rows = pa.table({"name": ["a", "b"], "seconds": [1, 2]})
        assert store.replace_slot(BUILDS, slot, rows, generation=1) == SlotOutcome(2, 0)
        found = store.query(
            "SELECT _insert_id AS id, name, ok, tags FROM contract.builds ORDER BY 1"
        )
        assert list(found) == [
            {"id": slot.insert_id(0), "name": "a", "ok": None, "tags": []},
            {"id": slot.insert_id(1), "name": "b", "ok": None, "tags": []},
        ]

    def test_replacing_twice_is_replacing_once(self, store: StoreOfSlots) -> None:
        store.replace_slot(BUILDS, hour(0), output("a", 3), generation=1)
        again = store.replace_slot(BUILDS, hour(0), output("a", 3), generation=1)
        assert again == SlotOutcome(3, 3)
        self.settle(store)
        store.replace_slot(BUILDS, hour(0), output("a", 3), generation=1)
        assert self.counts(store) == {"a": 3}

    def test_other_rows_take_their_place_also_fewer_and_none(self, store: StoreOfSlots) -> None:
        for turn, (name, count) in enumerate((("a", 5), ("b", 2), ("c", 0), ("d", 4))):
            store.replace_slot(BUILDS, hour(0), output(name, count), generation=turn)
            assert self.counts(store) == ({name: count} if count else {})
            self.settle(store)
            assert self.counts(store) == ({name: count} if count else {})

    def test_a_table_without_columns_empties_a_slot(self, store: StoreOfSlots) -> None:
        store.replace_slot(BUILDS, hour(0), output("a", 5), generation=1)
        emptied = store.replace_slot(BUILDS, hour(0), pa.table({}), generation=2)
        assert emptied == SlotOutcome(0, 5)
        assert self.counts(store) == {}

    def test_rows_may_lie_in_several_partitions_and_in_others_the_next_time(
        self, store: StoreOfSlots
    ) -> None:
        store.apply(replace(build_spec(BY_DAY), partitioning=Partitioning(column="at")))

        def on_days(*days: int) -> pa.Table:
            moments = [None if day < 0 else (_FIRST + day * DAY) * 1000 for day in days]
            at = pa.array(moments, pa.timestamp("ms", "Europe/Berlin"))
            return pa.table({"name": [str(day) for day in days], "at": at})

        def names() -> list[str]:
            found = store.query("SELECT name FROM contract.by_day ORDER BY at, name")
            return [row["name"] for row in found]

        store.replace_slot(BY_DAY, hour(0), on_days(0, 1, 2, -1), generation=1)
        store.replace_slot(BY_DAY, hour(1), on_days(1), generation=1)
        assert names() == ["-1", "0", "1", "1", "2"]
        self.settle(store)
        outcome = store.replace_slot(BY_DAY, hour(0), on_days(2, 3), generation=2)
        assert outcome == SlotOutcome(2, 4)
        assert names() == ["1", "2", "3"]
        in_range = "SELECT name FROM contract.by_day WHERE at >= @t ORDER BY at"
        late = datetime.fromtimestamp(_FIRST + 2 * DAY, UTC)
        assert [row["name"] for row in store.query(in_range, {"t": late})] == ["2", "3"]

    def test_a_slot_takes_the_place_of_those_within_it(self, store: StoreOfSlots) -> None:
        for number in range(4):
            store.replace_slot(BUILDS, hour(number), output(f"h{number}", 2), generation=number)
        outcome = store.replace_slot(BUILDS, hour(1, hours=2), output("two", 1), generation=9)
        assert outcome == SlotOutcome(1, 4)
        assert self.counts(store) == {"h0": 2, "two": 1, "h3": 2}

    @pytest.mark.parametrize(("number", "hours"), [(1, 1), (0, 2), (2, 3), (0, 1)])
    def test_a_slot_across_one_that_has_rows_is_refused_with_the_way_out(
        self, store: StoreOfSlots, number: int, hours: int
    ) -> None:
        store.replace_slot(BUILDS, hour(0, hours=3), output("long", 2), generation=1)
        if (number, hours) == (0, 1):
            self.settle(store)
        with pytest.raises(SchemaConflictError, match="with no rows"):
            store.replace_slot(BUILDS, hour(number, hours=hours), output("x", 1), generation=2)
        assert self.counts(store) == {"long": 2}
        store.replace_slot(BUILDS, hour(0, hours=3), pa.table({}), generation=3)
        store.replace_slot(BUILDS, hour(number, hours=hours), output("x", 1), generation=4)
        assert self.counts(store) == {"x": 1}
        with pytest.raises(StaleAttemptError):  # who still works on the long slot comes too late
            store.replace_slot(BUILDS, hour(0, hours=3), output("long", 2), generation=2)

    def test_an_attempt_that_was_overtaken_is_refused(self, store: StoreOfSlots) -> None:
        store.replace_slot(BUILDS, hour(0), output("new", 2), generation=7)
        with pytest.raises(StaleAttemptError, match="7"):
            store.replace_slot(BUILDS, hour(0), output("old", 3), generation=6)
        assert self.counts(store) == {"new": 2}
        store.replace_slot(BUILDS, hour(0), pa.table({}), generation=8)
        with pytest.raises(StaleAttemptError, match="8"):  # remembered without rows as well
            store.replace_slot(BUILDS, hour(0), output("old", 3), generation=7)
        assert self.counts(store) == {}

    def test_a_longer_slot_is_overtaken_by_a_later_one_within_it(self, store: StoreOfSlots) -> None:
        store.replace_slot(BUILDS, hour(1), output("new", 2), generation=7)
        with pytest.raises(StaleAttemptError):
            store.replace_slot(BUILDS, hour(0, hours=3), output("old", 3), generation=6)
        assert self.counts(store) == {"new": 2}

    def test_rows_that_were_put_stay(self, store: StoreOfSlots) -> None:
        slot = hour(0)
        alike = [slot.insert_id(0).encode(), b"z"]  # as of a table that was copied by its events
        store.put(build_batch("before", "alike", insert_ids=[b"a", alike[0]]))
        store.replace_slot(BUILDS, slot, output("x", 2), generation=1)
        self.settle(store)
        store.put(build_batch("after", insert_ids=[b"c"]))
        store.replace_slot(BUILDS, slot, output("y", 1), generation=2)
        self.settle(store)
        store.replace_slot(BUILDS, slot, pa.table({}), generation=3)
        assert self.counts(store) == {"before": 1, "alike": 1, "after": 1}

    def test_an_insert_id_of_a_slot_is_no_duplicate_for_who_puts(self, store: StoreOfSlots) -> None:
        store.replace_slot(BUILDS, hour(0), output("x", 2), generation=1)
        self.settle(store)
        batch = build_batch("put", insert_ids=[hour(0).insert_id(1).encode()])
        assert store.put(batch).accepted == 1
        assert self.counts(store) == {"x": 2, "put": 1}

    def test_slots_of_other_workflows_stay(self, store: StoreOfSlots) -> None:
        names = ["hourly", "hourly-2", "hourly_2", "hourly2", "hourl", "hourlyz"]
        for name in names:
            store.replace_slot(BUILDS, hour(0, name), output(name, 1), generation=5)
        self.settle(store)
        outcome = store.replace_slot(BUILDS, hour(0, hours=3), output("x", 1), generation=6)
        assert outcome == SlotOutcome(1, 1)
        assert self.counts(store) == dict.fromkeys(["x", *names[1:]], 1)

    def test_slots_that_were_put_together_are_replaced_one_by_one(
        self, store: StoreOfSlots
    ) -> None:
        expected = {}
        for number in range(12):
            name = f"h{number:02}"
            store.replace_slot(BUILDS, hour(number), output(name, number + 1), generation=1)
            expected[name] = number + 1
        self.settle(store)
        assert self.counts(store) == expected
        for number in (3, 0, 11):
            outcome = store.replace_slot(BUILDS, hour(number), output("new", 1), generation=2)
            assert outcome == SlotOutcome(1, number + 1)
            del expected[f"h{number:02}"]
        again = store.replace_slot(BUILDS, hour(3), output("new", 1), generation=3)
        assert again == SlotOutcome(1, 1)
        assert self.counts(store) == {**expected, "new": 3}
        self.settle(store)
        assert self.counts(store) == {**expected, "new": 3}

    def test_rows_that_do_not_fit_change_nothing_and_each_column_is_named(
        self, store: StoreOfSlots
    ) -> None:
        store.replace_slot(BUILDS, hour(0), output("a", 2), generation=1)
        bad = pa.table({"nmae": ["x", "y"], "seconds": [1.5, 2.5], "ok": ["yes", "no"]})
        with pytest.raises(OutputError, match=r"(?s)nmae.*did you mean name.*seconds.*ok"):
            store.replace_slot(BUILDS, hour(0), bad, generation=9)
        far = pa.table({"at": pa.array([2**62, None], pa.timestamp("us", "UTC"))})
        with pytest.raises(OutputError, match=r"at: .* 1 row"):
            store.replace_slot(BUILDS, hour(0), far, generation=9)
        assert self.counts(store) == {"a": 2}
        # The attempt that failed has not overtaken anybody.
        store.replace_slot(BUILDS, hour(0), output("b", 1), generation=1)
        assert self.counts(store) == {"b": 1}

    def test_a_column_that_is_new_is_null_in_the_rows_of_before(self, store: StoreOfSlots) -> None:
        steps = [[{"name": "s", "seconds": 2.0}]]
        store.replace_slot(BUILDS, hour(0), pa.table({"name": ["a"], "steps": steps}), generation=1)
        self.settle(store)
        store.apply(build_spec(version="newest"))
        store.replace_slot(
            BUILDS, hour(1), pa.table({"name": ["b"], "ports": [[1, 2]]}), generation=1
        )
        sql = "SELECT name, host, ports, steps FROM contract.builds ORDER BY name"
        step = {"name": "s", "seconds": 2.0, "attempt": None, "notes": []}
        expected = [
            {"name": "a", "host": None, "ports": [], "steps": [step]},
            {"name": "b", "host": None, "ports": [1, 2], "steps": []},
        ]
        assert list(store.query(sql)) == expected
        self.settle(store)
        assert list(store.query(sql)) == expected

    def test_the_account_counts_what_was_replaced(self, store: StoreOfSlots) -> None:
        store.put(build_batch("put"))
        store.replace_slot(BUILDS, hour(0), output("a", 5), generation=1)
        store.replace_slot(BUILDS, hour(0), output("b", 2), generation=2)
        for _ in range(2):
            stats = store.stats(BUILDS)
            assert (stats.rows, stats.replaced_rows, stats.accepted) == (3, 5, 8)
            self.settle(store)

    def test_times_of_ingestion_grow_with_every_call(self, store: StoreOfSlots) -> None:
        sql = "SELECT name, _ingested_at AS at FROM contract.builds ORDER BY _ingested_at"
        for turn in range(5):
            store.put(build_batch(f"put{turn}"))
            store.replace_slot(BUILDS, hour(turn), output(f"slot{turn}", 1), generation=1)
        rows = list(store.query(sql))
        assert [row["name"] for row in rows] == [
            f"{kind}{turn}" for turn in range(5) for kind in ("put", "slot")
        ]
        assert len({row["at"] for row in rows}) == 10

    def test_a_reader_sees_the_rows_of_before_or_those_of_after(self, store: StoreOfSlots) -> None:
        sets = {"a": (10, 1), "b": (40, 3)}
        allowed = {(count, count * value) for count, value in sets.values()}
        store.replace_slot(BUILDS, hour(0), output("a", *sets["a"]), generation=0)
        seen: list[tuple[int, int]] = []
        stop = threading.Event()

        def read() -> None:
            sql = "SELECT COUNT(*) AS n, SUM(seconds) AS s FROM contract.builds"
            while not stop.is_set():
                (row,) = store.query(sql)
                seen.append((row["n"], row["s"]))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for turn in range(1, 2_000):
                if turn > 30 and set(seen) >= allowed and len(seen) > 30:
                    break
                name = "ab"[turn % 2]
                rows = output(name, *sets[name])
                store.replace_slot(BUILDS, hour(0), rows, generation=turn)
                if turn % 5 == 0 and turn < 30:
                    self.settle(store)
        finally:
            stop.set()
            reader.join(WAIT_SECONDS)
        assert set(seen) == allowed, "the reader must have seen both, and nothing else"

    def test_many_rows_come_as_they_are(self, store: StoreOfSlots) -> None:
        count = 30_000
        numbers = pa.array(range(count), pa.uint32())
        rows = pa.table({"name": pa.array(["n"] * count).dictionary_encode(), "seconds": numbers})
        store.replace_slot(BUILDS, hour(0), rows, generation=1)
        sql = (
            "SELECT COUNT(*) AS n, SUM(seconds) AS s, COUNT(DISTINCT _insert_id) AS ids"
            " FROM contract.builds"
        )
        (row,) = store.query(sql)
        assert row == {"n": count, "s": count * (count - 1) // 2, "ids": count}

    def test_there_must_be_a_table_and_not_the_stores_own(self, store: StoreOfSlots) -> None:
        nowhere = TableId("local", "contract", "nowhere")
        with pytest.raises(TableNotFoundError, match="nowhere"):
            store.replace_slot(nowhere, hour(0), output("a", 1), generation=1)
        with pytest.raises(AccessError):
            store.replace_slot(self.own_table, hour(0), pa.table({}), generation=1)
