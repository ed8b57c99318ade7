"""Every row of the mapping from fields to columns, and every refusal."""

from __future__ import annotations

import importlib
import pkgutil
import random
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor
from proto_world import PROTO2, RandomSchema, compiled, message_type

from eventmill.base.errors import SchemaError, UsageError
from eventmill.schema.compile import compile_protos
from eventmill.schema.mapping import columns_of, spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import Column, Granularity, Mode, Partitioning, TableId

TABLE = TableId("local", "d", "t")
INTEGERS = [
    f"{sign}{kind}{bits}"
    for sign, kind in (("", "int"), ("u", "int"), ("s", "int"), ("", "fixed"), ("s", "fixed"))
    for bits in (32, 64)
]
GOOGLE = "google.protobuf"


def lines(columns: tuple[Column, ...]) -> list[str]:
    return [f"{path} {one.type} {one.mode}" for column in columns for path, one in column.walk()]


def columns(body: str, syntax: str = 'syntax = "proto3";') -> list[str]:
    return lines(columns_of(message_type(body, syntax=syntax)))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        *[(f"{name} a = 1;", ["a INTEGER NULLABLE"]) for name in INTEGERS],
        ("double a = 1;", ["a FLOAT NULLABLE"]),
        ("float a = 1;", ["a FLOAT NULLABLE"]),
        ("bool a = 1;", ["a BOOLEAN NULLABLE"]),
        ("string a = 1;", ["a STRING NULLABLE"]),
        ("bytes a = 1;", ["a BYTES NULLABLE"]),
        ("enum E { X = 0; } E a = 1;", ["a STRING NULLABLE"]),
        (f"{GOOGLE}.Timestamp a = 1;", ["a TIMESTAMP NULLABLE"]),
        (f"{GOOGLE}.Duration a = 1;", ["a FLOAT NULLABLE"]),
        (f"{GOOGLE}.Struct a = 1;", ["a STRING NULLABLE"]),
        (f"{GOOGLE}.Value a = 1;", ["a STRING NULLABLE"]),
        (f"repeated {GOOGLE}.ListValue a = 1;", ["a STRING REPEATED"]),
        (f"{GOOGLE}.StringValue a = 1;", ["a STRING NULLABLE"]),
        (f"{GOOGLE}.UInt64Value a = 1;", ["a INTEGER NULLABLE"]),
        (f"{GOOGLE}.FloatValue a = 1;", ["a FLOAT NULLABLE"]),
        (f"{GOOGLE}.BoolValue a = 1;", ["a BOOLEAN NULLABLE"]),
        (f"repeated {GOOGLE}.BytesValue a = 1;", ["a BYTES REPEATED"]),
        (
            f"{GOOGLE}.Any a = 1;",
            ["a RECORD NULLABLE", "a.type_url STRING NULLABLE", "a.value BYTES NULLABLE"],
        ),
        (f"{GOOGLE}.FieldMask a = 1;", ["a RECORD NULLABLE", "a.paths STRING REPEATED"]),
        (
            "message In { int32 x = 1; } repeated In a = 1;",
            ["a RECORD REPEATED", "a.x INTEGER NULLABLE"],
        ),
        (
            "map<int32, string> a = 1;",
            ["a RECORD REPEATED", "a.key INTEGER NULLABLE", "a.value STRING NULLABLE"],
        ),
        (
            "map<bool, M2> a = 1; message M2 { repeated double d = 1; }",
            [
                "a RECORD REPEATED",
                "a.key BOOLEAN NULLABLE",
                "a.value RECORD NULLABLE",
                "a.value.d FLOAT REPEATED",
            ],
        ),
        (
            f"map<string, {GOOGLE}.Empty> a = 1;",
            ["a RECORD REPEATED", "a.key STRING NULLABLE"],
        ),
        (
            "oneof k { string a = 1; int32 b = 2; }",
            ["a STRING NULLABLE", "b INTEGER NULLABLE"],
        ),
        ("repeated int64 a = 1;", ["a INTEGER REPEATED"]),
        ("optional int64 a = 1;", ["a INTEGER NULLABLE"]),
        # Names and order are those of the declaration, not of the numbers.
        ("int32 camelCase = 9; int32 b = 1;", ["camelCase INTEGER NULLABLE", "b INTEGER NULLABLE"]),
    ],
)
def test_each_kind_of_field_has_its_column(field: str, expected: list[str]):
    assert columns(f"message M {{ {field} }}") == expected


def test_messages_without_a_column_have_none_at_every_depth():
    body = f"""
        message M {{ int32 a = 1; Hull h = 2; repeated {GOOGLE}.Empty e = 3; repeated Hull r = 4; }}
        message Hull {{ Nothing n = 1; {GOOGLE}.Empty e = 2; }}
        message Nothing {{}}
    """
    assert columns(body) == ["a INTEGER NULLABLE"]


def test_proto2_required_is_required_at_every_depth():
    body = """
        message M { required int32 a = 1; optional In i = 2;
        repeated int32 r = 3; } message In { required string s = 1; }
    """
    assert columns(body, PROTO2) == [
        "a INTEGER REQUIRED",
        "i RECORD NULLABLE",
        "i.s STRING REQUIRED",
        "r INTEGER REPEATED",
    ]


@pytest.mark.parametrize(
    ("field", "bq_type", "expected"),
    [
        (f"{GOOGLE}.Struct a = 1", "JSON", "a JSON NULLABLE"),
        ("Other a = 1", "JSON", "a JSON NULLABLE"),
        ("Other a = 1", "STRING", "a STRING NULLABLE"),
        ("repeated Other a = 1", "JSON", "a JSON REPEATED"),
        ("map<string, Other> a = 1", "JSON", "a JSON NULLABLE"),
        ("M a = 1", "JSON", "a JSON NULLABLE"),
        ("string a = 1", "json", "a JSON NULLABLE"),
        ("string a = 1", "DATE", "a DATE NULLABLE"),
        ("string a = 1", "DECIMAL", "a NUMERIC NULLABLE"),
        ("string a = 1", "GEOGRAPHY", "a GEOGRAPHY NULLABLE"),
        ("int64 a = 1", "TIMESTAMP", "a TIMESTAMP NULLABLE"),
        ("int64 a = 1", "INT64", "a INTEGER NULLABLE"),
        ("int32 a = 1", "DATE", "a DATE NULLABLE"),
        ("E a = 1", "INTEGER", "a INTEGER NULLABLE"),
        ("double a = 1", "FLOAT64", "a FLOAT NULLABLE"),
    ],
)
def test_bq_type_gives_another_type_that_fits(field: str, bq_type: str, expected: str):
    body = f"""
        message M {{ {field} [(bqschema.options).bq_type = "{bq_type}"]; }}
        message Other {{ int32 x = 1; }}
        enum E {{ X = 0; }}
    """
    assert columns(body)[0] == expected


def test_a_file_that_declares_the_bqschema_extension_itself_works_unchanged(tmp_path: Path):
    path = tmp_path / "own.proto"
    path.write_text(
        """
        syntax = "proto3";
        package own;
        import "google/protobuf/descriptor.proto";
        message Words { string bq_type = 1; string default_value = 2; }
        extend google.protobuf.FieldOptions { Words words = 74700; }
        message M { string a = 1 [(words) = { bq_type: "JSON" default_value: "JSON '1'" }]; }
        """
    )
    (column,) = columns_of(MessageType.load(compile_protos([str(path)]), "own.M"))
    assert (column.type, column.default_value) == ("JSON", "JSON '1'")


def test_another_use_of_the_extension_number_is_told(tmp_path: Path):
    path = tmp_path / "own.proto"
    path.write_text(
        """
        syntax = "proto3";
        import "google/protobuf/descriptor.proto";
        extend google.protobuf.FieldOptions { bytes words = 74700; }
        message M { string a = 1 [(words) = "\\377"]; }
        """
    )
    with pytest.raises(SchemaError, match=r"field M\.a in own\.proto: extension 74700"):
        columns_of(MessageType.load(compile_protos([str(path)]), "M"))


@pytest.mark.parametrize(
    ("field", "bq_type"),
    [
        ("string a = 1", "INTEGER"),
        ("int64 a = 1", "STRING"),
        ("bool a = 1", "JSON"),
        (f"{GOOGLE}.Timestamp a = 1", "DATE"),
        ("string a = 1", "BIGNUMERIC"),
        ("string a = 1", "TEXT"),
        ("bytes a = 1", "RECORD"),
        ("uint64 a = 1", "TIMESTAMP"),
    ],
)
def test_bq_type_that_does_not_fit_is_refused_with_what_would(field: str, bq_type: str):
    body = f'message M {{ {field} [(bqschema.options).bq_type = "{bq_type}"]; }}'
    with pytest.raises(SchemaError, match=r"field a \(t\.M in t\.proto\): .*(can be|use one of)"):
        columns(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("message M { int32 x = 1; M a = 2; }", ["field a ", "(a.a)", 'bq_type = "JSON"']),
        (
            "message M { A a = 1; } message A { int32 x = 1; B b = 2; } message B { A a = 1; }",
            ["field a.b.a ", "a.b.a", "t.A contains itself", "STRING"],
        ),
        ("message M { map<string, M> kids = 1; }", ["field kids.value ", "kids.value.kids"]),
        ("message M { int32 _insert_id = 1; }", ["_insert_id", "every table has"]),
        ("message M { int32 _Ingested_At = 1; }", ["_Ingested_At", "every table has"]),
        *[
            (f"message M {{ int32 {prefix}x = 1; }}", [f"field {prefix}x ", "keeps names"])
            for prefix in ("_TABLE_", "_file_", "_Partition", "_ROW_TIMESTAMP", "__ROOT__")
        ],
        (
            "message M { In i = 1; } message In { int32 _COLIDENTIFIER_a = 1; }",
            ["field i._COLIDENTIFIER_a ", "t.In in t.proto"],
        ),
        ("message M { int32 ab = 1; int32 aB = 2; }", ["ab and aB differ only in case"]),
        (f"message M {{ int32 {'n' * 301} = 1; }}", ["301 characters"]),
        ("message M {}", ["message t.M", "no field that becomes a column"]),
        (f"message M {{ {GOOGLE}.Empty e = 1; }}", ["no field that becomes a column"]),
    ],
)
def test_what_no_table_can_have_is_refused_by_name(body: str, words: list[str]):
    with pytest.raises(SchemaError) as caught:
        columns(body)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_group_is_refused_by_name():
    with pytest.raises(SchemaError, match=r"field g \(t\.M in t\.proto\): groups"):
        columns("message M { optional group G = 1 { optional int32 x = 1; } }", PROTO2)


def nested(levels: int) -> str:
    messages = [f"message L{i} {{ L{i + 1} l = 1; }}" for i in range(levels - 1)]
    last = f"message L{levels - 1} {{ int32 x = 1; }}"
    return "\n".join(["message M { L0 l = 1; }", *messages, last])


def test_fifteen_levels_of_record_are_taken_and_sixteen_refused():
    assert len(columns(nested(15))) == 16
    with pytest.raises(SchemaError, match="16th level of RECORD"):
        columns(nested(16))


def test_ten_thousand_columns_are_taken_and_more_refused_soon():
    wide = "message W { " + " ".join(f"int32 f{i} = {i + 1};" for i in range(99)) + " }"
    fields = " ".join(f"W w{i} = {i + 1};" for i in range(100))
    assert len(columns(f"message M {{ {fields} }} {wide}")) == 10_000
    with pytest.raises(SchemaError, match=r"field one_more .* over 10,000 columns"):
        columns(f"message M {{ {fields} int32 one_more = 200; }} {wide}")
    # Twelve levels of ten: counting must stop long before all 10^12 are seen.
    levels = "\n".join(
        f"message L{i} {{ {' '.join(f'L{i + 1} f{j} = {j + 1};' for j in range(10))} }}"
        for i in range(12)
    )
    with pytest.raises(SchemaError, match="over 10,000 columns"):
        columns(f"message M {{ L0 l = 1; }} {levels} message L12 {{ int32 x = 1; }}")


def test_overrides_win_over_the_options_of_the_file():
    body = """
        // What happened.
        message M {
          option (eventmill.table) = {
            id: "ops.ci.builds"
            partition { field: "at" granularity: "month" expiration_days: 2 }
            clustering: "a" require_partition_filter: true owner: "ci"
            labels { key: "env" value: "prod" } freshness_minutes: 10
          };
          google.protobuf.Timestamp at = 1; string a = 2; string b = 3;
        }
    """
    descriptor_set = compiled(body)
    spec = spec_from_proto(None, descriptor_set, "t.M")
    assert str(spec.table) == "ops.ci.builds"
    assert spec.partitioning == Partitioning(Granularity.MONTH, "at", 172_800.0)
    assert (spec.clustering, spec.owner, spec.labels) == (("a",), "ci", {"env": "prod"})
    assert (spec.require_partition_filter, spec.freshness_seconds) == (True, 600.0)
    assert spec.description == "What happened.\nDefined in t.proto."
    other = spec_from_proto(
        TABLE,
        descriptor_set,
        "t.M",
        partitioning=None,
        clustering=["b"],
        description="Mine.",
        owner="",
        labels={},
        freshness_seconds=None,
        require_partition_filter=False,
    )
    assert other.table == TABLE
    assert (other.partitioning, other.clustering, other.description) == (None, ("b",), "Mine.")
    assert (other.owner, other.labels, other.freshness_seconds) == ("", {}, None)
    assert other.fingerprint == spec.fingerprint


def test_a_table_without_options_is_partitioned_by_the_day_it_was_taken():
    spec = spec_from_proto(TABLE, compiled("message M { int32 a = 1; }"), "t.M")
    assert spec.partitioning == Partitioning(Granularity.DAY, None, None)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"partitioning": Partitioning(column="gone")}, "use one of: at"),
        ({"partitioning": Partitioning(column="a")}, "'a' is NULLABLE INTEGER; use one of: at"),
        ({"partitioning": Partitioning(column="many")}, "REPEATED TIMESTAMP"),
        ({"partitioning": Partitioning(expiration_seconds=0)}, "must be a positive time"),
        ({"clustering": ["gone"]}, "'gone' is not a top-level column"),
        ({"clustering": ["f"]}, "FLOAT"),
        ({"clustering": ["many"]}, "REPEATED"),
        ({"clustering": ["a", "a"]}, "twice"),
        ({"clustering": ["a"] * 5}, "at most 4"),
        ({"labels": {"Env": "x"}}, "label 'Env'"),
        ({"labels": {"env": "Not This"}}, "label env='Not This'"),
        ({"labels": {f"k{i}": "" for i in range(65)}}, "at most 64"),
        ({"freshness_seconds": -1}, "freshness"),
        ({"require_partition_filter": True, "partitioning": None}, "needs a partitioned table"),
    ],
)
def test_what_is_said_of_a_table_must_fit_its_columns(overrides: dict, text: str):
    body = """
        message M { google.protobuf.Timestamp at = 1; int32 a = 2;
        float f = 3; repeated google.protobuf.Timestamp many = 4; }
    """
    with pytest.raises(SchemaError, match=text.replace("(", r"\(")):
        spec_from_proto(TABLE, compiled(body), "t.M", **overrides)


def test_a_table_without_any_name_is_refused():
    with pytest.raises(SchemaError, match=r"eventmill\.table"):
        spec_from_proto(None, compiled("message M { int32 a = 1; }"), "t.M")
    body = 'message M { option (eventmill.table).id = "no name"; int32 a = 1; }'
    with pytest.raises(UsageError, match="not a table name"):
        spec_from_proto(None, compiled(body), "t.M")


def test_random_schemas_have_columns_that_stand_in_declaration_order():
    for seed in range(150):
        loaded = RandomSchema(random.Random(seed)).load()
        found = columns_of(loaded)
        declared = [field.name for field in loaded.descriptor.fields]
        assert [column.name for column in found] == [
            name for name in declared if name in {column.name for column in found}
        ]
        for path, column in (pair for one in found for pair in one.walk()):
            assert bool(column.fields) == (column.type == "RECORD"), path
            assert column.mode in Mode


def _messages_of(module: object) -> list[Descriptor]:
    file = getattr(module, "DESCRIPTOR", None)
    return list(file.message_types_by_name.values()) if file is not None else []


def test_every_message_of_the_common_googleapis_maps_or_is_refused_by_name():
    pytest.importorskip("google.api.annotations_pb2")
    modules = []
    for package in ("google.api", "google.type", "google.rpc", "google.protobuf"):
        found = importlib.import_module(package)
        for _, name, _ in pkgutil.iter_modules(found.__path__, f"{package}."):
            if name.endswith("_pb2"):
                modules.append(importlib.import_module(name))
    outcomes = {True: 0, False: 0}
    for descriptor in [message for module in modules for message in _messages_of(module)]:
        loaded = MessageType.of(descriptor)
        try:
            outcomes[bool(columns_of(loaded))] += 1
        except SchemaError as error:
            told = str(error)
            outcomes[False] += "(" in told or descriptor.file.name in told
    assert outcomes[True] > 100
    assert outcomes[False] > 3
