"""All rows of a live table, page by page, in an order that stays while events come in.

Rows are read in the order of their ingestion, and by insert ID within one commit; a page begins
after the last row of the one before. So whatever is stored, compacted or expired between two
pages, no row is shown twice, and none is left out that was there all the time.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from eventmill.schema.table import Column, Table
from eventmill.server.bigquery.errors import invalid
from eventmill.server.bigquery.results import PAGE_BYTES_MAX
from eventmill.store.own_columns import INGESTED_AT, INSERT_ID
from eventmill.store.port import Store

_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_SCAN_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class ScanPage:
    """Some rows of a table."""

    rows: pa.Table
    token: str
    """Where the next page begins; empty: this is the last one."""


def scan_page(
    store: Store,
    table: Table,
    columns: Sequence[Column],
    *,
    count: int,
    token: str = "",
    skip: int = 0,
) -> ScanPage:
    """Return at most ``count`` rows of a table.

    Args:
        store: where it is.
        table: the table.
        columns: of its columns those that are wanted, each of them a top-level one.
        count: rows.
        token: of the page before; empty: begin with the first row.
        skip: rows to leave out.

    Raises:
        ApiError: the token is none.
    """
    at, after = _place_of(token) if token else (_FIRST, "")
    names = "".join(f", `{column.name}`" for column in columns)
    answer = store.query(
        f"SELECT {INGESTED_AT}, {INSERT_ID}{names} FROM `{table.id}`"  # noqa: S608 - checked names
        f" WHERE {INGESTED_AT} >= @at AND ({INGESTED_AT} > @at OR {INSERT_ID} > @after)"
        f" ORDER BY {INGESTED_AT}, {INSERT_ID} LIMIT {count + 1} OFFSET {skip}",
        {"at": at, "after": after},
        row_limit=None,
    ).to_arrow()
    shown = answer.slice(0, count)
    if shown.nbytes > PAGE_BYTES_MAX:
        shown = shown.slice(0, max(1, int(shown.num_rows * PAGE_BYTES_MAX / shown.nbytes)))
    more = answer.num_rows > shown.num_rows and shown.num_rows > 0
    next_token = _token_of(shown) if more else ""
    return ScanPage(shown.drop_columns([INGESTED_AT, INSERT_ID]), next_token)


def scan(store: Store, table: Table) -> Iterator[pa.Table]:
    """Yield all rows of a table, some at a time."""
    token = ""
    while True:
        page = scan_page(store, table, table.spec.columns, count=_SCAN_ROWS, token=token)
        yield page.rows
        token = page.token
        if not token:
            return


def _token_of(rows: pa.Table) -> str:
    micros = rows.column(INGESTED_AT)[-1].cast(pa.int64()).as_py()
    text = json.dumps([micros, rows.column(INSERT_ID)[-1].as_py()])
    return base64.urlsafe_b64encode(text.encode()).decode("ascii")


def _place_of(token: str) -> tuple[datetime, str]:
    try:
        place: Any = json.loads(base64.urlsafe_b64decode(token))
        micros, after = place
        seconds, rest = divmod(int(micros), 1_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest), str(after)
    except (binascii.Error, ValueError, TypeError, OverflowError, OSError):
        raise invalid("Invalid page token", "pageToken") from None
