"""What every store must keep, beyond what it keeps as a sink."""

# ruff: noqa: D102, S101
# A contract's tests say in their names what they hold, and assert is how.

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations

import pytest

from eventmill.base.errors import (
    EventmillError,
    QueryError,
    SchemaConflictError,
    TableNotFoundError,
)
from eventmill.schema.problem import Reason
from eventmill.schema.table import Partitioning, TableId
from eventmill.store.port import Store
from eventmill.testing.contracts.sink import QUARANTINED, SinkContract
from eventmill.testing.events import BUILDS, build, build_batch, build_spec, build_type
from eventmill.wire.batch import Batch
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.sink import Sink
from eventmill.wire.verdict import Verdict

OTHER = TableId("local", "contract", "another")


_MOMENTS = [
    moments for count in range(4) for moments in combinations(("before", "between", "after"), count)
]
"""When a store settles around a change of a table: every combination."""


class StoreContract(SinkContract):
    """Subclass with one fixture, ``store``: open and without tables; closed by the fixture.

    A store is a sink, so the sink's suite runs as well.
    """

    @pytest.fixture
    def sink(self, store: Store) -> Sink:
        """Put straight into the store."""
        return store

    def settle(self, store: Store) -> None:
        """Do now what the store does in its own time, such as compaction; here nothing.

        Override it for a store that moves rows, so that the suite finds them moved.
        """

    def test_tables_are_listed_by_name_without_the_stores_own(self, store: Store) -> None:
        store.apply(build_spec(OTHER))
        assert [table.id for table in store.tables()] == [OTHER, BUILDS]

    def test_a_table_is_described_as_it_was_applied(self, store: Store) -> None:
        spec = replace(
            build_spec(OTHER), description="Other builds.", owner="ci", labels={"team": "ci"}
        )
        table = store.apply(spec, expected_version=0)
        assert table.version == 1
        assert table.spec == spec
        assert store.describe(OTHER) == table

    def test_applying_the_same_again_changes_nothing(self, store: Store) -> None:
        first = store.describe(BUILDS)
        assert store.apply(build_spec()) == first
        assert store.apply(build_spec(), expected_version=first.version) == first

    def test_a_change_that_adds_is_applied_and_counts_the_version_up(self, store: Store) -> None:
        store.put(build_batch("a"))
        table = store.apply(build_spec(version="newer"), expected_version=1)
        assert table.version == 2
        assert [column.name for column in table.spec.columns][-1] == "host"
        rows = list(store.query("SELECT name, host FROM contract.builds"))
        assert rows == [{"name": "a", "host": None}]

    @pytest.mark.parametrize("moments", _MOMENTS)
    def test_rows_from_before_a_column_are_null_in_it_whenever_the_store_settles(
        self, store: Store, moments: tuple[str, ...]
    ) -> None:
        def settle(moment: str) -> None:
            if moment in moments:
                self.settle(store)

        store.put(build_batch("a", "b", events=[build("a", steps=[{"name": "s"}]), build("b")]))
        settle("before")
        store.apply(build_spec(version="newest"))
        settle("between")
        old = {"name": "s", "seconds": 0.0, "attempt": None, "notes": []}
        early = [
            {"name": "a", "host": None, "ports": [], "steps": [old]},
            {"name": "b", "host": None, "ports": [], "steps": []},
        ]
        sql = "SELECT name, host, ports, steps FROM contract.builds ORDER BY name"
        assert list(store.query(sql)) == early
        event = build("c", "newest", steps=[{"name": "s"}])
        store.put(build_batch("c", version="newest", events=[event]))
        settle("after")
        new = {"name": "c", "host": "", "ports": [], "steps": [{**old, "attempt": 0}]}
        assert list(store.query(sql)) == [*early, new]

    @pytest.mark.parametrize("moments", _MOMENTS)
    def test_what_a_newer_sender_set_is_there_and_no_more_whenever_the_store_settles(
        self, store: Store, moments: tuple[str, ...]
    ) -> None:
        event = build("a", "newest", host="h", steps=[{"notes": ["n"]}, {"attempt": 2}])
        batch = build_batch("a", events=[event])
        verdict = store.put(Batch(BUILDS, build_type().fingerprint, batch.payload))
        if not store.features.keeps_unknown_fields:
            assert [r.reason for r in verdict.rejected] == [Reason.UNKNOWN_FIELD]
            return
        for moment, version in (("before", "newer"), ("between", "newest"), ("after", "newest")):
            if moment in moments:
                self.settle(store)
            store.apply(build_spec(version=version))
        rows = list(store.query("SELECT host, ports, steps FROM contract.builds"))
        step = {"name": "", "seconds": 0.0, "attempt": None, "notes": []}
        steps = [{**step, "notes": ["n"]}, {**step, "attempt": 2}]
        assert rows == [{"host": "h", "ports": [], "steps": steps}]

    def test_fields_that_came_before_their_column_appear_with_it(self, store: Store) -> None:
        known = build_type().fingerprint  # a sender that forwards what it does not know itself
        early = [build("a", "newer", host="h1"), build("b"), build("c", "newer", host="h3")]
        batch = build_batch("a", "b", "c", events=early)
        if not store.features.keeps_unknown_fields:
            verdict = store.put(Batch(BUILDS, known, batch.payload))
            assert [r.reason for r in verdict.rejected] == [Reason.UNKNOWN_FIELD] * 2
            return
        assert store.put(Batch(BUILDS, known, batch.payload)) == Verdict(3)
        assert (store.stats(BUILDS).rows, store.stats(BUILDS).ahead_rows) == (3, 2)
        assert "host" not in next(iter(store.query("SELECT * FROM contract.builds")))
        store.apply(build_spec(version="newer"))
        rows = store.query("SELECT name, NULLIF(host, '') AS host FROM contract.builds ORDER BY 1")
        assert [(row["name"], row["host"]) for row in rows] == [
            ("a", "h1"), ("b", None), ("c", "h3"),
        ]  # fmt: skip
        assert (store.stats(BUILDS).rows, store.stats(BUILDS).ahead_rows) == (3, 0)
        assert store.put(batch).duplicates == 3

    def test_fields_that_their_column_cannot_hold_spoil_no_other_row(self, store: Store) -> None:
        known = build_type().fingerprint
        no_text = b"\x3a\x02\xff\xfe"  # field 7, host in the newer schema, and no UTF-8
        early = [build("a") + no_text, build("b", "newer", host="h2")]
        batch = build_batch("a", "b", events=early)
        if not store.features.keeps_unknown_fields:
            assert len(store.put(Batch(BUILDS, known, batch.payload)).rejected) == 2
            return
        assert store.put(Batch(BUILDS, known, batch.payload)) == Verdict(2)
        store.apply(build_spec(version="newer"))
        rows = store.query("SELECT name, NULLIF(host, '') AS host FROM contract.builds ORDER BY 1")
        assert [(row["name"], row["host"]) for row in rows] == [("a", None), ("b", "h2")]
        assert (store.stats(BUILDS).rows, store.stats(BUILDS).ahead_rows) == (2, 1)
        newer = build_batch("c", version="newer", events=[build("c", "newer") + no_text])
        assert store.put(newer).rejected[0].reason == "invalid_utf8"

    def test_a_stale_version_is_refused(self, store: Store) -> None:
        store.apply(build_spec(version="newer"))
        with pytest.raises(SchemaConflictError):
            store.apply(replace(build_spec(), description="stale"), expected_version=1)
        with pytest.raises(SchemaConflictError):
            store.apply(replace(build_spec(), description="stale"), expected_version=0)

    def test_of_two_that_apply_at_once_one_wins_and_the_other_is_told(self, store: Store) -> None:
        def apply(words: str) -> int | str:
            try:
                spec = replace(build_spec(), description=words)
                return store.apply(spec, expected_version=1).version
            except SchemaConflictError as error:
                return str(error)

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(apply, ["a", "b", "c", "d"]))
        told = [answer for answer in answers if isinstance(answer, str)]
        assert sorted(answer for answer in answers if isinstance(answer, int)) == [2]
        assert len(told) == 3
        assert all("version 2" in answer for answer in told)
        assert store.describe(BUILDS).version == 2

    def test_a_version_of_a_table_that_is_not_there_is_refused(self, store: Store) -> None:
        with pytest.raises((SchemaConflictError, TableNotFoundError)):
            store.apply(build_spec(OTHER), expected_version=3)

    def test_a_change_of_partitioning_is_refused(self, store: Store) -> None:
        with pytest.raises(SchemaConflictError):
            store.apply(replace(build_spec(), partitioning=Partitioning(column="at")))

    def test_a_dropped_table_is_gone_and_may_come_again_empty(self, store: Store) -> None:
        store.put(build_batch("a"))
        store.drop(BUILDS)
        with pytest.raises(TableNotFoundError):
            store.describe(BUILDS)
        with pytest.raises(TableNotFoundError):
            store.put(build_batch("b"))
        with pytest.raises(TableNotFoundError):
            store.drop(BUILDS)
        store.apply(build_spec())
        assert self.stored(store) == []

    def test_a_dropped_and_made_table_takes_the_same_insert_ids_anew(self, store: Store) -> None:
        store.put(build_batch("a"))
        store.drop(BUILDS)
        store.apply(build_spec())
        assert store.put(build_batch("a")).accepted == 1
        assert self.stored(store) == ["a"]

    def test_a_query_sees_every_event_acked_before_it(self, store: Store) -> None:
        for count in range(1, 6):
            store.put(build_batch(str(count)))
            rows = list(store.query("SELECT COUNT(*) AS n FROM contract.builds"))
            assert rows == [{"n": count}]

    def test_the_statistics_add_up(self, store: Store) -> None:
        empty = store.stats(BUILDS)
        assert (empty.rows, empty.accepted, empty.newest_event_at) == (0, 0, None)
        store.put(build_batch("a", "b", "b2", events=[build("a"), build("b"), b"\xff"]))
        store.put(build_batch("a", "c"))
        stats = store.stats(BUILDS)
        assert (stats.rows, stats.accepted) == (3, 3)
        assert stats.log_bytes + stats.lake_bytes > 0
        assert stats.newest_event_at is not None
        with pytest.raises(TableNotFoundError):
            store.stats(OTHER)

    def test_values_come_back_as_they_were_put(self, store: Store) -> None:
        event = build(
            "ü",
            seconds=2**53 + 1,
            ok=True,
            at={"seconds": 1_700_000_000, "nanos": 123_456_000},
            tags=["x", "y"],
            steps=[{"name": "s", "seconds": 1.5}],
        )
        store.put(build_batch("1", events=[event]))
        (row,) = store.query("SELECT name, seconds, ok, at, tags, steps FROM contract.builds")
        assert row == {
            "name": "ü",
            "seconds": 2**53 + 1,
            "ok": True,
            "at": datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC),
            "tags": ["x", "y"],
            "steps": [{"name": "s", "seconds": 1.5}],
        }

    def test_parameters_are_values_never_sql(self, store: Store) -> None:
        store.put(build_batch("a", "b"))
        sql = "SELECT name FROM contract.builds WHERE name = @name"
        assert [row["name"] for row in store.query(sql, {"name": "b"})] == ["b"]
        assert list(store.query(sql, {"name": "' OR '1'='1"})) == []
        with pytest.raises(QueryError):
            store.query(sql)

    def test_the_row_limit_cuts_and_says_so(self, store: Store) -> None:
        store.put(build_batch("a", "b", "c"))
        cut = store.query("SELECT name FROM contract.builds", row_limit=2)
        assert (len(cut), cut.stats.truncated, cut.stats.row_limit) == (2, True, 2)
        whole = store.query("SELECT name FROM contract.builds", row_limit=3)
        assert (len(whole), whole.stats.truncated) == (3, False)

    def test_a_table_that_wants_a_partition_filter_is_not_read_without(self, store: Store) -> None:
        wanted = Partitioning(column="at")
        store.apply(replace(build_spec(OTHER), partitioning=wanted, require_partition_filter=True))
        event = build("a", at={"seconds": 1_700_000_000})
        store.put(build_batch("a", table=OTHER, events=[event]))
        read = "SELECT name FROM contract.another"
        for sql in (
            read,
            f"{read} WHERE name = 'a'",
            f"{read} WHERE at > TIMESTAMP '2023-01-01' OR name = 'a'",
            f"{read} WHERE at > TIMESTAMP '2023-01-01' UNION ALL {read}",
        ):
            with pytest.raises(QueryError, match=r"partition column.* at >="):
                store.query(sql)
        store.put(build_batch("b", table=OTHER))  # without a time, hence in no range of it
        rows = list(store.query(f"{read} WHERE at >= TIMESTAMP '2023-11-14'"))
        assert rows == [{"name": "a"}]
        by_ingestion = "WHERE _ingested_at >= TIMESTAMP '2000-01-01' AND at IS NULL"
        assert list(store.query(f"{read} {by_ingestion}")) == [{"name": "b"}]

    def test_a_dry_run_answers_with_no_rows(self, store: Store) -> None:
        store.put(build_batch("a"))
        answer = store.query("SELECT name FROM contract.builds", dry_run=True)
        assert list(answer) == []
        assert answer.stats.bytes_scanned >= 0
        with pytest.raises(QueryError):
            store.query("SELEC 1", dry_run=True)

    @pytest.mark.parametrize(
        "sql",
        [
            "DROP TABLE contract.builds",
            "DELETE FROM contract.builds WHERE TRUE",
            "INSERT INTO contract.builds (name) VALUES ('x')",
            "CREATE TABLE contract.more AS SELECT 1 AS x",
            "SELECT 1; SELECT 2",
            "COPY (SELECT 1) TO '/tmp/eventmill-contract'",
            "ATTACH 'x' AS y",
            "PRAGMA database_list",
            "SELECT * FROM read_csv('/etc/passwd')",
        ],
    )
    def test_sql_that_does_more_than_read_tables_is_refused(self, store: Store, sql: str) -> None:
        store.put(build_batch("a"))
        with pytest.raises((QueryError, TableNotFoundError)):
            store.query(sql)
        assert self.stored(store) == ["a"]

    @pytest.mark.parametrize("sql", ["SELEC 1", "SELECT none FROM contract.builds", ""])
    def test_sql_that_is_wrong_is_a_query_error(self, store: Store, sql: str) -> None:
        with pytest.raises(QueryError):
            store.query(sql)

    def test_a_query_of_an_unknown_table_says_so(self, store: Store) -> None:
        with pytest.raises(TableNotFoundError, match="nowhere"):
            store.query("SELECT * FROM contract.nowhere")

    def test_what_a_client_could_not_encode_is_kept_once(self, store: Store) -> None:
        event = QuarantinedEvent(
            table=BUILDS,
            insert_id="q",
            payload=b'{"name": 1}',
            is_json=True,
            reason=Reason.WRONG_TYPE,
            field="name",
            message="a number for a text",
            client="contract",
            fingerprint="",
        )
        store.quarantine([event])
        store.quarantine([event])
        store.quarantine([])
        rows = list(store.query(QUARANTINED.format(self.quarantine_table), {"t": str(BUILDS)}))
        assert rows == [{"insert_id": "q", "reason": "wrong_type"}]

    def test_a_closed_store_raises(self, store: Store) -> None:
        store.close()
        store.close()
        with pytest.raises(EventmillError):
            store.tables()
        with pytest.raises(EventmillError):
            store.query("SELECT 1")
