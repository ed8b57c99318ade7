"""How answers are written: for eyes on a terminal, for programs in a pipe.

Every value is written as ``wire.rows_text`` says, so that a program reads the same from a command
as from the server.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

from eventmill.base.errors import UsageError
from eventmill.wire.rows_text import csv_pieces, json_value, ndjson_pieces

if TYPE_CHECKING:
    import pyarrow as pa

    from eventmill.wire.answer import QueryResult

_F = TypeVar("_F", bound=Callable[..., Any])

# Everything that could move a terminal's cursor or change its state; tab and newline are shown
# as they are by the table.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNFOLDED_MAX = 27
"""Characters of a table's cell that stay on one line, such as a time or the number of a run, even
where the table gets wider than the terminal by it."""


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"


def format_options(command: _F) -> _F:
    """Give a command ``--format`` and ``-o``, as its arguments ``form`` and ``output``."""
    command = click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Write to FILE instead of stdout (needed for parquet).",
    )(command)
    return click.option(
        "--format",
        "form",
        type=click.Choice([str(form) for form in Format]),
        help="[default: table on a terminal, ndjson elsewhere; with -o by the file's ending].",
    )(command)


def chosen_format(form: str | None, output: str | None = None) -> Format:
    """Return the format that ``--format`` and ``-o`` ask for, or that stdout suggests."""
    if form is not None:
        chosen = Format(form)
    elif output is not None:
        ending = output.rpartition(".")[2].lower()
        chosen = Format(ending) if ending in list(Format) else Format.NDJSON
    else:
        chosen = Format.TABLE if sys.stdout.isatty() else Format.NDJSON
    if chosen is Format.PARQUET and output is None:
        raise UsageError("parquet is not for a terminal or a pipe: name a file with -o FILE")
    return chosen


def write_rows(
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    *,
    form: Format,
    output: str | None = None,
) -> None:
    """Write ``rows``, each a mapping with the keys ``columns``, to stdout or a file.

    Raises:
        UsageError: the file cannot be written.
    """
    if form is Format.PARQUET and output is not None:
        import pyarrow  # only for those who ask for Parquet

        _write_parquet(pyarrow.Table.from_pylist([dict(row) for row in rows]), output)
    elif form is Format.TABLE:
        _write_pieces([_table_text(columns, rows, output)], output)
    else:
        plain = [{key: json_value(value) for key, value in row.items()} for row in rows]
        _write_pieces(_pieces(columns, [plain], form), output)


def write_result(result: QueryResult, *, form: Format, output: str | None = None) -> None:
    """Write the rows of an answer to stdout or a file, the same bytes as the server gives.

    JSON alone differs: a list of the rows, as every command writes it.

    Raises:
        UsageError: the file cannot be written.
    """
    if form is Format.PARQUET and output is not None:
        _write_parquet(result.to_arrow(), output)
    elif form is Format.TABLE:
        _write_pieces([_table_text(result.column_names, result, output)], output)
    else:
        from eventmill.wire.rows import json_rows  # brings pyarrow

        _write_pieces(_pieces(result.column_names, json_rows(result), form), output)


def write_text(text: str, output: str | None = None) -> None:
    """Write ``text`` and a newline to stdout or a file; UsageError when it cannot be written."""
    _write_pieces([f"{text}\n".encode()], output)


def json_line(value: object) -> bytes:
    """Return ``value`` as one line of JSON, without the line's end."""
    return orjson.dumps(json_value(value))


def visible(text: str) -> str:
    """Return ``text`` with control characters spelled out, safe to show on a terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _pieces(
    columns: Sequence[str], chunks: Iterable[list[dict[str, Any]]], form: Format
) -> Iterator[bytes]:
    """Yield rows of JSON's types in one of the forms for programs."""
    if form is Format.CSV:
        return csv_pieces(columns, chunks)
    if form is Format.NDJSON:
        return ndjson_pieces(chunks)
    listed = [row for rows in chunks for row in rows]
    return iter([orjson.dumps(listed, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)])


def _write_pieces(pieces: Iterable[bytes], output: str | None) -> None:
    if output is None:
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()
        return
    try:
        with open(output, "wb") as file:
            file.writelines(pieces)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}") from error


def _write_parquet(table: pa.Table, output: str) -> None:
    import pyarrow.parquet as pq  # only for those who ask for Parquet: 60 ms

    try:
        pq.write_table(table, output, compression="zstd")
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error}") from error


def _table_text(
    columns: Sequence[str], rows: Iterable[Mapping[str, Any]], output: str | None
) -> bytes:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    listed = list(rows)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    # Microseconds that are all noughts only take room from what else is to be seen.
    lines = [
        [Text(visible(_cell(row.get(name)).replace(".000000Z", "Z"))) for name in columns]
        for row in listed
    ]
    needed = 0
    for place, name in enumerate(columns):
        values = [row.get(name) for row in listed]
        numeric = all(value is None or _is_number(value) for value in values) and bool(values)
        widest = max([cell_len(name), *(line[place].cell_len for line in lines)])
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
        needed += min(widest, _UNFOLDED_MAX) + 2
    for line in lines:
        table.add_row(*line)
    text = io.StringIO()
    styled = True if output is None and sys.stdout.isatty() else None
    console = Console(file=text, highlight=False, soft_wrap=False, force_terminal=styled)
    console.width = max(console.width, needed)
    console.print(table)
    return text.getvalue().encode()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    shown = json_value(value)
    return shown if isinstance(shown, str) else orjson.dumps(shown).decode()
