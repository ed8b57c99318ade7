"""Runs cases: the body over the case's rows in memory, its output against the rows expected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import EventmillError, UsageError
from eventmill.schema.table import ColumnType, TableId
from eventmill.store.memory import MemoryStore
from eventmill.store.own_columns import INSERT_ID
from eventmill.workflow.cases import Case, case_paths, check_case, read_case
from eventmill.workflow.definition import Body, WorkflowDefinition
from eventmill.workflow.row_diff import compare_rows, diff_text
from eventmill.workflow.slot_run import choose_body
from eventmill.workflow.sql_body import sql_name
from eventmill.workflow.trial import Trial
from eventmill.workflow.trial_rows import put_rows, spec_of_columns, without_required

if TYPE_CHECKING:
    from eventmill.workflow.beam import BeamOptions

_EXPECTED = TableId("local", "cases", "expected")
_FAULTS_TOLD_MAX = 20


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """What became of one case with one body."""

    workflow: str
    case: str
    body: Body
    passed: bool
    told: str
    """What is wrong, in lines; empty when it passed."""
    notes: tuple[str, ...]
    """What was taken for granted."""
    seconds: float


def run_cases(
    definition: WorkflowDefinition,
    *,
    body: Body | None = None,
    beam: BeamOptions | None = None,
) -> Iterator[CaseOutcome]:
    """Run every case of a workflow, with each body that it has or with one; yield the outcomes.

    Raises:
        UsageError: the workflow has no such body.
    """
    bodies = definition.bodies if body is None else (choose_body(definition, body),)
    for name, path in case_paths(definition).items():
        for one in bodies:
            yield run_case(definition, name, path, one, beam=beam)


def run_case(
    definition: WorkflowDefinition,
    name: str,
    path: str,
    body: Body,
    *,
    beam: BeamOptions | None = None,
) -> CaseOutcome:
    """Run one case with one body. A case that cannot be read, or whose rows do not fit, fails."""
    began = SYSTEM_CLOCK.monotonic()
    notes: list[str] = []
    try:
        case = read_case(name, path)
        check_case(case, definition)
        told = _judge(definition, case, body, beam, notes)
    except EventmillError as error:
        told = str(error)
    seconds = SYSTEM_CLOCK.monotonic() - began
    return CaseOutcome(definition.name, name, body, not told, told, tuple(notes), seconds)


def _judge(
    definition: WorkflowDefinition,
    case: Case,
    body: Body,
    beam: BeamOptions | None,
    notes: list[str],
) -> str:
    """Return what is wrong; empty when nothing is."""
    expected = _expected_rows(definition, case)
    with closing(Trial(definition, taken_at=case.slot[0])) as trial:
        faults = trial.fill(case.inputs)
        notes += trial.notes
        if faults:
            told = "\n".join(map(str, faults[:_FAULTS_TOLD_MAX]))
            return f"{len(faults)} rows do not fit their input table:\n{told}"
        try:
            actual = list(trial.run(case.slot, body, log=lambda _: None, beam=beam))
        except EventmillError as error:
            if case.expect_error is None:
                return f"the body failed: {error}"
            if case.expect_error in str(error):
                return ""
            return f"the body failed, but not with {case.expect_error!r}: {error}"
    if case.expect_error is not None:
        return f"the body should fail with {case.expect_error!r}, and gave {len(actual)} rows"
    for rows in (expected, actual):
        _parse_json(rows, definition)
    columns = case.columns or tuple(column.name for column in definition.output.columns)
    diff = compare_rows(expected, actual, columns, float_tolerance=case.float_tolerance)
    return diff_text(diff, expected, actual, columns) if diff else ""


def _parse_json(rows: list[dict[str, Any]], definition: WorkflowDefinition) -> None:
    """Put values in the place of JSON texts: how a text is written does not count."""
    names = [one.name for one in definition.output.columns if one.type is ColumnType.JSON]
    for row in rows:
        for name in names:
            if isinstance(row[name], str):
                row[name] = orjson.loads(row[name])


def _expected_rows(definition: WorkflowDefinition, case: Case) -> list[dict[str, Any]]:
    """Return the expected rows as a query of the output table would, in their order."""
    spec = spec_of_columns(_EXPECTED, without_required(definition.output.columns))
    with closing(MemoryStore()) as store:
        store.apply(spec)
        faults = put_rows(store, spec, case.expected)
        if faults:
            told = "\n".join(map(str, faults[:_FAULTS_TOLD_MAX]))
            raise UsageError(f"{len(faults)} expected rows do not fit the output table:\n{told}")
        sql = (
            f"SELECT * FROM {sql_name(_EXPECTED)}"  # noqa: S608 - a name of this module
            f" ORDER BY CAST(SUBSTR({INSERT_ID}, 5) AS INT64)"
        )
        return list(store.query(sql, row_limit=None))
