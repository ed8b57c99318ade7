from __future__ import annotations

import pytest
from proto_world import message_type

from eventmill.base.errors import SchemaError
from eventmill.schema.options import TableOptions, option_conflicts, table_options
from eventmill.schema.table import Granularity, Partitioning


def options(text: str) -> TableOptions:
    body = f"message M {{ option (eventmill.table) = {{ {text} }}; int32 a = 1; }}"
    return table_options(message_type(body).descriptor)


def test_a_message_without_options_says_nothing():
    assert table_options(message_type("message M { int32 a = 1; }").descriptor) == TableOptions()
    assert options("").as_overrides() == {}


def test_a_message_may_ask_for_no_partitioning():
    assert options("partition { none: true }").as_overrides() == {"partitioning": None}


def test_empty_partition_options_are_a_day_of_ingestion():
    assert options("partition {}").partitioning == Partitioning(Granularity.DAY, None, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('partition { granularity: "WEEK" }', "'WEEK' is none of HOUR"),
        ("partition { expiration_days: -1 }", "expiration_days"),
        ("partition { expiration_days: nan }", "expiration_days"),
        ('partition { none: true field: "at" }', "excludes"),
        ("freshness_minutes: -1", "freshness_minutes"),
    ],
)
def test_options_without_sense_are_refused_with_their_message(text: str, words: str):
    with pytest.raises(SchemaError, match=rf"message t\.M in t\.proto: .*{words}"):
        options(text)


def test_what_the_caller_says_differently_is_told():
    said = options('owner: "ci" clustering: "a" description: "D"')
    assert option_conflicts(said, {"owner": "ci", "clustering": ["a"], "labels": {}}) == []
    (conflict,) = option_conflicts(said, {"owner": "me", "description": "D"})
    assert str(conflict) == "owner: the .proto says 'ci', overridden by 'me'"
