"""A workflow's folder read: ``workflow.toml`` and what it names, as a ``WorkflowDefinition``.

Every error names the file, the key, what is wrong and what would do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args

from eventmill.base.errors import EventmillError, QueryError, SchemaError, UsageError
from eventmill.schema.table import TableId, TableSpec
from eventmill.store.change import refuse_own
from eventmill.wire.slot import WORKFLOW_NAME
from eventmill.workflow.cron_slots import CronSlots
from eventmill.workflow.definition import Body, Missed, Overlap, WorkflowDefinition, WorkflowInput
from eventmill.workflow.every_slots import EverySlots
from eventmill.workflow.output_proto import proto_spec
from eventmill.workflow.sql_body import check_expression, check_sql
from eventmill.workflow.timetable import LATEST_SECONDS, Timetable
from eventmill.workflow.toml_keys import TomlKeys

FILE_NAME = "workflow.toml"
SQL_NAME = "query.sql"
PIPELINE_NAME = "pipeline.py"
COUNTS_NAME = "counts.sql"
SHIPPED_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shipped")
"""Folder of the workflows that come with this package."""

NAME_WANTED = (
    "use 2 to 40 lower-case letters, digits, - and _, a letter first and no - or _ at the end"
)
_RETRIES_MAX = 1_000
_PARALLEL_MAX = 64


@dataclass(frozen=True, slots=True)
class BrokenWorkflow:
    """A folder that cannot be read as a workflow."""

    name: str
    """Name of the folder."""
    folder: str
    error: str
    """What is wrong, where, and what would do."""


@dataclass(frozen=True, slots=True)
class FoundWorkflows:
    """What was found in some folders, each by name, in their order; the first of a name counts."""

    definitions: tuple[WorkflowDefinition, ...]
    broken: tuple[BrokenWorkflow, ...]


def list_workflows(folders: Sequence[str]) -> FoundWorkflows:
    """Read every workflow below ``folders``; a broken one is told and hides no other.

    Args:
        folders: each holds workflows, a folder each; one that does not exist holds none.
    """
    definitions: list[WorkflowDefinition] = []
    broken: list[BrokenWorkflow] = []
    for name, folder in _places(folders).items():
        try:
            definitions.append(read_workflow(folder))
        except (EventmillError, OSError) as error:
            broken.append(BrokenWorkflow(name, folder, str(error)))
    return FoundWorkflows(tuple(definitions), tuple(broken))


def find_workflow(name: str, folders: Sequence[str]) -> WorkflowDefinition:
    """Read the workflow ``name`` from the first of ``folders`` that has it.

    Raises:
        UsageError: none of them has it, or it cannot be read.
        SchemaError: a .proto of it cannot be used.
    """
    places = _places(folders)
    if name not in places:
        known = ", ".join(places) or "none"
        hint = f"; `eventmill workflow new {name}` makes it"
        raise UsageError(
            f"there is no workflow {name!r} in {', '.join(folders)}; there are: {known}"
            f"{hint if WORKFLOW_NAME.fullmatch(name) else ''}"
        )
    return read_workflow(places[name])


def read_workflow(folder: str) -> WorkflowDefinition:
    """Read the workflow in ``folder``.

    Raises:
        UsageError: a key, a value or a file is missing or wrong; the message names the file, the
            key, and what would do.
        SchemaError: a .proto file cannot be used.
    """
    folder = os.path.abspath(folder)
    keys = TomlKeys.read(os.path.join(folder, FILE_NAME))
    name = _name(keys, folder)
    bodies, sql, pipeline_path = _bodies(folder)
    inputs = _inputs(keys, folder)
    output = _output(keys.table("output"), folder)
    counts_sql = _text(folder, COUNTS_NAME)
    _check_tables(keys, inputs, output, {SQL_NAME: sql, COUNTS_NAME: counts_sql}, folder)
    schedule = keys.table("schedule")
    keys.require("schedule", 'add [schedule] with every = "1h", or cron = "30 2 * * *"')
    timetable = _timetable(schedule)
    definition = WorkflowDefinition(
        name=name,
        folder=folder,
        owner=keys.text("owner"),
        description=keys.text("description"),
        inputs=inputs,
        output=output,
        timetable=timetable,
        bodies=bodies,
        sql=sql,
        pipeline_path=pipeline_path,
        start_at_seconds=_start(schedule, timetable),
        delay_seconds=schedule.seconds("delay", 60.0),
        lateness_seconds=schedule.seconds("lateness", 86_400.0 * 2),
        freshness_seconds=schedule.seconds("freshness", 0.0, low=1.0)
        if schedule.has("freshness")
        else None,
        retries=schedule.whole("retries", 3, low=0, high=_RETRIES_MAX),
        retry_base_seconds=schedule.seconds("retry_base", 10.0, low=0.001),
        timeout_seconds=schedule.seconds("timeout", 3_600.0, low=1.0),
        missed=cast("Missed", schedule.choice("missed", get_args(Missed), "all")),
        missed_slots_max=schedule.whole("missed_slots_max", 1_000, low=1, high=1_000_000),
        overlap=cast("Overlap", schedule.choice("overlap", get_args(Overlap), "queue")),
        parallel_slots=schedule.whole("parallel_slots", 1, low=1, high=_PARALLEL_MAX),
        labels=keys.texts("labels"),
        counts_sql=counts_sql,
    )
    if definition.freshness_seconds is not None and (
        definition.freshness_seconds <= definition.delay_seconds
    ):
        schedule.refuse(
            "freshness", "a slot cannot be done before delay has passed: make it longer"
        )
    schedule.finish()
    keys.finish()
    return definition


def check_name(name: str) -> None:
    """Raise UsageError when ``name`` cannot be that of a workflow."""
    if not WORKFLOW_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a workflow: {NAME_WANTED}")


def _places(folders: Sequence[str]) -> dict[str, str]:
    """Return the folder of each workflow by name; the first of a name counts."""
    found: dict[str, str] = {}
    for root in folders:
        if not os.path.isdir(root):
            continue
        for name in sorted(os.listdir(root)):
            folder = os.path.join(root, name)
            if _is_meant(folder):
                found.setdefault(name, os.path.abspath(folder))
    return dict(sorted(found.items()))


def _is_meant(folder: str) -> bool:
    """Tell whether a folder is meant to be a workflow; one that cannot be looked into may be."""
    if any(os.path.isfile(os.path.join(folder, file)) for file in _MARKS):
        return True
    return os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK)


_MARKS = (FILE_NAME, SQL_NAME, PIPELINE_NAME)
"""Files of which a folder has one when it is meant to be a workflow."""


def _name(keys: TomlKeys, folder: str) -> str:
    own = os.path.basename(folder)
    keys.require("name", f'write name = "{own}"')
    name = keys.text("name")
    if not WORKFLOW_NAME.fullmatch(name):
        keys.refuse("name", f"{name!r} is no name of a workflow: {NAME_WANTED}")
    if name != own:
        keys.refuse("name", f"{name!r} is not the folder's name, {own!r}: rename one of them")
    return name


def _bodies(folder: str) -> tuple[tuple[Body, ...], str | None, str | None]:
    bodies: list[Body] = []
    sql = _text(folder, SQL_NAME)
    if sql is not None:
        bodies.append("sql")
    pipeline_path = os.path.join(folder, PIPELINE_NAME)
    has_pipeline = os.path.isfile(pipeline_path)
    if has_pipeline:
        bodies.append("beam")
    if not bodies:
        raise UsageError(f"{folder} has no body: write {SQL_NAME} (GoogleSQL) or {PIPELINE_NAME}")
    return tuple(bodies), sql, pipeline_path if has_pipeline else None


def _text(folder: str, name: str) -> str | None:
    """Return what is in a file of the folder; None: there is no such file."""
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text in UTF-8: {error}") from error


def _inputs(keys: TomlKeys, folder: str) -> tuple[WorkflowInput, ...]:
    keys.require("input", 'add [[input]] with table = "dataset.table"')
    inputs = [_input(one, folder) for one in keys.tables("input")]
    if not inputs:
        keys.refuse("input", 'it has no table: add [[input]] with table = "dataset.table"')
    tables = [one.table for one in inputs]
    for table in tables:
        if tables.count(table) > 1:
            keys.refuse("input", f"{table} is named twice: leave one out")
    return tuple(inputs)


def _input(keys: TomlKeys, folder: str) -> WorkflowInput:
    keys.require("table", 'write table = "dataset.table"')
    table = _table(keys, "table")
    slot_by = keys.text("slot_by") or None
    if slot_by is not None:
        try:
            check_expression(slot_by, table)
        except QueryError as error:
            keys.refuse("slot_by", f"{error}; write a TIMESTAMP expression over its columns")
    required = keys.flag("required", True)
    proto, message = keys.text("proto"), keys.text("message")
    if message and not proto:
        keys.refuse("message", "it needs the key proto, the file that has it")
    spec = _spec(keys, folder, proto, message, table) if proto else None
    keys.finish()
    return WorkflowInput(table, slot_by, required, spec)


def _output(keys: TomlKeys, folder: str) -> TableSpec:
    keys.require("proto", "name the .proto file of the output's message, beside workflow.toml")
    table = _table(keys, "table") if keys.has("table") else None
    spec = _spec(keys, folder, keys.text("proto"), keys.text("message"), table)
    keys.finish()
    return spec


def _spec(
    keys: TomlKeys, folder: str, proto: str, message: str, table: TableId | None
) -> TableSpec:
    try:
        return proto_spec(folder, proto, message, table)
    except (SchemaError, UsageError) as error:
        keys.refuse("proto", f"{proto}: {error}")


def _table(keys: TomlKeys, key: str) -> TableId:
    try:
        table = TableId.parse(keys.text(key))
        refuse_own(table)
    except EventmillError as error:
        keys.refuse(key, str(error))
    return table


def _check_tables(
    keys: TomlKeys,
    inputs: Sequence[WorkflowInput],
    output: TableSpec,
    statements: Mapping[str, str | None],
    folder: str,
) -> None:
    declared = {one.table for one in inputs}
    if output.table in declared:
        keys.refuse("output", f"{output.table} is an input too: its slots would run for ever")
    for name, sql in statements.items():
        if sql is None:
            continue
        path = os.path.join(folder, name)
        try:
            read = check_sql(sql)
        except QueryError as error:
            raise type(error)(f"{path}: {error}") from error
        for table in read:
            if table not in declared:
                raise UsageError(
                    f"{path} reads {table}, which is no input: add [[input]] with table ="
                    f' "{table.dataset}.{table.table}" to {FILE_NAME}'
                )


def _timetable(keys: TomlKeys) -> Timetable:
    every, cron = keys.has("every"), keys.has("cron")
    if every == cron:
        told = 'give either every = "1h" or cron = "30 2 * * *"'
        keys.refuse("every", told if every else f"{told}{keys.misspelt('every', 'cron')}")
    if every:
        if keys.has("timezone"):
            keys.refuse(
                "timezone",
                "slots of a fixed length are counted in UTC: for days of another zone write"
                ' cron = "0 0 * * *"',
            )
        length = keys.seconds("every", 0.0, low=1.0)
        offset = keys.seconds("offset", 0.0)
        for key, value in (("every", length), ("offset", offset)):
            if value != int(value):
                keys.refuse(key, f"{value} is not a whole number of seconds")
        try:
            return EverySlots(int(length), offset_seconds=int(offset))
        except UsageError as error:
            keys.refuse("every", str(error))
    if keys.has("offset"):
        keys.refuse("offset", "it is for every: write the time into the cron expression")
    try:
        return CronSlots(keys.text("cron"), keys.text("timezone", "UTC"))
    except UsageError as error:
        keys.refuse("cron", str(error))


def _start(keys: TomlKeys, timetable: Timetable) -> int | None:
    start = keys.moment("start")
    if start is None:
        return None
    first = next(timetable.slots(start.timestamp(), LATEST_SECONDS), None)
    if first is None:
        keys.refuse("start", f"{start} has no slot after it: write an earlier time")
    return first[0]
