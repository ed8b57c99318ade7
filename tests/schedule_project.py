"""A project with a data folder, a table of sales, and workflows that add them up."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from eventmill.client.uploader import Uploader
from eventmill.schema.compile import compile_protos
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import Partitioning, TableId

SALES = TableId.parse("local.shop.sales")
HOUR = 3_600
START = (int(time.time()) // HOUR - 40) * HOUR
"""Start of hour number 0, some hours ago: a scheduler in real time has that many slots to run."""
START_TEXT = datetime.fromtimestamp(START, UTC).isoformat()
_SALE = """\
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
message Sale {
  string item = 1;
  int64 pieces = 2;
  google.protobuf.Timestamp sold_at = 3;
}
"""
_OUTPUT = """\
syntax = "proto3";
package shop;
message Hourly { int64 hour = 1; int64 pieces = 2; int64 sales = 3; }
"""
_SQL = """\
SELECT UNIX_SECONDS(TIMESTAMP_TRUNC(sold_at, HOUR)) AS hour, SUM(pieces) AS pieces,
  COUNT(*) AS sales
FROM shop.sales WHERE sold_at >= @slot_start AND sold_at < @slot_end GROUP BY hour
"""


def sale_spec(folder):
    """Return the definition of the table of sales."""
    path = Path(folder) / "sale.proto"
    path.write_text(_SALE)
    by_day = Partitioning(column="sold_at")
    return spec_from_proto(SALES, compile_protos([str(path)]), "shop.Sale", partitioning=by_day)


def write_workflow(folder, name="hourly", *, sql=_SQL, schedule=""):
    """Write the folder of a workflow; ``schedule`` has more lines of its table."""
    path = Path(folder) / name
    path.mkdir(parents=True, exist_ok=True)
    (path / "out.proto").write_text(_OUTPUT)
    (path / "query.sql").write_text(sql)
    (path / "workflow.toml").write_text(
        f"""\
name = "{name}"
owner = "till@example.com"
description = "Sales an hour."
[[input]]
table = "shop.sales"
[output]
table = "shop.{name}"
proto = "out.proto"
message = "shop.Hourly"
[schedule]
every = "1h"
delay = "0s"
{schedule}
"""
    )
    return path


def sell(store, hour, pieces, *, item="apple", count=1):
    """Send sales of the hour number ``hour`` since ``START``, each of ``pieces``."""
    at = datetime.fromtimestamp(START + hour * HOUR + 60, UTC)
    rows = [{"item": item, "pieces": pieces, "sold_at": at} for _ in range(count)]
    assert Uploader(store, table=str(SALES)).put(rows).accepted == count


def totals(store, table="shop.hourly"):
    """Return (hour since START, pieces, sales) of each row of an output, ascending."""
    rows = store.query(f"SELECT hour, pieces, sales FROM {table} ORDER BY hour", row_limit=None)
    return [((row["hour"] - START) // HOUR, row["pieces"], row["sales"]) for row in rows]
