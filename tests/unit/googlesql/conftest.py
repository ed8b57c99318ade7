"""A DuckDB as the executor sets it up, over a few small tables, and ``ask`` to query it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from eventmill.schema.table import TableId
from eventmill.store.googlesql import Translation, translate, view_name

NOW = datetime(2024, 2, 29, 12, 34, 56, 789000, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


STEP = pa.struct([("name", pa.string()), ("ms", pa.int64())])
BUILDS = pa.Table.from_pylist(
    [
        {
            "id": 1,
            "repo": "app",
            "ok": True,
            "seconds": 1.5,
            "ts": at("2024-01-01 05:00:00"),
            "steps": [{"name": "lint", "ms": 10}, {"name": "test", "ms": 30}],
            "tags": ["a", "b"],
            "by": {"name": "Ada", "at": {"city": "Rome"}},
            "_insert_id": "i1",
            "_ingested_at": at("2024-01-01 06:00:00"),
        },
        {
            "id": 2,
            "repo": "app",
            "ok": False,
            "seconds": 2.5,
            "ts": at("2024-01-02 23:30:00"),
            "steps": [],
            "tags": ["b"],
            "by": {"name": "Bob", "at": {"city": "Oslo"}},
            "_insert_id": "i2",
            "_ingested_at": at("2024-01-03 00:10:00"),
        },
        {
            "id": 3,
            "repo": "lib",
            "ok": None,
            "seconds": None,
            "ts": at("2024-02-10 00:00:00"),
            "steps": [{"name": "test", "ms": 50}],
            "tags": [],
            "by": None,
            "_insert_id": "i3",
            "_ingested_at": at("2024-02-10 00:00:01"),
        },
        {
            "id": 4,
            "repo": None,
            "ok": True,
            "seconds": 4.0,
            "ts": None,
            "steps": [],
            "tags": [],
            "by": {"name": None, "at": None},
            "_insert_id": "i4",
            "_ingested_at": at("2024-02-11 00:00:00"),
        },
    ],
    schema=pa.schema(
        [
            ("id", pa.int64()),
            ("repo", pa.string()),
            ("ok", pa.bool_()),
            ("seconds", pa.float64()),
            ("ts", pa.timestamp("us", tz="UTC")),
            ("steps", pa.list_(STEP)),
            ("tags", pa.list_(pa.string())),
            (
                "by",
                pa.struct([("name", pa.string()), ("at", pa.struct([("city", pa.string())]))]),
            ),
            ("_insert_id", pa.string()),
            ("_ingested_at", pa.timestamp("us", tz="UTC")),
        ]
    ),
)
REPOS = pa.Table.from_pylist(
    [
        {"repo": "app", "team": "web", "_insert_id": "r1", "_ingested_at": at("2024-01-01")},
        {"repo": "old", "team": "none", "_insert_id": "r2", "_ingested_at": at("2024-01-01")},
    ],
    schema=pa.schema(
        [
            ("repo", pa.string()),
            ("team", pa.string()),
            ("_insert_id", pa.string()),
            ("_ingested_at", pa.timestamp("us", tz="UTC")),
        ]
    ),
)
TABLES = {
    TableId("local", "ci", "builds"): BUILDS,
    TableId("local", "ci", "repos"): REPOS,
    TableId("my-proj", "ci", "builds"): BUILDS,
}


class Asked:
    """An answer with the names and types of its columns."""

    def __init__(self, translation: Translation, answer: pa.Table) -> None:
        self.translation = translation
        self.names = answer.column_names
        self.types = [str(field.type) for field in answer.schema]
        columns = [column.to_pylist() for column in answer.columns]
        self.rows = list(zip(*columns, strict=True)) if columns else []


def run(translation: Translation, tables: Mapping[TableId, pa.Table] | None = None) -> Asked:
    """Run a translation as the executor does."""
    with duckdb.connect(config={"enable_external_access": "false"}) as db:
        db.execute("SET TimeZone = 'UTC'")
        for table in translation.tables:
            rows = (tables or TABLES)[table]
            if table not in translation.pseudo_columns:
                rows = rows.drop_columns(
                    [c for c in ("_insert_id", "_ingested_at") if c in rows.column_names]
                )
            db.register(view_name(table), rows)
        rows = db.sql(translation.sql, params=translation.parameters or None)
        return Asked(translation, rows.to_arrow_table())


@pytest.fixture
def ask() -> Callable[..., Asked]:
    """Translate with the fixed time ``NOW`` and run."""

    def ask_for(sql: str, params: Mapping[str, Any] | None = None) -> Asked:
        return run(translate(sql, params, now=NOW))

    return ask_for
