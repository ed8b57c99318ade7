"""A workflow's rows as their output table has them: judged column by column, and cast.

Every store asks here, so that rows which one takes another does not refuse. What becomes of a
value is what becomes of it in an event: NaN is a FLOAT, a TIMESTAMP is of the years 1 to 9999, a
list is never NULL and has no NULL in it. Rules of protovalidate are for events and not looked at.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from eventmill.schema.table import Column, ColumnType, Mode, TableSpec
from eventmill.wire.columns_arrow import (
    absent_array,
    arrow_schema_of,
    arrow_type_of,
    element_type_of,
)
from eventmill.wire.output_faults import OutputFaults, RowNumbers, Spot
from eventmill.wire.output_values import fit_values, plain


def fit_output(rows: pa.Table, spec: TableSpec) -> pa.Table:
    """Return ``rows`` with exactly the columns of ``spec``, in Arrow's types for them.

    Columns are found by name, fields of records as well. Casts lose nothing: integers of another
    width, timestamps of another zone or unit, decimals of another size, text written another way.
    A NULLABLE or REPEATED column may be missing; a list that is NULL becomes an empty one.

    Raises:
        OutputError: the rows do not fit; the message names each column with how many rows and
            one example.
    """
    faults = OutputFaults()
    for name, values in zip(rows.column_names, rows.columns, strict=True):
        try:
            values.validate(full=True)
        except pa.ArrowInvalid as error:
            faults.add(name, f"is damaged: {error}")
    faults.settle(spec.table)  # before anything in them is believed
    names = rows.column_names
    _check_names(names, spec.columns, "", faults)
    rows = rows.combine_chunks()
    made = []
    for column in spec.columns:
        if names.count(column.name) == 1:
            made.append(pa.chunked_array(_fit_chunks(rows[column.name], column, faults)))
        else:
            if rows.num_rows and column.mode is Mode.REQUIRED and column.name not in names:
                faults.add(column.name, "is REQUIRED, and the rows do not have it")
            made.append(pa.chunked_array([absent_array(arrow_type_of(column), rows.num_rows)]))
    faults.settle(spec.table)
    return pa.Table.from_arrays(made, schema=arrow_schema_of(spec.columns))


def _fit_chunks(
    values: pa.ChunkedArray, column: Column, faults: OutputFaults
) -> Iterator[pa.Array]:
    begin = 0
    for chunk in values.chunks or [pa.array([], values.type)]:
        spot = Spot(column.name, _after(begin))
        yield _fit(chunk, column, spot, faults)
        begin += len(chunk)


def _after(begin: int) -> RowNumbers:
    return lambda places: pc.add(places.cast(pa.int64()), begin)


def _check_names(
    names: Sequence[str], columns: Sequence[Column], prefix: str, faults: OutputFaults
) -> None:
    known = [column.name for column in columns]
    for name in dict.fromkeys(names):
        if name not in known:
            faults.add(f"{prefix}{name}", f"the table has no such column{_hint(name, known)}")
        elif names.count(name) > 1:
            faults.add(f"{prefix}{name}", "the rows have it more than once")


def _hint(name: str, known: Collection[str]) -> str:
    lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), lower, n=3)
    if not near:
        return ""
    return f"; did you mean {' or '.join(lower[found] for found in near)}?"


def _fit(
    values: pa.Array,
    column: Column,
    spot: Spot,
    faults: OutputFaults,
    is_there: pa.BooleanArray | None = None,
) -> pa.Array:
    """Fit one column; ``is_there`` says which of its records are none themselves."""
    values = plain(values)
    if column.mode is Mode.REPEATED:
        return _fit_list(values, column, spot, faults)
    if column.mode is Mode.REQUIRED and values.null_count:
        is_bad = values.is_null()
        if is_there is not None:
            is_bad = pc.and_(is_bad, is_there)
        faults.add_rows(spot, is_bad, "is REQUIRED, and NULL")
    return _fit_elements(values, column, spot, faults)


def _fit_elements(values: pa.Array, column: Column, spot: Spot, faults: OutputFaults) -> pa.Array:
    if column.type is ColumnType.RECORD:
        return _fit_record(values, column, spot, faults)
    return fit_values(values, column, spot, faults)


def _fit_list(values: pa.Array, column: Column, spot: Spot, faults: OutputFaults) -> pa.Array:
    target = arrow_type_of(column)
    kind = values.type
    if pt.is_null(kind):
        return absent_array(target, len(values))
    if not _is_list(kind):
        faults.add(spot.path, f"is REPEATED, the rows have {kind}: write a list, such as [x]")
        return absent_array(target, len(values))
    elements = plain(values.flatten())
    inner = spot.below("", lambda places: spot.rows(pc.list_parent_indices(values).take(places)))
    if elements.null_count and not pt.is_null(elements.type):
        faults.add_rows(inner, elements.is_null(), "has NULL in a list")
    elif len(elements) and pt.is_null(elements.type):
        faults.add(spot.path, "has NULL in a list")
    fitted = _fit_elements(elements, column, inner, faults)
    lengths = pc.fill_null(pc.list_value_length(values), 0).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
    return pa.ListArray.from_arrays(offsets, fitted, type=target)


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pt.is_list(kind)
        or pt.is_large_list(kind)
        or pt.is_fixed_size_list(kind)
        or pt.is_list_view(kind)
        or pt.is_large_list_view(kind)
    )


def _fit_record(values: pa.Array, column: Column, spot: Spot, faults: OutputFaults) -> pa.Array:
    target = element_type_of(column)
    if pt.is_null(values.type):
        return pa.nulls(len(values), target)
    if not pt.is_struct(values.type):
        faults.add(spot.path, f"is RECORD, the rows have {values.type}: write STRUCT(...)")
        return pa.nulls(len(values), target)
    names = [field.name for field in values.type]
    _check_names(names, column.fields, f"{spot.path}.", faults)
    is_there = values.is_valid()
    found = dict(zip(names, values.flatten(), strict=True))  # NULL where the record is NULL
    fitted = []
    for below in column.fields:
        here = spot.below(below.name)
        if below.name in found:
            fitted.append(_fit(found[below.name], below, here, faults, is_there))
            continue
        if below.mode is Mode.REQUIRED:
            faults.add_rows(here, is_there, "is REQUIRED, and missing in the record")
        fitted.append(absent_array(arrow_type_of(below), len(values)))
    return pa.StructArray.from_arrays(fitted, fields=list(target), mask=values.is_null())
