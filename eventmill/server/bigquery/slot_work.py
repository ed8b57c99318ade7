"""The one script that the surface runs: a slot's rows replaced, in one transaction.

It is understood by its text, as ``store.slot_script`` writes it, and carried out by the store,
which keeps itself which slots have been written: the script's own table of them is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from eventmill.base.errors import SchemaConflictError, StaleAttemptError
from eventmill.schema.table import TableId
from eventmill.server.bigquery.errors import ApiError, invalid, unsupported
from eventmill.server.bigquery.job_runner import Attempt, Outcome, Work
from eventmill.server.bigquery.query_settings import parameters_of
from eventmill.server.bigquery.results import Results
from eventmill.server.bigquery.rooms import Rooms
from eventmill.store.own_columns import INSERT_ID
from eventmill.store.slot_script import OVERLAP, PARAMETERS, STALE, SlotScript, read_slot_script
from eventmill.store.slots import SlotKey, SlotStore


def slot_script_of(configuration: Mapping[str, Any]) -> SlotScript | None:
    """Return what a query job's script is about; None: it is a query.

    Raises:
        ApiError: it is another script.
    """
    sql = configuration.get("query")
    if not isinstance(sql, str) or sql.lstrip()[:5].upper() != "BEGIN":
        return None
    script = read_slot_script(sql)
    if script is None:
        raise unsupported(
            "a script other than the one by which Eventmill replaces a slot", "send one statement"
        )
    return script


class SlotWork:
    """Runs query jobs that are the script, and hands on the others."""

    def __init__(self, rooms: Rooms, results: Results, query: Work) -> None:
        """Prepare; ``query`` runs a job that is a query."""
        self._rooms = rooms
        self._results = results
        self._query = query

    def run(self, attempt: Attempt) -> Outcome:
        """Replace the rows of a slot by those of the staging table, or run a query."""
        configuration = attempt.job.configuration["query"]
        script = slot_script_of(configuration)
        if script is None:
            return self._query(attempt)
        store = self._rooms.store
        if not isinstance(store, SlotStore):
            raise unsupported("a script", "this server's store cannot replace the rows of a slot")
        slot, generation = _slot(parameters_of(configuration))
        self._rooms.describe(script.output)
        rows = self._rows(script.staging)
        try:
            outcome = store.replace_slot(script.output, slot, rows, generation=generation)
        except StaleAttemptError as error:
            raise _failed(STALE, error) from error
        except SchemaConflictError as error:
            raise _failed(OVERLAP, error) from error
        self._results.keep(attempt.job.key, pa.table({}), durable=False)  # clients ask for it
        statistics = {
            "statementType": "SCRIPT",
            "totalBytesProcessed": str(rows.nbytes),
            "totalBytesBilled": str(rows.nbytes),
            "numDmlAffectedRows": str(outcome.rows + outcome.replaced_rows),
        }
        return Outcome(statistics, {"schema": []})

    def _rows(self, staging: TableId | None) -> pa.Table:
        if staging is None:
            return pa.table({})
        table = self._rooms.describe(staging)
        names = ", ".join(f"`{column.name}`" for column in table.spec.columns)
        # As they are numbered in their slot.
        sql = (
            f"SELECT {names} FROM `{table.id}`"  # noqa: S608 - names of a definition
            f" ORDER BY LENGTH({INSERT_ID}), {INSERT_ID}"
        )
        return self._rooms.store.query(sql, row_limit=None).to_arrow()


def _slot(params: Mapping[str, Any]) -> tuple[SlotKey, int]:
    missing = [name for name in PARAMETERS if params.get(name) is None]
    if missing:
        raise invalid(f"Query parameter '{missing[0]}' not found")
    start, end = params["slot_start"], params["slot_end"]
    if not isinstance(start, datetime) or not isinstance(end, datetime):
        raise invalid("slot_start and slot_end must be of type TIMESTAMP")
    slot = SlotKey(str(params["workflow"]), int(start.timestamp()), int(end.timestamp()))
    if (params["low"], params["high"]) != (slot.insert_id_low, slot.insert_id_high):
        raise invalid("low and high must be the bounds of the slot's insert IDs")
    return slot, int(params["generation"])


def _failed(assertion: str, error: Exception) -> ApiError:
    """Return what BigQuery says when an assertion of a script does not hold."""
    return ApiError(400, "invalidQuery", f"Query error: {assertion}: {error}")
