"""Saved plans: read again without the .proto files, and refused when they are not as written."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from proto_world import compiled

from eventmill.base.errors import SchemaError
from eventmill.schema.diff import Plan, plan_change
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.plan_file import PLAN_FORMAT, plan_from_json, read_plans
from eventmill.schema.table import Granularity, Partitioning, Table, TableId

BEFORE = "message M { google.protobuf.Timestamp at = 1; string name = 2; }"
AFTER = "message M { google.protobuf.Timestamp at = 1; int32 count = 3; }"


def a_plan(name: str = "t", *, is_new: bool = False) -> Plan:
    table = TableId("local", "d", name)
    said: Any = {
        "partitioning": Partitioning(Granularity.DAY, "at", 86_400.0),
        "labels": {"team": "till"},
        "owner": "ü",
        "freshness_seconds": 60.0,
    }
    before, after = (
        spec_from_proto(table, compiled(body), "t.M", **said) for body in (BEFORE, AFTER)
    )
    return plan_change(None if is_new else Table(before, 7, 0.0, 0.0), after)


def written(plan: Plan) -> Any:
    return json.loads(json.dumps(plan.to_json()))


@pytest.mark.parametrize("is_new", [False, True])
def test_a_saved_plan_holds_all_that_carrying_it_out_needs(is_new: bool):
    plan = a_plan(is_new=is_new)
    saved = plan_from_json(written(plan))
    assert (saved.wanted, saved.expected_version) == (plan.wanted, 0 if is_new else 7)
    assert plan_change(plan.live, saved.wanted) == plan


@pytest.mark.parametrize(
    "write",
    [
        lambda plans: json.dumps(plans, indent=2, sort_keys=True),
        lambda plans: "\n".join(json.dumps(plan, ensure_ascii=False) for plan in plans) + "\n\n",
        lambda plans: json.dumps(plans).replace(": 86400.0", ": 86400"),
    ],
    ids=["list", "lines", "numbers"],
)
def test_a_file_of_plans_is_read_however_it_was_laid_out(write: Callable[[Any], str]):
    plans = [a_plan("one"), a_plan("two", is_new=True)]
    saved = read_plans(write([plan.to_json() for plan in plans]))
    assert [one.wanted for one in saved] == [plan.wanted for plan in plans]
    assert read_plans(json.dumps(plans[0].to_json()))[0].wanted == plans[0].wanted


def other_bytes(document: Any) -> None:
    changed = base64.b64encode(compiled(BEFORE)).decode()
    document["wanted"]["descriptor_set"] = changed


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda d: d["wanted"]["columns"].pop(), "checksum"),
        (lambda d: d["wanted"].update(owner="me"), "checksum"),
        (other_bytes, "checksum"),
        (lambda d: d.update(expected_version=8), "checksum"),
        (lambda d: d.update(table="local.d.other"), "checksum"),
        (lambda d: d.update(checksum=""), "checksum"),
        (lambda d: d.update(expected_version="7"), "expected_version '7'"),
        (lambda d: d["wanted"].update(table="no name"), "not a table name"),
        (lambda d: d["wanted"].pop("message"), "has no message"),
        (lambda d: d.update(format=PLAN_FORMAT + 1), f"is of format {PLAN_FORMAT + 1}"),
        (lambda d: d.pop("checksum"), "not a saved plan"),
    ],
)
def test_an_edited_plan_is_refused(edit: Callable[[Any], object], words: str):
    document = written(a_plan())
    edit(document)
    with pytest.raises(SchemaError) as caught:
        plan_from_json(document)
    assert words in str(caught.value)
    assert "eventmill table plan" in str(caught.value)


def test_what_is_told_beside_the_definition_is_planned_again():
    document = written(a_plan())
    document.update(changes=[], refusals=[], notes=[])
    assert plan_change(a_plan().live, plan_from_json(document).wanted) == a_plan()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no plan"),
        ("[]", "no plan"),
        ("[1]", "not a saved plan"),
        ('{"a": 1}\nnot json', "line 2"),
        ("[" * 100_000, "line 1"),
        (json.dumps([a_plan().to_json()] * 2), "more than one plan of local.d.t"),
    ],
    ids=["empty", "empty list", "number", "text", "brackets", "twice"],
)
def test_a_file_that_is_no_plan_is_refused(text: str, words: str):
    with pytest.raises(SchemaError, match=words):
        read_plans(text)
