import json
from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventmill.base.errors import UsageError
from eventmill.wire.parameter_json import parameter_to_json
from eventmill.wire.parameters import parameter_from_json

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.dates(),
    st.times(),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
)


@given(SCALARS | st.lists(SCALARS))
def test_every_value_comes_back_as_it_was(value):
    document = json.loads(json.dumps(parameter_to_json(value), allow_nan=False))
    back = parameter_from_json(document)
    assert back == value
    assert type(back) is type(value)


def test_nan_comes_back_as_well():
    back = parameter_from_json(parameter_to_json(float("nan")))
    assert back != back


def test_a_time_zone_becomes_utc():
    moment = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    assert parameter_to_json(moment) == {
        "type": "TIMESTAMP",
        "value": "2026-01-01T00:00:00+00:00",
    }


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("INT64", "5", 5),
        ("int64", 5, 5),
        ("FLOAT64", "1.5", 1.5),
        ("FLOAT64", 2, 2.0),
        ("BOOL", "true", True),
        ("BOOL", False, False),
        ("STRING", "x", "x"),
        ("TIMESTAMP", "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("TIMESTAMP", "2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("DATE", "2026-01-02", date(2026, 1, 2)),
        ("TIME", "01:02:03", time(1, 2, 3)),
        ("BYTES", "/w==", b"\xff"),
        ("DATE", None, None),
    ],
)
def test_a_typed_value_may_be_text(kind, text, value):
    assert parameter_from_json({"type": kind, "value": text}) == value


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"type": "INT64"},
        {"type": 5, "value": 5},
        {"type": "INT64", "value": 5, "more": 1},
        {"type": "GEOGRAPHY", "value": "x"},
        {"type": "INT64", "value": "x"},
        {"type": "INT64", "value": 1.5},
        {"type": "BOOL", "value": "yes"},
        {"type": "NUMERIC", "value": "x"},
        {"type": "BYTES", "value": "?"},
        {"type": "DATE", "value": ["2026-01-02"]},
        {"type": "DATETIME", "value": "2026-01-02T00:00:00Z"},
        [{"type": "INT64", "value": "x"}],
    ],
)
def test_what_is_no_parameter_is_a_usage_error(document):
    with pytest.raises(UsageError):
        parameter_from_json(document)


def test_a_value_that_no_parameter_can_have_is_a_usage_error():
    with pytest.raises(UsageError, match="object"):
        parameter_to_json([object()])
