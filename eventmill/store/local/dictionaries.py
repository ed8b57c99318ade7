"""Which columns of a Parquet file are written with a dictionary: those whose values repeat.

Parquet fills a dictionary until it is full and only then writes values plainly. For columns of
times, identities and measures that is work and room for nothing: their files are a quarter larger
and take a third more time to write than with the choice made here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from eventmill.store.own_columns import INSERT_ID

_SAMPLE_ROWS = 4_096
_DIFFERENT_SHARE_MAX = 0.5
"""Of the values of a sample; numbers of which more are different repeat too seldom."""


def dictionary_columns(rows: pa.Table) -> list[str] | bool:
    """Return the leaf columns to be written with a dictionary, by their paths in Parquet.

    True: all of them, where there are too few rows to tell.
    """
    if rows.num_rows < _SAMPLE_ROWS:
        return True
    # From all over the table: neighbours are often alike where the whole is not.
    places = pa.array(range(0, rows.num_rows, rows.num_rows // _SAMPLE_ROWS))
    chosen: list[str] = []
    for name in rows.column_names:
        column = rows[name]
        if name != INSERT_ID and not _has_different_numbers(column, places):
            chosen += _leaves(name, column.type)
    return chosen


def _has_different_numbers(column: pa.ChunkedArray, places: pa.Array) -> bool:
    """Tell whether a column is of numbers, or of lists of numbers, most of which differ."""
    is_list = pa.types.is_list(column.type)
    if not _is_number(column.type.value_type if is_list else column.type):
        return False
    sample = column.take(places)
    values = pc.list_flatten(sample) if is_list else sample
    different: int = pc.count_distinct(values, mode="only_valid").as_py()
    return bool(different > _DIFFERENT_SHARE_MAX * (len(values) - values.null_count))


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_timestamp(kind)
    )


def _leaves(path: str, kind: pa.DataType) -> Iterator[str]:
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path
