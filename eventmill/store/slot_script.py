"""The script by which BigQuery replaces a slot's rows: one transaction, or nothing.

The BigQuery store sends it, and the local surface understands exactly it, so both know it from
here. Which slots have been written, and by which generation, stands in a table of its own: with
it the transaction refuses whoever was overtaken and slots of another length, as every store does.

Transactions: cloud.google.com/bigquery/docs/transactions; ASSERT:
cloud.google.com/bigquery/docs/reference/standard-sql/debugging-statements (looked up 2026-11-24).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from eventmill.base.errors import UsageError
from eventmill.schema.table import TableId
from eventmill.store.own_columns import INGESTED_AT, INSERT_ID

STALE = "a later attempt has written the slot"
OVERLAP = "a longer slot of the workflow overlaps this one"
"""What the assertions say; BigQuery puts it into its error."""
PARAMETERS = (
    "output", "workflow", "slot_start", "slot_end", "generation", "output_rows", "low", "high",
)  # fmt: skip
"""Names of the script's parameters: the output's name, the slot, and the bounds of its IDs."""
SLOT_COLUMNS = (
    ("output", "STRING"),
    ("workflow", "STRING"),
    ("slot_start", "TIMESTAMP"),
    ("slot_end", "TIMESTAMP"),
    ("generation", "INTEGER"),
    ("output_rows", "INTEGER"),
)
"""Columns of the table of slots."""

_SLOT = "output = @output AND workflow = @workflow"
_BEGIN = f"""\
BEGIN TRANSACTION;
ASSERT NOT EXISTS (SELECT 1 FROM <slots> WHERE {_SLOT}
  AND slot_start < @slot_end AND slot_end > @slot_start AND generation > @generation)
  AS '{STALE}';
ASSERT NOT EXISTS (SELECT 1 FROM <slots> WHERE {_SLOT}
  AND slot_start < @slot_end AND slot_end > @slot_start AND output_rows > 0
  AND NOT (slot_start >= @slot_start AND slot_end <= @slot_end))
  AS '{OVERLAP}';
DELETE FROM <slots> WHERE {_SLOT} AND slot_start >= @slot_start AND slot_end <= @slot_end;
INSERT INTO <slots> (output, workflow, slot_start, slot_end, generation, output_rows)
  VALUES (@output, @workflow, @slot_start, @slot_end, @generation, @output_rows);
"""  # noqa: S608 - words of this module
_DELETE = (
    "DELETE FROM <output> WHERE ({})"  # noqa: S608 - as above
    f" AND {INSERT_ID} >= @low AND {INSERT_ID} < @high;\n"
)
_INSERT = "INSERT INTO <output> ({0}) SELECT {0} FROM <staging>;\n"
_END = "COMMIT TRANSACTION;\n"


@dataclass(frozen=True, slots=True)
class SlotScript:
    """Which tables a script is about."""

    slots: TableId
    """Which slots have been written."""
    output: TableId
    staging: TableId | None
    """The rows that come into the output, with their insert IDs; None: the slot has none."""


def write_slot_script(
    script: SlotScript, columns: Sequence[str], conditions: Sequence[str] = ("TRUE",)
) -> str:
    """Return the text of a script.

    Args:
        script: its tables.
        columns: of the output, without the store's own.
        conditions: of which each row of the output meets one: partition filters, where the table
            wants them.
    """
    names = ", ".join(f"`{name}`" for name in (*columns, INSERT_ID, INGESTED_AT))
    text = _BEGIN + "".join(_DELETE.format(condition) for condition in conditions)
    if script.staging is not None:
        text += _INSERT.format(names)
    text = (text + _END).replace("<slots>", f"`{script.slots}`")
    text = text.replace("<output>", f"`{script.output}`")
    return text.replace("<staging>", f"`{script.staging}`")


def read_slot_script(text: str) -> SlotScript | None:
    """Return what a script is about; None: it is none that ``write_slot_script`` has written."""
    slots, deletes = _SLOTS.search(text), _DELETES.findall(text)
    if slots is None or not deletes:
        return None
    insert = _INSERTS.search(text)
    try:
        script = SlotScript(
            TableId.parse(slots[1]),
            TableId.parse(deletes[0][0]),
            TableId.parse(insert[2]) if insert else None,
        )
    except UsageError:
        return None
    columns = [name.strip("`") for name in insert[1].split(", ")][:-2] if insert else []
    # Whatever else the text says would show here.
    written = write_slot_script(script, columns, [condition for _, condition in deletes])
    return script if written == text else None


_SLOTS = re.compile("FROM `([^`]+)` WHERE output = ")
_DELETES = re.compile(
    "DELETE FROM `([^`]+)` WHERE "  # noqa: S608 - as above
    f"\\(([^;@]*)\\) AND {INSERT_ID} >= "
)
_INSERTS = re.compile("INSERT INTO `[^`]+` \\((`[^;()]+`)\\) SELECT [^;]+ FROM `([^`]+)`;\n")
