"""Cases of a workflow: input rows and the rows that its body must make of them, as data.

A case is ``tests/NAME.toml``, or a folder ``tests/NAME/`` of ``case.toml`` and its rows beside it,
``DATASET.TABLE.ndjson`` for each input and ``expect.ndjson``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eventmill.base.errors import EventmillError, UsageError
from eventmill.schema.row_scalars import near_names
from eventmill.schema.table import TableId
from eventmill.workflow.definition import WorkflowDefinition
from eventmill.workflow.timetable import Slot
from eventmill.workflow.toml_keys import TomlKeys
from eventmill.workflow.trial_rows import TrialRow, read_ndjson

CASES_FOLDER = "tests"
CASE_NAME = "case.toml"
EXPECT_NAME = "expect.ndjson"
FLOAT_TOLERANCE = 1e-9
"""How far a float may be from the expected one, as a part of it, unless a case says otherwise."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case, as its file says."""

    name: str
    path: str
    """Of its TOML file."""
    slot: Slot
    inputs: Mapping[str, Sequence[TrialRow]]
    """Rows by table."""
    expected: Sequence[TrialRow]
    expect_error: str | None
    """The body must fail with these words in its error; None: it must not fail."""
    columns: tuple[str, ...]
    """Columns that are compared; none: all of the output."""
    float_tolerance: float


def case_paths(definition: WorkflowDefinition) -> dict[str, str]:
    """Return the TOML file of each case of a workflow, by the case's name."""
    root = os.path.join(definition.folder, CASES_FOLDER)
    found: dict[str, str] = {}
    for entry in sorted(os.listdir(root)) if os.path.isdir(root) else ():
        path = os.path.join(root, entry)
        inner = os.path.join(path, CASE_NAME)
        if os.path.isfile(inner):
            found[entry] = inner
        elif entry.endswith(".toml") and os.path.isfile(path):
            found[entry.removesuffix(".toml")] = path
    return found


def read_case(name: str, path: str) -> Case:
    """Read a case.

    Raises:
        UsageError: a key, a value or a file is missing or wrong; the message names the file, the
            key, and what would do.
    """
    keys = TomlKeys.read(path)
    folder = os.path.dirname(path)
    inputs = _inputs(keys, folder)
    expected = _rows(keys, "expect", folder)
    has_expected = keys.has("expect")
    if os.path.basename(path) == CASE_NAME:
        has_expected |= _add_files(keys, folder, inputs, expected)
    expect_error = keys.text("expect_error") or None
    if expect_error is not None and has_expected:
        keys.refuse("expect_error", "a body that fails has no rows: leave out expect")
    if expect_error is None and not has_expected:
        keys.refuse("expect", "it is missing: add [[expect]] rows, expect = [], or expect_error")
    start, end = (_second(keys, key) for key in ("slot_start", "slot_end"))
    if end <= start:
        keys.refuse("slot_end", "it does not come after slot_start")
    tolerance = keys.seconds("float_tolerance", FLOAT_TOLERANCE)
    columns = keys.text_list("columns")
    keys.finish()
    return Case(name, path, (start, end), inputs, expected, expect_error, columns, tolerance)


def _second(keys: TomlKeys, key: str) -> int:
    moment = keys.moment(key)
    if moment is None:
        keys.refuse(key, f"it is missing: write {key} = 2026-01-01T00:00:00Z")
    if moment.microsecond:
        keys.refuse(key, "slots begin and end at whole seconds")
    return int(moment.timestamp())


def _inputs(keys: TomlKeys, folder: str) -> dict[str, list[TrialRow]]:
    tables = keys.table("input")
    return {_table(tables, name): _rows(tables, name, folder) for name in tables.names()}


def _table(keys: TomlKeys, name: str) -> str:
    try:
        return str(TableId.parse(name))
    except EventmillError as error:
        keys.refuse(f'"{name}"', f'{error}, as in [[input."cq.raw_events"]]')


def _rows(keys: TomlKeys, key: str, folder: str) -> list[TrialRow]:
    """Return rows that stand in the file, or in the file that ``file`` names."""
    if keys.is_table(key):
        inner = keys.table(key)
        inner.require("file", 'write file = "rows.ndjson", or a list of rows')
        path = os.path.join(folder, inner.text("file"))
        inner.finish()
        return list(read_ndjson(path))
    shown = f'"{key}"' if "." in key else key
    return [
        TrialRow(f"{os.path.basename(keys.path)} {keys.prefix}{shown}[{place}]", row)
        for place, row in enumerate(keys.rows(key))
    ]


def _add_files(
    keys: TomlKeys, folder: str, inputs: dict[str, list[TrialRow]], expected: list[TrialRow]
) -> bool:
    """Add the rows of the files beside a case; return whether one of them has what is expected."""
    has_expected = False
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        table = name.removesuffix(".ndjson")
        if name == EXPECT_NAME:
            if keys.has("expect"):
                keys.refuse("expect", f"{EXPECT_NAME} beside it has the rows: leave out one")
            expected += read_ndjson(path)
            has_expected = True
        elif table != name and "." in table:
            if str(TableId.parse(table)) in inputs:
                keys.refuse(f'input."{table}"', f"{name} beside it has the rows: leave out one")
            inputs[str(TableId.parse(table))] = list(read_ndjson(path))
    return has_expected


def check_case(case: Case, definition: WorkflowDefinition) -> None:
    """Raise UsageError when a case names a table or a column that its workflow has not."""
    known = {str(entry.table) for entry in definition.inputs}
    for table in case.inputs:
        if table not in known:
            raise UsageError(
                f"{case.path}: input: {table} is no input of {definition.name}; its inputs are"
                f" {', '.join(sorted(known))}"
            )
    names = [column.name for column in definition.output.columns]
    for name in case.columns:
        if name not in names:
            raise UsageError(f"{case.path}: columns: {_no_column(name, names)}")
    for row in case.expected:
        for name in row.values if isinstance(row.values, Mapping) else ():
            if name not in names:
                raise UsageError(f"{row.place}: {_no_column(name, names)}")


def _no_column(name: str, names: list[str]) -> str:
    return f"the output has no column {name!r}{near_names(name, names)}; it has {', '.join(names)}"
