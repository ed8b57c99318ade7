"""Rows through Google's own client: for callers who keep it, and whatever it is pointed at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from google.protobuf.message import Message

from eventmill.compat.row_dict import json_row, row_dict
from eventmill.schema.problem import EventProblem
from eventmill.wire.split import cut

InsertError: TypeAlias = dict[str, Any]
"""What became of one row, in the form of BigQuery's insertAll: ``index``, and ``errors`` with
``reason``, ``location`` and ``message`` each."""


@runtime_checkable
class GoogleClient(Protocol):
    """What is asked of a ``google.cloud.bigquery.Client``."""

    def insert_rows_json(
        self,
        table: Any,  # noqa: ANN401 - Google's
        json_rows: Sequence[Mapping[str, Any]],
        row_ids: Any = ...,  # noqa: ANN401 - Google's
        skip_invalid_rows: bool | None = ...,
        *,
        timeout: float | None = ...,
    ) -> Sequence[Mapping[str, Any]]:
        """Insert rows; return what was refused."""
        ...


def column_names(client: Any, table: str) -> list[str]:  # noqa: ANN401 - Google's
    """Return the names of a table's columns, in order."""
    return [str(field.name) for field in client.get_table(table).schema]


def insert(
    client: GoogleClient,
    table: str,
    rows: Sequence[Message | Mapping[str, object]],
    insert_ids: Sequence[str],
    *,
    batch_size: int,
    timeout_seconds: float,
) -> list[InsertError]:
    """Insert rows, each batch within the service's limits; return what it refused.

    A refused row does not hold back its neighbours. How long a failing request is tried again is
    Google's client's to say; an error of its own goes to the caller, with a note on how many rows
    had gone before.
    """
    errors, places, json_rows = _judged(rows, insert_ids)
    ids = [insert_ids[place].encode() for place in places]
    texts = [json.dumps(row).encode() for row in json_rows]  # for their size alone
    for part in cut(ids, texts, events_max=batch_size):
        own = places[part.start : part.stop]
        try:
            told = client.insert_rows_json(
                table,
                json_rows[part.start : part.stop],
                row_ids=[insert_ids[place] for place in own],
                skip_invalid_rows=True,
                timeout=timeout_seconds,
            )
        except Exception as error:
            error.add_note(f"{part.start} of {len(places)} rows had been sent before")
            raise
        errors.extend(_placed(told, own, insert_ids))
    return sorted(errors, key=lambda error: int(error["index"]))


def _judged(
    rows: Sequence[Message | Mapping[str, object]], insert_ids: Sequence[str]
) -> tuple[list[InsertError], list[int], list[dict[str, Any]]]:
    """Return the errors of rows that fit no column, and places and dicts of the others."""
    errors: list[InsertError] = []
    places: list[int] = []
    json_rows: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        try:
            made = row_dict(row) if isinstance(row, Message) else json_row(dict(row))
        except EventProblem as problem:
            errors.append(insert_error(place, insert_ids[place], problem))
        else:
            places.append(place)
            json_rows.append(made)
    return errors, places, json_rows


def _placed(
    told: Iterable[Mapping[str, Any]], places: Sequence[int], insert_ids: Sequence[str]
) -> list[InsertError]:
    """Return the errors of one request with each row's place in the whole call."""
    placed = []
    for error in told:
        place = places[int(error["index"])]
        placed.append({**error, "index": place, "insert_id": insert_ids[place]})
    return placed


class _Refusal(Protocol):
    @property
    def reason(self) -> str: ...
    @property
    def field(self) -> str: ...
    @property
    def message(self) -> str: ...


def insert_error(index: int, insert_id: str, refusal: _Refusal) -> InsertError:
    """Return what is wrong with one row in the form of BigQuery's insertAll."""
    told = {
        "reason": str(refusal.reason),
        "location": refusal.field,
        "debugInfo": "",
        "message": refusal.message,
    }
    return {"index": index, "insert_id": insert_id, "errors": [told]}
