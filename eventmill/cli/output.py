"""How answers are written: for eyes on a terminal, for programs in a pipe.

Timestamps are UTC in RFC 3339, BYTES are base64, NUMERIC are texts, and numbers that JSON does not
have are the texts ``NaN``, ``Infinity``, ``-Infinity``: as ``wire.rows`` has them, so
that a program reads the same from a command as from the server.
"""

from __future__ import annotations

import base64
import csv
import io
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click
import orjson

from eventmill.base.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_F = TypeVar("_F", bound=Callable[..., Any])

# Everything that could move a terminal's cursor or change its state; tab and newline are shown
# as they are by the table.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


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
        _write_parquet(list(rows), output)
        return
    if output is None:
        _write_text(columns, rows, form, sys.stdout.buffer)
        return
    try:
        with open(output, "wb") as file:
            _write_text(columns, rows, form, file)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}") from error


def write_arrow(table: pa.Table, output: str) -> None:
    """Write an Arrow table as a Parquet file, with its types.

    Raises:
        UsageError: the file cannot be written.
    """
    import pyarrow.parquet as pq  # only for those who ask for Parquet: 60 ms

    try:
        pq.write_table(table, output, compression="zstd")
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error}") from error


def json_line(value: object) -> bytes:
    """Return ``value`` as one line of JSON, without the line's end."""
    return orjson.dumps(plain(value), option=orjson.OPT_NON_STR_KEYS)


def plain(value: object) -> object:
    """Return ``value`` made of what JSON has."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _plain_float(value)
    if isinstance(value, Mapping):
        return {str(key): plain(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(below) for below in value]
    if isinstance(value, datetime):
        return _plain_datetime(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return format(value, "f")
    return str(value)


def visible(text: str) -> str:
    """Return ``text`` with control characters spelled out, safe to show on a terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _plain_float(value: float) -> object:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _plain_datetime(value: datetime) -> str:
    if value.tzinfo is None:  # a DATETIME column: civil time
        return value.isoformat(timespec="microseconds")
    text = value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return f"{text}Z"


def _write_text(
    columns: Sequence[str], rows: Iterable[Mapping[str, Any]], form: Format, file: BinaryIO
) -> None:
    if form is Format.JSON:
        listed = [plain(row) for row in rows]
        file.write(orjson.dumps(listed, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    elif form is Format.NDJSON:
        file.writelines(json_line(row) + b"\n" for row in rows)
    elif form is Format.CSV:
        _write_csv(columns, rows, file)
    else:
        _write_table(columns, rows, file)
    file.flush()


def _write_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name), "") for name in columns] for row in rows)
    text.flush()
    text.detach()


def _write_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], file: BinaryIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    listed = list(rows)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        values = [row.get(name) for row in listed]
        numeric = all(value is None or _is_number(value) for value in values) and bool(values)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        cells = [_cell(row.get(name), "NULL") for name in columns]
        # Microseconds that are all noughts only take room from what else is to be seen.
        table.add_row(*(Text(visible(cell.replace(".000000Z", "Z"))) for cell in cells))
    text = io.TextIOWrapper(file, "utf-8", newline="")
    Console(file=text, highlight=False, soft_wrap=False).print(table)
    text.flush()
    text.detach()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _cell(value: object, null: str) -> str:
    if value is None:
        return null
    shown = plain(value)
    if isinstance(shown, str):
        return shown
    return orjson.dumps(shown, option=orjson.OPT_NON_STR_KEYS).decode()


def _write_parquet(rows: list[Mapping[str, Any]], output: str) -> None:
    import pyarrow  # only for those who ask for Parquet

    write_arrow(pyarrow.Table.from_pylist([dict(row) for row in rows]), output)
