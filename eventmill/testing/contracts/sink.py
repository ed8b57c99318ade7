"""What every sink must keep: the suite that makes "one door" true."""

# ruff: noqa: D102, S101, S608
# A contract's tests say in their names what they hold, and assert is how.

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from eventmill.base.errors import EventmillError, TableNotFoundError
from eventmill.schema.problem import Reason
from eventmill.schema.table import TableId
from eventmill.store.port import Store
from eventmill.testing.events import BUILDS, MESSAGE, build, build_batch, build_spec
from eventmill.wire.batch import BATCH_EVENTS_MAX, EVENT_BYTES_MAX, INSERT_ID_CHARACTERS_MAX, Batch
from eventmill.wire.sink import Catalog, Sink
from eventmill.wire.verdict import Verdict

QUARANTINED = """
SELECT insert_id, reason FROM {} WHERE table_name = @t ORDER BY insert_id
"""


class SinkContract:
    """Subclass with two fixtures.

    - ``store``: a ``Store``, open and without tables; closed by the fixture.
    - ``sink``: the ``Sink`` under test, whose events arrive in ``store``. It may be the store
      itself; closed by the fixture, and by one test before.
    """

    quarantine_table = "eventmill.quarantine"
    """Where each rejected event is listed once."""

    @pytest.fixture(autouse=True)
    def builds(self, store: Store) -> TableId:
        """Make the table that the suite puts into."""
        return store.apply(build_spec()).id

    def stored(self, store: Store) -> list[str]:
        """Return the names of all stored builds, ascending."""
        rows = store.query(f"SELECT name FROM {BUILDS.dataset}.{BUILDS.table} ORDER BY name")
        return [row["name"] for row in rows]

    def test_every_event_of_a_batch_is_accepted_and_stored(self, sink: Sink, store: Store) -> None:
        verdict = sink.put(build_batch("a", "b", "c"))
        assert verdict == Verdict(3)
        assert self.stored(store) == ["a", "b", "c"]

    def test_a_bad_event_is_named_by_index_and_its_neighbours_stay(
        self, sink: Sink, store: Store
    ) -> None:
        events = [build("a"), b"\xff\xff\xff", build("c")]
        verdict = sink.put(build_batch("a", "b", "c", events=events))
        assert [(r.index, r.insert_id, r.reason) for r in verdict.rejected] == [
            (1, "b", Reason.MALFORMED_EVENT)
        ]
        assert verdict.rejected[0].message
        assert verdict.accepted == 2
        assert self.stored(store) == ["a", "c"]

    def test_each_kind_of_bad_event_has_its_reason(self, sink: Sink, store: Store) -> None:
        late = build("late", at={"seconds": 2**40})
        large = build("x" * (EVENT_BYTES_MAX + 1))
        events = [late, b"\x0a\x01\xff", large, build("d")]
        verdict = sink.put(build_batch("0", "1", "2", "3", events=events))
        assert [r.reason for r in verdict.rejected] == [
            Reason.OUT_OF_RANGE,
            Reason.INVALID_UTF8,
            Reason.EVENT_TOO_LARGE,
        ]
        assert [r.field for r in verdict.rejected][:2] == ["at", "name"]
        assert self.stored(store) == ["d"]

    def test_an_insert_id_outside_its_bounds_is_rejected(self, sink: Sink, store: Store) -> None:
        ids = [b"", b"x" * (INSERT_ID_CHARACTERS_MAX + 1), b"\xff", b"x" * INSERT_ID_CHARACTERS_MAX]
        verdict = sink.put(build_batch("a", "b", "c", "d", insert_ids=ids))
        assert [(r.index, r.reason) for r in verdict.rejected] == [
            (index, Reason.BAD_INSERT_ID) for index in range(3)
        ]
        assert self.stored(store) == ["d"]

    def test_the_counts_add_up(self, sink: Sink) -> None:
        sink.put(build_batch("a"))
        verdict = sink.put(build_batch("a", "b", "c", events=[build("a"), b"\xff", build("c")]))
        assert verdict.count == 3
        repeats = (0,) if sink.features.dedup_window_seconds else ()
        assert verdict.duplicate_indexes == repeats
        assert (verdict.accepted, len(verdict.rejected)) == (2 - len(repeats), 1)

    def test_the_same_batch_again_is_all_duplicates(self, sink: Sink, store: Store) -> None:
        batch = build_batch("a", "b")
        assert sink.put(batch).accepted == 2
        if not sink.features.dedup_window_seconds:
            assert sink.put(batch) == Verdict(2)  # at least once: taken again
            return
        again = sink.put(batch)
        assert (again.accepted, again.duplicate_indexes) == (0, (0, 1))
        assert self.stored(store) == ["a", "b"]

    def test_a_repeated_insert_id_within_a_batch_is_a_duplicate(
        self, sink: Sink, store: Store
    ) -> None:
        verdict = sink.put(build_batch("a", "b", "c", insert_ids=[b"1", b"2", b"1"]))
        if not sink.features.dedup_window_seconds:
            assert verdict == Verdict(3)
            return
        assert verdict.duplicate_indexes == (2,)
        assert self.stored(store) == ["a", "b"]

    def test_a_rejected_event_does_not_use_up_its_insert_id(self, sink: Sink, store: Store) -> None:
        bad = build_batch("a", events=[b"\xff"])
        assert len(sink.put(bad).rejected) == 1
        assert sink.put(build_batch("a")).accepted == 1
        assert self.stored(store) == ["a"]

    def test_an_event_rejected_before_makes_no_duplicate_of_its_neighbour(
        self, sink: Sink, store: Store
    ) -> None:
        sink.put(build_batch("x", events=[b"\xff"]))
        again = sink.put(build_batch("new", "x", events=[build("new"), b"\xff"]))
        assert (again.accepted, again.duplicates, len(again.rejected)) == (1, 0, 1)
        assert self.stored(store) == ["new"]

    def test_one_insert_id_in_two_tables_is_two_events(self, sink: Sink, store: Store) -> None:
        other = TableId(BUILDS.project, BUILDS.dataset, "others")
        store.apply(build_spec(other))
        assert sink.put(build_batch("a")).accepted == 1
        assert sink.put(build_batch("a", table=other)).accepted == 1

    def test_concurrent_puts_of_the_same_ids_store_each_once(
        self, sink: Sink, store: Store
    ) -> None:
        names = [f"{n:03}" for n in range(200)]
        begin = threading.Barrier(4)

        def put(_: int) -> Verdict:
            begin.wait(30)
            return sink.put(build_batch(*names))

        with ThreadPoolExecutor(4) as pool:
            verdicts = list(pool.map(put, range(4)))
        times = 1 if sink.features.dedup_window_seconds else 4
        assert sum(verdict.accepted for verdict in verdicts) == 200 * times
        assert sum(verdict.duplicates for verdict in verdicts) == 800 - 200 * times
        if times > 1:
            return
        assert self.stored(store) == names

    def test_rejected_events_are_in_quarantine_when_the_verdict_returns(
        self, sink: Sink, store: Store
    ) -> None:
        if not sink.features.quarantines:
            pytest.skip("declares no quarantine")
        batch = build_batch("a", "b", events=[b"\xff\xff\xff", build("b")])
        sink.put(batch)
        sink.put(batch)
        rows = list(store.query(QUARANTINED.format(self.quarantine_table), {"t": str(BUILDS)}))
        assert rows == [{"insert_id": "a", "reason": "malformed_event"}]

    def test_an_unknown_table_is_refused(self, sink: Sink) -> None:
        with pytest.raises(TableNotFoundError, match="bulids"):
            sink.put(build_batch("a", table=TableId("local", "contract", "bulids")))

    def test_the_largest_batch_by_count_is_taken(self, sink: Sink, store: Store) -> None:
        names = [f"{n:05}" for n in range(BATCH_EVENTS_MAX)]
        verdict = sink.put(build_batch(*names))
        assert verdict == Verdict(BATCH_EVENTS_MAX)
        count = list(store.query(f"SELECT COUNT(*) AS n FROM {BUILDS.dataset}.{BUILDS.table}"))
        assert count == [{"n": BATCH_EVENTS_MAX}]

    def test_the_largest_batch_by_bytes_is_taken(self, sink: Sink) -> None:
        events = [build(str(n) * (EVENT_BYTES_MAX - 100)) for n in range(8)]
        assert sink.put(build_batch(*"01234567", events=events)) == Verdict(8)

    def test_events_of_an_older_schema_are_taken(self, sink: Sink, store: Store) -> None:
        assert sink.put(build_batch("a", version="older")).accepted == 1
        assert self.stored(store) == ["a"]

    def test_of_a_newer_schema_events_that_use_it_are_kept_whole_or_rejected(
        self, sink: Sink, store: Store
    ) -> None:
        events = [build("a", "newer"), build("b", "newer", host="h")]
        verdict = sink.put(build_batch("a", "b", version="newer", events=events))
        if sink.features.keeps_unknown_fields:
            assert (verdict.accepted, self.stored(store)) == (2, ["a", "b"])
            assert store.stats(BUILDS).ahead_rows == 1
            return
        assert [(r.index, r.reason) for r in verdict.rejected] == [(1, Reason.UNKNOWN_FIELD)]
        assert self.stored(store) == ["a"]

    def test_events_of_which_the_table_knows_no_field_are_rejected(
        self, sink: Sink, store: Store
    ) -> None:
        foreign = b"\xf8\x7f\x05"  # field 2047
        batch = build_batch("a", "b", events=[foreign, build("b")])
        verdict = sink.put(Batch(batch.table, "0123456789abcdef", batch.payload))
        assert [(r.index, r.reason) for r in verdict.rejected] == [(0, Reason.UNKNOWN_FIELD)]
        assert "2047" in verdict.rejected[0].message
        assert self.stored(store) == ["b"]

    def test_a_table_that_grew_takes_events_of_both_schemas(self, sink: Sink, store: Store) -> None:
        assert sink.put(build_batch("a")).accepted == 1
        store.apply(build_spec(version="newer"))
        newer = build_batch("b", version="newer", events=[build("b", "newer", host="h")])
        assert sink.put(newer) == Verdict(1)
        assert sink.put(build_batch("c")) == Verdict(1)
        assert self.stored(store) == ["a", "b", "c"]

    def test_an_unknown_fingerprint_alone_is_no_reason_to_reject(self, sink: Sink) -> None:
        known = build_batch("a")
        assert sink.put(Batch(known.table, "", known.payload)).accepted == 1

    def test_a_closed_sink_raises(self, sink: Sink) -> None:
        sink.close()
        sink.close()
        with pytest.raises(EventmillError):
            sink.put(build_batch("a"))

    def test_a_sink_that_describes_tells_the_message_type(self, sink: Sink) -> None:
        if not isinstance(sink, Catalog):
            pytest.skip("describes no tables")
        assert sink.describe(BUILDS).spec.message == MESSAGE
        with pytest.raises(TableNotFoundError):
            sink.describe(TableId("local", "contract", "none"))
