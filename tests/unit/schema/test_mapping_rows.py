"""Each line of the mapping as a user meets it: the column, and the value that SQL gives back.

Every case sends its rows to a store and asks for the column ``a``. The columns themselves are in
``test_mapping``, single conversions in ``test_values`` and ``test_rows``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from mapping_world import EDITION, EPOCH, FIRST, HIGH, LAST, LOW, PROTO3, G, bq, world
from proto_world import PROTO2

from eventmill.schema.rows import RowEncoder


@dataclass(frozen=True)
class Case:
    """One field ``a``: its declaration, the lines of its columns, and pairs of (sent, stored)."""

    name: str
    body: str
    lines: str
    values: list[tuple[Any, Any]]
    unset: Any = None
    syntax: str = PROTO3


def field(declaration: str, lines: str, values: list[tuple[Any, Any]], unset: Any = None) -> Case:
    return Case(declaration, f"message M {{ {declaration}; bool z = 99; }}", lines, values, unset)


IDENTITY = object()
"""Stands for the value that was sent."""


def same(*values: Any) -> list[tuple[Any, Any]]:
    return [(value, IDENTITY) for value in values]


SCALARS = [
    field("double a = 1", "a FLOAT NULLABLE", same(5e-324, -math.inf, -0.0, math.nan), 0.0),
    field("float a = 1", "a FLOAT NULLABLE", [(0.1, 0.10000000149011612), (1e-45, 2**-149)], 0.0),
    field("int32 a = 1", "a INTEGER NULLABLE", same(-(2**31), 2**31 - 1), 0),
    field("sint64 a = 1", "a INTEGER NULLABLE", same(LOW, HIGH), 0),
    field("fixed32 a = 1", "a INTEGER NULLABLE", same(2**32 - 1), 0),
    field("uint64 a = 1", "a INTEGER NULLABLE", same(HIGH), 0),
    field("bool a = 1", "a BOOLEAN NULLABLE", same(True), False),
    field("string a = 1", "a STRING NULLABLE", same("\x00ä€\U0010ffff", "x" * 70_000), ""),
    field("bytes a = 1", "a BYTES NULLABLE", same(bytes(range(256))), b""),
    field("optional bytes a = 1", "a BYTES NULLABLE", same(b"", b"\x00")),
    field("optional double a = 1", "a FLOAT NULLABLE", same(0.0, math.inf)),
    field("optional bool a = 1", "a BOOLEAN NULLABLE", same(False, True)),
    field("repeated double a = 1", "a FLOAT REPEATED", same([0.0, -0.0, math.nan]), []),
    field("repeated string a = 1", "a STRING REPEATED", same([""], ["", "x", ""]), []),
    Case(
        "enum",
        "message M { optional E a = 1; } enum E { X = 0; LOW = -2147483648; HIGH = 2147483647; }",
        "a STRING NULLABLE",
        [("X", "X"), ("LOW", "LOW"), ("HIGH", "HIGH"), (2**31 - 2, "2147483646"), (-1, "-1")],
    ),
    Case(
        "enum as a number",
        f"message M {{ E a = 1 {bq('INTEGER')}; }} enum E {{ X = 0; Y = 5; }}",
        "a INTEGER NULLABLE",
        [("Y", 5), (-7, -7)],
        0,
    ),
]
WELL_KNOWN = [
    field(
        f"{G}.Timestamp a = 1",
        "a TIMESTAMP NULLABLE",
        [
            ("0001-01-01T00:00:00Z", FIRST),
            ("9999-12-31T23:59:59.999999999Z", LAST),
            ("1970-01-01T00:00:00Z", EPOCH),
            ("1969-12-31T23:59:59.999999999Z", EPOCH.replace(1969, 12, 31, 23, 59, 59, 999_999)),
        ],
    ),
    field(
        f"repeated {G}.Timestamp a = 1", "a TIMESTAMP REPEATED", [([{}, LAST], [EPOCH, LAST])], []
    ),
    field(
        f"{G}.Duration a = 1",
        "a FLOAT NULLABLE",
        [("0s", 0.0), ("-315576000000s", -315576000000.0), ("-0.000000001s", -1e-9)],
    ),
    field(
        f"{G}.Struct a = 1",
        "a STRING NULLABLE",
        [({}, "{}"), ({"b": [1, None], "a": {"": "ä"}}, '{"a":{"":"ä"},"b":[1,null]}')],
    ),
    field(
        f"{G}.Struct a = 1 {bq('JSON')}", "a JSON NULLABLE", [({"n": 2**53}, f'{{"n":{2**53}}}')]
    ),
    field(
        f"{G}.Value a = 1 {bq('JSON')}",
        "a JSON NULLABLE",
        [(None, "null"), ("", '""'), (0, "0"), ([], "[]"), (False, "false")],
    ),
    field(f"{G}.ListValue a = 1", "a STRING NULLABLE", [([], "[]"), ([[], {}], "[[],{}]")]),
    *[
        field(f"{G}.{kind}Value a = 1", f"a {type_} NULLABLE", same(*values))
        for kind, type_, values in (
            ("String", "STRING", ("", "x")),
            ("Bytes", "BYTES", (b"", b"\xff")),
            ("Bool", "BOOLEAN", (False, True)),
            ("Int32", "INTEGER", (0, -(2**31))),
            ("UInt32", "INTEGER", (0, 2**32 - 1)),
            ("Int64", "INTEGER", (0, LOW)),
            ("UInt64", "INTEGER", (0, HIGH)),
            ("Float", "FLOAT", (0.0, 0.5)),
            ("Double", "FLOAT", (0.0, math.nan)),
        )
    ],
    field(
        f"{G}.Any a = 1",
        "a RECORD NULLABLE, a.type_url STRING NULLABLE, a.value BYTES NULLABLE",
        [({}, {"type_url": "", "value": b""}), *same({"type_url": "t", "value": b"\xff"})],
    ),
    field(
        f"{G}.Any a = 1 {bq('JSON')}",
        "a JSON NULLABLE",
        [({"value": b"\xff"}, '{"value":"/w=="}'), ({}, "{}")],
    ),
    field(
        f"{G}.FieldMask a = 1",
        "a RECORD NULLABLE, a.paths STRING REPEATED",
        [("", {"paths": []}), ("b.c,d", {"paths": ["b.c", "d"]})],
    ),
    field(f"{G}.FieldMask a = 1 {bq('STRING')}", "a STRING NULLABLE", [("b", '{"paths":["b"]}')]),
    field(f"{G}.Empty a = 1 {bq('JSON')}", "a JSON NULLABLE", [({}, "{}")]),
]
NESTED = [
    Case(
        "message: unset, set and empty, set with a NULL",
        "message M { In a = 1; } message In { optional int32 x = 1; In2 y = 2; }"
        " message In2 { repeated string s = 1; }",
        "a RECORD NULLABLE, a.x INTEGER NULLABLE, a.y RECORD NULLABLE, a.y.s STRING REPEATED",
        [
            ({}, {"x": None, "y": None}),
            ({"x": 0, "y": {}}, {"x": 0, "y": {"s": []}}),
            ({"y": {"s": [""]}}, {"x": None, "y": {"s": [""]}}),
        ],
    ),
    Case(
        "repeated message keeps empty elements",
        "message M { repeated In a = 1; } message In { optional int32 x = 1; repeated In2 y = 2; }"
        " message In2 { int32 z = 1; }",
        "a RECORD REPEATED, a.x INTEGER NULLABLE, a.y RECORD REPEATED, a.y.z INTEGER NULLABLE",
        [
            ([{}, {"x": 0}], [{"x": None, "y": []}, {"x": 0, "y": []}]),
            (
                [{"y": [{}, {"z": 1}]}, {}],
                [{"x": None, "y": [{"z": 0}, {"z": 1}]}, {"x": None, "y": []}],
            ),
        ],
        [],
    ),
    Case(
        "Empty has no column at any depth, and no null stands in an array",
        f"message M {{ repeated In a = 1; repeated {G}.Empty e = 2; }}"
        f" message In {{ {G}.Empty e = 1; Hull h = 2; repeated Hull r = 3; int32 x = 4;"
        f" map<string, Hull> m = 5; oneof k {{ {G}.Empty k1 = 6; int32 k2 = 7; }} }}"
        f" message Hull {{ {G}.Empty e = 1; repeated Hull2 r = 2; }} message Hull2 {{}}",
        "a RECORD REPEATED, a.x INTEGER NULLABLE, a.m RECORD REPEATED, a.m.key STRING NULLABLE,"
        " a.k2 INTEGER NULLABLE",
        [
            (
                [{"e": {}, "h": {"e": {}}, "r": [{}, {}], "m": {"k": {"r": [{}]}}, "k1": {}}, {}],
                [
                    {"x": 0, "m": [{"key": "k"}], "k2": None},
                    {"x": 0, "m": [], "k2": None},
                ],
            )
        ],
        [],
    ),
    *[
        Case(
            f"map<{key}, string> is ascending by key",
            f"message M {{ map<{key}, string> a = 1; }}",
            f"a RECORD REPEATED, a.key {type_} NULLABLE, a.value STRING NULLABLE",
            [
                (
                    {one: str(one) for one in keys},
                    [{"key": k, "value": str(k)} for k in sorted(keys)],
                )
            ],
            [],
        )
        for key, type_, keys in (
            ("int32", "INTEGER", (2**31 - 1, -(2**31), 0)),
            ("uint32", "INTEGER", (2**32 - 1, 0)),
            ("sint64", "INTEGER", (HIGH, LOW, -1)),
            ("uint64", "INTEGER", (HIGH, 2, 10)),
            ("fixed64", "INTEGER", (HIGH, 0)),
            ("sfixed32", "INTEGER", (-1, 1)),
            ("bool", "BOOLEAN", (True, False)),
            # By code points, as UTF-8 sorts: U+FFFF stands before what UTF-16 needs two units for.
            ("string", "STRING", ("\U0001f600", "\uffff", "b", "B", "", "ä")),
        )
    ],
    Case(
        "a map's value of every shape",
        f"message M {{ map<int32, In> a = 1; }} message In {{ map<string, {G}.Timestamp> t = 1;"
        f" map<string, {G}.Value> v = 2; map<string, {G}.Int32Value> w = 3; map<string, E> e = 4;"
        " } enum E { X = 0; Y = 1; }",
        "a RECORD REPEATED, a.key INTEGER NULLABLE, a.value RECORD NULLABLE, "
        + ", ".join(
            f"a.value.{name} RECORD REPEATED, a.value.{name}.key STRING NULLABLE,"
            f" a.value.{name}.value {type_} NULLABLE"
            for name, type_ in (
                ("t", "TIMESTAMP"),
                ("v", "STRING"),
                ("w", "INTEGER"),
                ("e", "STRING"),
            )
        ),
        [
            (
                {1: {"t": {"k": LAST}, "v": {"k": None}, "w": {"k": 0}, "e": {"k": 9, "j": "X"}}},
                [
                    {
                        "key": 1,
                        "value": {
                            "t": [{"key": "k", "value": LAST}],
                            "v": [{"key": "k", "value": "null"}],
                            "w": [{"key": "k", "value": 0}],
                            "e": [{"key": "j", "value": "X"}, {"key": "k", "value": "9"}],
                        },
                    }
                ],
            )
        ],
        [],
    ),
    Case(
        "a map as JSON",
        f"message M {{ map<bool, In> a = 1 {bq('JSON')}; }} message In {{ int32 x = 1; }}",
        "a JSON NULLABLE",
        [({True: {"x": 1}, False: {}}, '{"false":{},"true":{"x":1}}')],
        "{}",
    ),
    Case(
        "recursion with the remedy, as JSON",
        f"message M {{ M a = 1 {bq('JSON')}; string s = 2; }}",
        "a JSON NULLABLE",
        [({"a": {"a": {"s": "x"}}}, '{"a":{"a":{"s":"x"}}}'), ({}, "{}")],
    ),
    Case(
        "recursion with the remedy, below a list, as STRING",
        "message M { repeated Node a = 1; }"
        f" message Node {{ int32 x = 1; repeated Node kids = 2 {bq('STRING')}; }}",
        "a RECORD REPEATED, a.x INTEGER NULLABLE, a.kids STRING REPEATED",
        [
            (
                [{"kids": [{"x": 1}, {"kids": [{}]}]}],
                [{"x": 0, "kids": ['{"x":1}', '{"kids":[{}]}']}],
            )
        ],
        [],
    ),
    Case(
        "oneof: the member that is set, its default too",
        f"message M {{ oneof k {{ int32 a = 1; string b = 2; {G}.Empty c = 3; In d = 4; }} }}"
        " message In { int32 x = 1; }",
        "a INTEGER NULLABLE",
        [(0, 0), (5, 5)],
    ),
]
BY_OPTION = [
    field(
        f"string a = 1 {bq('JSON')}",
        "a JSON NULLABLE",
        [("", None), *same(' {"a": 1.0, "a": 2}', '"\\ud800"', "1e999")],
    ),
    field(
        f"string a = 1 {bq('DATE')}",
        "a DATE NULLABLE",
        [("", None), ("0001-01-01", date.min), ("9999-12-31", date.max)],
    ),
    field(
        f"string a = 1 {bq('TIME')}",
        "a TIME NULLABLE",
        [("", None), ("00:00:00", time.min), ("23:59:59.999999", time.max)],
    ),
    field(
        f"string a = 1 {bq('DATETIME')}",
        "a DATETIME NULLABLE",
        [("0001-01-01T00:00:00", datetime.min), ("9999-12-31 23:59:59.999999", datetime.max)],
    ),
    field(
        f"optional string a = 1 {bq('TIMESTAMP')}",
        "a TIMESTAMP NULLABLE",
        [("", None), ("0001-01-01T00:00:00Z", FIRST), ("9999-12-31T23:59:59.999999999Z", LAST)],
    ),
    field(f"string a = 1 {bq('GEOGRAPHY')}", "a GEOGRAPHY NULLABLE", same("POINT(1 2)"), ""),
    *[
        field(
            f"string a = 1 {bq(type_name)}",
            "a NUMERIC NULLABLE",
            [
                ("", None),
                ("-" + "9" * 29 + "." + "9" * 9, Decimal("-" + "9" * 29 + "." + "9" * 9)),
                # Zeros that say nothing are no digits too many.
                ("0" * 50 + "1." + "5" + "0" * 50, Decimal("1.5")),
                (Decimal("0.000000001"), Decimal("0.000000001")),
            ],
        )
        for type_name in ("NUMERIC", "decimal")
    ],
    *[
        field(
            f"{kind} a = 1 {bq('NUMERIC')}",
            "a NUMERIC NULLABLE",
            [(one, Decimal(one)) for one in (low, high)],
            Decimal(0),
        )
        for kind, low, high in (
            ("int32", -(2**31), 2**31 - 1),
            ("fixed32", 0, 2**32 - 1),
            ("sint64", LOW, HIGH),
            # Only an INTEGER column ends at 2^63-1.
            ("uint64", 0, 2**64 - 1),
            ("fixed64", 0, 2**64 - 1),
        )
    ],
    field(
        f"repeated {G}.Int64Value a = 1 {bq('NUMERIC')}",
        "a NUMERIC REPEATED",
        [([LOW, 0], [Decimal(LOW), Decimal(0)])],
        [],
    ),
    field(
        f"{G}.UInt64Value a = 1 {bq('NUMERIC')}",
        "a NUMERIC NULLABLE",
        [(0, Decimal(0)), (2**64 - 1, Decimal(2**64 - 1))],
    ),
    field(
        f"int64 a = 1 {bq('TIMESTAMP')}",
        "a TIMESTAMP NULLABLE",
        [(-62_135_596_800_000_000, FIRST), (253_402_300_799_999_999, LAST)],
        EPOCH,
    ),
    field(
        f"repeated sint32 a = 1 {bq('DATE')}",
        "a DATE REPEATED",
        [([-719_162, 0, 2_932_896], [date.min, date(1970, 1, 1), date.max])],
        [],
    ),
    field(
        f"{G}.StringValue a = 1 {bq('DATE')}",
        "a DATE NULLABLE",
        [("", None), ("2024-02-29", date(2024, 2, 29))],
    ),
]
OTHER_SYNTAX = [
    Case(
        "proto2: a default of the file is no value",
        "message M { optional int32 a = 1 [default = 7]; }",
        "a INTEGER NULLABLE",
        same(0, 7),
        None,
        PROTO2,
    ),
    Case(
        "edition: presence is explicit unless it is said",
        "message M { int32 a = 1; }",
        "a INTEGER NULLABLE",
        same(0),
        None,
        EDITION,
    ),
    Case(
        "edition: implicit presence",
        "message M { int32 a = 1 [features.field_presence = IMPLICIT]; }",
        "a INTEGER NULLABLE",
        same(1),
        0,
        EDITION,
    ),
    Case(
        "edition: lists on the wire one by one",
        "message M { repeated int32 a = 1 [features.repeated_field_encoding = EXPANDED]; }",
        "a INTEGER REPEATED",
        same([1, 0, -1]),
        [],
        EDITION,
    ),
    Case(
        "edition: a delimited message inside JSON",
        f"message M {{ In a = 1 {bq('JSON')}; }} message In {{"
        " In d = 1 [features.message_encoding = DELIMITED]; int32 x = 2; }",
        "a JSON NULLABLE",
        [({"d": {"x": 5}}, '{"d":{"x":5}}')],
        None,
        EDITION,
    ),
]
CASES = [*SCALARS, *WELL_KNOWN, *NESTED, *BY_OPTION, *OTHER_SYNTAX]


def plain(value: Any) -> Any:
    """Return what shows every difference in its repr: moments in one time zone, numbers short."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, Decimal):
        return value.normalize()
    if isinstance(value, dict):
        return {name: plain(below) for name, below in value.items()}
    return [plain(below) for below in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_column_and_its_values_are_read_back_by_sql(case: Case):
    made = world(case.body, case.syntax)
    assert ", ".join(made.lines) == case.lines
    sent = [{}, *({"a": value} for value, _ in case.values)]
    verdict = made.send(sent)
    assert (verdict.rejected, verdict.count) == ((), len(sent))
    stored = [case.unset, *(one if two is IDENTITY else two for one, two in case.values)]
    assert repr(plain(made.read())) == repr(plain(stored))
    # The store of the tests reads event by event; the embedded one reads whole columns.
    encode = RowEncoder(made.message_type).encode
    columns = made.both_ways.read(pa.array([encode(row) for row in sent], pa.binary()))
    assert repr(plain(columns.column("a").to_pylist())) == repr(plain(stored))
