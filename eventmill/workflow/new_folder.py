"""The first version of a workflow's folder: of one's own, or a copy of another."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import UsageError
from eventmill.schema.table import DEFAULT_PROJECT, TableId
from eventmill.store.own_columns import INGESTED_AT
from eventmill.workflow.definition import WorkflowDefinition
from eventmill.workflow.reading import FILE_NAME, SQL_NAME, check_name
from eventmill.workflow.sql_body import sql_name
from eventmill.workflow.timetable import Timetable

_SOME_MONDAY_SECONDS = 1_767_614_400
"""2026-01-05T12:00:00Z, in the slot of the example."""
_NO_OWNER = '# owner = "team@example.com"'


@dataclass(frozen=True, slots=True)
class NewWorkflow:
    """What is asked of a new workflow."""

    name: str
    input: TableId
    output: TableId
    schedule: str
    """The keys of ``[schedule]``, as they stand in the file."""
    timetable: Timetable
    """What they mean."""
    owner: str | None = None
    time_column: str | None = None
    """The TIMESTAMP column that says when a row is; None: when the store took it."""


def make_folder(root: str, wish: NewWorkflow) -> str:
    """Write a workflow that counts the rows of each slot, with a case; return its folder.

    Raises:
        UsageError: the name is none, or there is such a folder already.
    """
    return _placed(root, wish.name, _files(wish))


def copy_folder(root: str, name: str, source: WorkflowDefinition) -> str:
    """Copy a workflow under another name; return the folder of the copy.

    Raises:
        UsageError: the name is none, or there is such a folder already.
    """
    files: dict[str, bytes] = {}
    for place, folders, names in os.walk(source.folder):
        folders[:] = [folder for folder in folders if not folder.startswith((".", "__"))]
        for file_name in names:
            path = os.path.join(place, file_name)
            with open(path, "rb") as file:
                files[os.path.relpath(path, source.folder)] = file.read()
    own_name = re.compile(rb"^name\s*=.*$", re.MULTILINE)
    files[FILE_NAME] = own_name.sub(b'name = "%b"' % name.encode(), files[FILE_NAME], count=1)
    return _placed(root, name, files)


def _placed(root: str, name: str, files: Mapping[str, bytes]) -> str:
    """Write all files of a folder at once: nobody sees, nor keeps, a part of it."""
    check_name(name)
    folder = os.path.join(root, name)
    if os.path.exists(folder):
        raise UsageError(f"{folder} is there already: take another name, or remove it first")
    try:
        os.makedirs(root, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=root) as unfinished:
            made = os.path.join(unfinished, name)
            for path, content in files.items():
                os.makedirs(os.path.dirname(os.path.join(made, path)), exist_ok=True)
                with open(os.path.join(made, path), "wb") as file:
                    file.write(content)
            shutil.move(made, folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}") from error
    return folder


def _files(wish: NewWorkflow) -> dict[str, bytes]:
    proto_name = f"{wish.name.replace('-', '_')}.proto"
    words = re.split(r"[-_]+", wish.name)
    message = "".join(word.capitalize() for word in words)
    start, end = wish.timetable.slot_at(_SOME_MONDAY_SECONDS)
    fill = {
        "name": wish.name,
        "owner": f"owner = {_quoted(wish.owner)}" if wish.owner else _NO_OWNER,
        "input": _text(wish.input),
        "input_sql": sql_name(wish.input),
        "output": _text(wish.output),
        "proto": proto_name,
        "package": wish.output.dataset,
        "message": message,
        "schedule": wish.schedule,
        "time": wish.time_column or INGESTED_AT,
        "time_sql": f"`{wish.time_column}`" if wish.time_column else INGESTED_AT,
        "start": f"{utc_datetime(start):%Y-%m-%dT%H:%M:%SZ}",
        "end": f"{utc_datetime(end):%Y-%m-%dT%H:%M:%SZ}",
        "last": f"{utc_datetime(end - 1):%Y-%m-%dT%H:%M:%SZ}",
    }
    case = _CASE if wish.time_column else _CASE_BY_INGESTION
    return {
        FILE_NAME: _TOML.format(**fill).encode(),
        SQL_NAME: _SQL.format(**fill).encode(),
        proto_name: _PROTO.format(**fill).encode(),
        os.path.join("tests", "example.toml"): case.format(**fill).encode(),
    }


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()  # TOML's basic strings escape as JSON does


def _text(table: TableId) -> str:
    bare = f"{table.dataset}.{table.table}"
    return bare if table.project == DEFAULT_PROJECT else str(table)


_TOML = """\
name = "{name}"
{owner}
description = "How many rows of {input} each slot has"

[[input]]
table = "{input}"
# slot_by = "..."       which slot a row belongs to: a TIMESTAMP expression [its partition column]
# proto = "..."         its .proto beside this file: cases and `workflow try` judge rows by it

[output]
table = "{output}"
proto = "{proto}"
message = "{package}.{message}"

[schedule]
{schedule}
delay = "1m"            # after a slot's end, for rows on their way
lateness = "2d"         # how long late rows make a slot run again
"""
_SQL = """\
-- The rows of one slot, which is [@slot_start, @slot_end).
SELECT
  @slot_start AS slot_start,
  COUNT(*) AS row_count
FROM {input_sql}
WHERE {time_sql} >= @slot_start AND {time_sql} < @slot_end
"""
_PROTO = """\
syntax = "proto3";

package {package};

import "eventmill/options.proto";
import "google/protobuf/timestamp.proto";

// How many rows a slot has.
message {message} {{
  option (eventmill.table) = {{
    partition {{ field: "slot_start" granularity: "DAY" }}
  }};

  // Start of the slot.
  google.protobuf.Timestamp slot_start = 1;
  // Rows that came in it.
  int64 row_count = 2;
}}
"""
_CASE = """\
slot_start = {start}
slot_end = {end}

[[input."{input}"]]
{time} = {start}

[[input."{input}"]]
{time} = {last}

# The slot's end is not part of it.
[[input."{input}"]]
{time} = {end}

[[expect]]
slot_start = {start}
row_count = 2
"""
_CASE_BY_INGESTION = """\
slot_start = {start}
slot_end = {end}

# Rows of a case are taken at the slot's start. Their columns are inferred from what stands here.
[[input."{input}"]]
note = "first"

[[input."{input}"]]
note = "second"

[[expect]]
slot_start = {start}
row_count = 2
"""
