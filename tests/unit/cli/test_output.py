"""How values are written, for programs and for eyes."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventmill.base.errors import UsageError
from eventmill.cli.demo.report import bar
from eventmill.cli.output import (
    Format,
    chosen_format,
    json_line,
    visible,
    write_result,
    write_rows,
)
from eventmill.wire.answer import QueryResult, QueryStats
from eventmill.wire.rows import Format as WireFormat
from eventmill.wire.rows import encode_rows
from eventmill.wire.rows_text import json_value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (b"\x00\xff", "AP8="),
        (Decimal("1E+3"), "1000"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05.000000Z"),
        (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05.000000"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00.000000"),
        (timedelta(minutes=1), "0:01:00"),
        ([{"a": (1, None)}], [{"a": [1, None]}]),
    ],
)
def test_values_are_written_as_the_server_writes_them(value, shown):
    assert json_value(value) == shown


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_an_answer_has_the_same_bytes_from_a_command_as_from_the_server(capfdbinary, form):
    columns = {
        "t": pa.array([time(3, 4), None], pa.time64("us")),
        "f": [1e16, float("nan")],
        "n": pa.array([Decimal("1.50"), None]),
        "b": [b"\xff", b""],
        "s": ['a,"b"\n', ""],
        "l": [[{"x": time(1, 2)}], []],
        "z": pa.array([datetime(2026, 1, 2, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
        "o": [True, None],
        "m": pa.array([[("k", 1.0)], None], pa.map_(pa.string(), pa.float64())),
    }
    result = QueryResult(pa.table(columns), QueryStats(0.0, 0, False, 0))
    write_result(result, form=Format(form))
    of_server = b"".join(encode_rows(result, WireFormat(form)))
    assert capfdbinary.readouterr().out == of_server
    listed = [row for row in result if row["m"] is None]  # rows that a command puts together
    write_rows(result.column_names, listed, form=Format(form))
    assert of_server.endswith(capfdbinary.readouterr().out.splitlines(keepends=True)[-1])


@given(st.text())
def test_nothing_that_moves_a_terminal_is_shown(text):
    shown = visible(text)
    assert all(char in "\t\n" or ord(char) >= 32 for char in shown)
    assert "\x1b" not in shown


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
        lambda below: st.lists(below) | st.dictionaries(st.text(), below),
        max_leaves=20,
    )
)
def test_every_answer_is_one_line_of_json(value):
    line = json_line(value)
    assert b"\n" not in line
    assert orjson.loads(line) == json_value(value)


def test_the_format_follows_the_files_ending_and_the_terminal(monkeypatch):
    assert chosen_format(None) is Format.NDJSON
    assert chosen_format(None, "x.csv") is Format.CSV
    assert chosen_format(None, "x.txt") is Format.NDJSON
    assert chosen_format("json", "x.csv") is Format.JSON
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert chosen_format(None) is Format.TABLE
    with pytest.raises(UsageError, match="-o FILE"):
        chosen_format("parquet")


def test_a_table_shows_nulls_and_spells_out_control_characters(capsys):
    write_rows(["a", "b"], [{"a": "x\x1b[2J", "b": None}], form=Format.TABLE)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "x\\x1b[2J" in out
    assert "NULL" in out


def test_a_table_breaks_no_short_cell_however_narrow_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    long = "it was said that " * 5
    row = {"run": 1795557185690508, "slot": "2026-11-24T21:51Z", "state": "succeeded", "why": long}
    write_rows(list(row), [row], form=Format.TABLE)
    header, first, *folded = capsys.readouterr().out.splitlines()
    assert header.split() == list(row)
    assert first.split()[:3] == ["1795557185690508", "2026-11-24T21:51Z", "succeeded"]
    assert " ".join(first.split()[3:] + " ".join(folded).split()) == long.strip()
    assert folded  # the edge: it did not fit


@given(st.floats(-1, 2), st.integers(1, 40))
def test_a_bar_is_never_longer_than_its_room(share, cells):
    assert len(bar(share, cells)) <= cells


def test_a_bar_grows_with_its_share():
    assert [bar(share, 2) for share in (0, 0.25, 0.5, 1)] == ["", "▌", "█", "██"]
