"""Keyed combines, dead letters, CSV and counters, in pipelines on the FnApiRunner."""

from __future__ import annotations

import csv
import io
import json
import random
from typing import NamedTuple

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from beam_place import run_rows, test_pipeline
from hypothesis import given
from hypothesis import strategies as st

from eventmill.beam import ConvertToCSV, KeyedCombine, with_dead_letters


class Event(NamedTuple):
    key: object
    value: object


class SumOfKey(KeyedCombine):
    """Sums values; a key without any is incomplete, a sum over 100 is an error."""

    def key(self, row):
        return None if row.key == "skip" else (row.key,)

    def value(self, row):
        return int(row.value)

    def zero(self):
        return 0

    def add(self, accumulator, value):
        return accumulator + value

    def merge(self, one, other):
        return one + other

    def result(self, key, accumulator):
        if accumulator > 100:
            raise OverflowError(f"{accumulator} is too much")
        return {"key": key[0], "sum": accumulator} if accumulator else None


def combined(events):
    """Return output rows, dead letters and counts."""
    pipeline = test_pipeline()
    rows, dead = pipeline | beam.Create(events, reshuffle=False) | SumOfKey()
    return run_rows(pipeline, rows=rows, dead=dead)


def test_rows_of_one_key_become_one_and_all_others_are_accounted_for():
    events = [
        *[Event(key, value) for key in ("a", "b", 7, None, True) for value in (1, "2", 3)],
        Event("skip", 1),
        Event("zero", 0),
        Event("big", 99),
        Event("big", 2),
        Event("bad", "x"),
        Event(1.5, 1),
        Event(["list"], 1),
    ]
    random.Random(5).shuffle(events)
    found = combined(events)
    sums = sorted((repr(row["key"]), row["sum"]) for row in found["rows"])
    assert sums == [("'a'", 6), ("'b'", 6), ("7", 6), ("None", 6), ("True", 6)]
    told = sorted((letter["step"], letter["reason"], letter["row"]) for letter in found["dead"])
    assert [entry[:2] for entry in told] == [
        ("SumOfKey.key", "TypeError"),
        ("SumOfKey.key", "TypeError"),
        ("SumOfKey.key", "ValueError"),
        ("SumOfKey.result", "OverflowError"),
    ]
    assert json.loads(told[2][2]) == {"key": "bad", "value": "x"}
    assert json.loads(told[3][2]) == [["big"], 101]
    assert found["counts"] == {"rows_dead": 4, "rows_dropped": 1, "rows_skipped": 1}


def test_null_and_the_text_none_are_different_keys():
    found = combined([Event(None, 1), Event("None", 2), Event("", 4)])
    assert sorted((row["key"] or repr(row["key"]), row["sum"]) for row in found["rows"]) == [
        ("''", 4),
        ("None", 1),
        ("None", 2),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_input_does_not_matter(seed):
    events = [Event(number % 5, number % 11) for number in range(200)]
    random.Random(seed).shuffle(events)
    wanted = [
        {"key": key, "sum": sum(n % 11 for n in range(200) if n % 5 == key)} for key in range(5)
    ]
    dead = [row for row in wanted if row["sum"] > 100]
    found = combined(events)
    assert sorted(found["rows"], key=str) == [row for row in wanted if row not in dead]
    assert len(found["dead"]) == len(dead)


class Parse(beam.DoFn):
    """Gives two rows for each text, and fails on some after the first."""

    def process(self, text):
        yield {"half": 1, "of": text}
        if "x" in text:
            raise ValueError(f"no number: {text}")
        yield {"half": 2, "of": text}


def test_a_row_that_fails_is_dead_as_a_whole_and_the_others_go_on():
    pipeline = test_pipeline()
    good, dead = pipeline | beam.Create(["1", "x", "2"]) | with_dead_letters(Parse(), step="p")
    found = run_rows(pipeline, rows=good, dead=dead)
    assert sorted(row["of"] for row in found["rows"]) == ["1", "1", "2", "2"]
    assert found["dead"] == [
        {"step": "p", "reason": "ValueError", "message": "no number: x", "row": '"x"'}
    ]
    assert found["counts"] == {"rows_dead": 1}


def test_a_function_gives_one_row():
    pipeline = test_pipeline()
    good, dead = pipeline | beam.Create(["1", "", "3"]) | with_dead_letters(int, step="int")
    found = run_rows(pipeline, rows=good, dead=dead)
    assert sorted(found["rows"]) == [1, 3]
    assert [letter["row"] for letter in found["dead"]] == ['""']


ROWS = [{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 3}]


@pytest.mark.parametrize(
    ("header", "rows", "text"),
    [
        (None, ROWS, "1,2,3\n1,2,3\n"),
        (["a", "b", "c"], ROWS, "a,b,c\n1,2,3\n1,2,3\n"),
        (["c", "a"], [{"a": 1}, {"c": None, "a": True}], "c,a\n,1\n,true\n"),
        (["a"], [], "a\n"),
        (None, [], ""),
        (None, [["x,y", 'say "hi"', "two\nlines"]], '"x,y","say ""hi""","two\nlines"\n'),
        (["key", "value"], [Event("k", [1, 2])], 'key,value\nk,"[1,2]"\n'),
    ],
)
def test_csv_is_written_with_one_header_and_quotes_where_they_are_wanted(header, rows, text):
    with test_pipeline() as pipeline:
        made = pipeline | beam.Create(rows) | beam.CombineGlobally(ConvertToCSV(header))
        assert_that(made, equal_to([text]))


cells = st.one_of(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")))


@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=6), st.data())
def test_any_reader_reads_back_what_was_written_in_any_order(rows, data):
    fn = ConvertToCSV(["one", "two"])
    cut = data.draw(st.integers(0, len(rows)))
    shuffled = data.draw(st.permutations(rows))

    def text(pieces):
        parts = []
        for piece in pieces:
            lines = fn.create_accumulator()
            for row in piece:
                lines = fn.add_input(lines, row)
            parts.append(lines)
        return fn.extract_output(fn.merge_accumulators(parts))

    written = text([rows])
    assert written == text([shuffled[:cut], shuffled[cut:], []])
    head, *read = csv.reader(io.StringIO(written, newline=""))
    assert head == ["one", "two"]
    assert sorted(read) == sorted(rows)


@pytest.mark.parametrize("row", [{"other": 1}, [1], "text", 5])
def test_a_row_that_does_not_fit_the_header_is_refused(row):
    fn = ConvertToCSV(["one", "two"])
    with pytest.raises((ValueError, TypeError)):
        fn.add_input(fn.create_accumulator(), row)
