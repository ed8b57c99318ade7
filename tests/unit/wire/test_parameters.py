"""Values of query parameters, typed by hand and from JSON."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

import pytest

from eventmill.base.errors import UsageError
from eventmill.wire.parameters import parameter_from_json, parameter_value


@pytest.mark.parametrize(
    ("type_name", "text", "value"),
    [
        ("", "a:b", "a:b"),
        ("STRING", "", ""),
        ("int64", "-42", -42),
        ("INTEGER", "9223372036854775807", 2**63 - 1),
        ("FLOAT64", "1e3", 1000.0),
        ("float", "2", 2.0),
        ("BOOL", "TRUE", True),
        ("BOOLEAN", "false", False),
        ("BYTES", "YWJj", b"abc"),
        ("TIMESTAMP", "2024-01-31", datetime(2024, 1, 31, tzinfo=UTC)),
        ("TIMESTAMP", "2024-01-31T10:00:00Z", datetime(2024, 1, 31, 10, tzinfo=UTC)),
        ("TIMESTAMP", "2024-01-31 10:00:00 UTC", datetime(2024, 1, 31, 10, tzinfo=UTC)),
        ("TIMESTAMP", "2024-01-31 10:00:00.5+02:00", datetime(2024, 1, 31, 8, 0, 0, 500000, UTC)),
        ("DATETIME", "2024-01-31T10:00:00", datetime(2024, 1, 31, 10)),
        ("DATE", "2024-01-31", date(2024, 1, 31)),
        ("TIME", "10:30:00", time(10, 30)),
        ("ARRAY<STRING>", '["a", "b"]', ["a", "b"]),
        ("array<int64>", "[1, 2]", [1, 2]),
        ("ARRAY<DATE>", '["2024-01-31"]', [date(2024, 1, 31)]),
        ("ARRAY<STRING>", "[]", []),
    ],
)
def test_text_is_read_by_its_type(type_name, text, value):
    read = parameter_value(type_name, text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("type_name", "text", "message"),
    [
        ("INT64", "1.5", "'1.5' is not a value of type INT64: write an integer"),
        ("INT64", "9223372036854775808", "INT64"),
        ("INT64", "1_000", "INT64"),
        ("FLOAT64", "x", "FLOAT64"),
        ("BOOL", "1", "true or false"),
        ("BYTES", "***", "base64"),
        ("TIMESTAMP", "yesterday", "2024-01-31T10:00:00Z"),
        ("DATETIME", "2024-01-31T10:00:00Z", "without a zone"),
        ("DATE", "31.01.2024", "a day such as"),
        ("TIME", "10:00:00Z", "time of day"),
        ("NUMERIC", "1", "'NUMERIC' is not a type of a parameter: use STRING"),
        ("ARRAY<INT64>", "1, 2", "not a JSON list"),
        ("ARRAY<INT64>", '["x"]', "INT64"),
        ("ARRAY<INT64>", "[[1]]", "not a value of type"),
        ("ARRAY<FOO>", "[1]", "'FOO' is not a type"),
    ],
)
def test_nonsense_is_refused_with_what_to_write(type_name, text, message):
    with pytest.raises(UsageError, match=message.replace("[", r"\[")):
        parameter_value(type_name, text)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("x", "x"),
        (5, 5),
        (1.5, 1.5),
        (True, True),
        (None, None),
        (["a", "b"], ["a", "b"]),
        ([], []),
        ({"type": "DATE", "value": "2024-01-31"}, date(2024, 1, 31)),
        ({"type": "INT64", "value": "7"}, 7),
        ({"type": "INT64", "value": 7}, 7),
        ({"type": "BOOL", "value": True}, True),
        ({"type": "STRING", "value": None}, None),
        ({"type": "ARRAY<INT64>", "value": ["1", 2]}, [1, 2]),
        ([{"type": "DATE", "value": "2024-01-31"}], [date(2024, 1, 31)]),
    ],
)
def test_json_stands_for_itself_or_says_its_type(value, meant):
    read = parameter_from_json(value)
    assert read == meant
    assert type(read) is type(meant)


@pytest.mark.parametrize(
    "value",
    [
        {"type": "DATE"},
        {"type": 5, "value": 1},
        {"type": "DATE", "value": "x"},
        {"type": "FOO", "value": None},
        {"type": "INT64", "value": {"a": 1}},
        {"type": "ARRAY<INT64>", "value": 5},
        {"a": 1},
        [[1]],
        2**63,
        object(),
    ],
)
def test_json_that_is_no_parameter_is_refused(value):
    with pytest.raises(UsageError):
        parameter_from_json(value)
