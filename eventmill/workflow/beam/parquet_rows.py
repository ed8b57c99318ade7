"""The rows that a pipeline has written as Parquet files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet


def read_parquet_rows(paths: Iterable[Path], schema: pa.Schema) -> pa.Table:
    """Return the rows of all files, in the order of their names; none without files.

    Args:
        paths: of the files.
        schema: columns of the rows.
    """
    # Each file by itself: a reader of many would look for partitions in their paths.
    tables = [parquet.ParquetFile(path).read().cast(schema) for path in sorted(paths)]
    return pa.concat_tables(tables) if tables else schema.empty_table()
