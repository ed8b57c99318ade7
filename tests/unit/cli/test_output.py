"""How values are written, for programs and for eyes."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventmill.base.errors import UsageError
from eventmill.cli.demo.report import bar
from eventmill.cli.output import (
    Format,
    chosen_format,
    json_line,
    plain,
    visible,
    write_rows,
)


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
        (time(3, 4), "03:04:00"),
        (timedelta(minutes=1), 60.0),
        ([{"a": (1, None)}], [{"a": [1, None]}]),
    ],
)
def test_values_are_written_as_the_server_writes_them(value, shown):
    assert plain(value) == shown


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
    assert orjson.loads(line) == plain(value)


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


@given(st.floats(-1, 2), st.integers(1, 40))
def test_a_bar_is_never_longer_than_its_room(share, cells):
    assert len(bar(share, cells)) <= cells


def test_a_bar_grows_with_its_share():
    assert [bar(share, 2) for share in (0, 0.25, 0.5, 1)] == ["", "▌", "█", "██"]
