"""A message made of columns: what it says is what the columns were."""

from __future__ import annotations

import keyword
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventmill.base.errors import SchemaError
from eventmill.schema.descriptions import clean
from eventmill.schema.diff import plan_change
from eventmill.schema.document import columns_from_json
from eventmill.schema.export import bigquery_fields
from eventmill.schema.from_fields import is_from_columns, message_from_columns
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.rows import RowEncoder
from eventmill.schema.table import Column, ColumnType, Mode, Table, TableId
from eventmill.wire.columns import ColumnReader

TABLE = TableId("my-project", "ci", "builds")
_SCALARS = [t for t in ColumnType if t not in (ColumnType.RECORD, ColumnType.BIGNUMERIC)]
_NAMES = st.one_of(
    st.from_regex(r"\A[A-Za-z][A-Za-z0-9_]{0,12}\Z"),
    st.sampled_from(["_", "_1", "message", "self", "name", "Record", "x_record", "XRecord"]),
    st.sampled_from(keyword.kwlist[:8]),
)
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=40).map(clean)


def _columns(inner):
    return st.lists(inner, min_size=1, max_size=4, unique_by=lambda column: column.name.lower())


_scalar_columns = st.builds(
    Column,
    name=_NAMES,
    type=st.sampled_from(_SCALARS),
    mode=st.sampled_from(list(Mode)),
    description=_TEXTS,
    default_value=st.sampled_from(["", "'x'", "CURRENT_TIMESTAMP()"]),
)


def _records(inner):
    return st.one_of(
        inner,
        st.builds(
            Column,
            name=_NAMES,
            type=st.just(ColumnType.RECORD),
            mode=st.sampled_from(list(Mode)),
            description=_TEXTS,
            fields=_columns(inner).map(tuple),
        ),
    )


_tables = _columns(st.recursive(_scalar_columns, _records, max_leaves=8))


def spec_of(columns, live=None, table=TABLE):
    descriptor_set, message = message_from_columns(table, columns, live)
    return spec_from_proto(table, descriptor_set, message, partitioning=None, description="")


few = settings(max_examples=50, deadline=None)


@few
@given(_tables)
def test_the_columns_come_back(columns):
    assert spec_of(columns).columns == tuple(columns)


@few
@given(_tables)
def test_fields_as_json_come_back(columns):
    fields = bigquery_fields(columns)
    assert bigquery_fields(spec_of(columns_from_json(fields)).columns) == fields


@few
@given(_tables, st.data())
def test_a_later_definition_only_adds(columns, data):
    """Numbers stay, whatever is added, relaxed and described anew, at every depth."""
    live = spec_of(columns)
    wider = tuple(_grown(columns, data.draw))
    wanted = spec_of(wider, live)
    plan = plan_change(Table(live, 1, 0.0, 0.0), wanted)
    assert not plan.refusals, plan.to_text()
    assert wanted.columns == wider
    before = MessageType.load(live.descriptor_set, live.message).descriptor
    after = MessageType.load(wanted.descriptor_set, wanted.message).descriptor
    assert {f.name: f.number for f in before.fields}.items() <= {
        f.name: f.number for f in after.fields
    }.items()


def _grown(columns, draw):
    taken = {column.name.lower() for column in columns}
    for column in columns:
        mode = (
            Mode.NULLABLE if column.mode is Mode.REQUIRED and draw(st.booleans()) else column.mode
        )
        fields = tuple(_grown(column.fields, draw)) if column.fields else ()
        yield replace(column, mode=mode, fields=fields, description=draw(_TEXTS))
    for added in draw(st.lists(_scalar_columns, max_size=2, unique_by=lambda c: c.name.lower())):
        if added.name.lower() not in taken and added.mode is not Mode.REQUIRED:
            yield added


def test_rows_of_the_earlier_definition_are_read_by_the_later_one():
    live = spec_of(
        [
            Column("a", ColumnType.INTEGER),
            Column("r", ColumnType.RECORD, fields=(Column("x", ColumnType.STRING),)),
        ]
    )
    event = RowEncoder(MessageType.load(live.descriptor_set, live.message)).encode(
        {"a": 5, "r": {"x": "y"}}
    )
    wanted = spec_of(
        [
            Column("new", ColumnType.STRING),
            Column("a", ColumnType.INTEGER),
            Column(
                "r",
                ColumnType.RECORD,
                fields=(Column("z", ColumnType.DATE), Column("x", ColumnType.STRING)),
            ),
        ],
        live,
    )
    for fast in (True, False):
        (row,) = ColumnReader(wanted, fast=fast).read(pa.array([event], pa.binary())).to_pylist()
        assert row == {"new": None, "a": 5, "r": {"z": None, "x": "y"}}


def test_unset_and_empty_are_two_things():
    spec = spec_of([Column("s", ColumnType.STRING), Column("i", ColumnType.INTEGER)])
    encode = RowEncoder(MessageType.load(spec.descriptor_set, spec.message)).encode
    events = [encode({}), encode({"s": "", "i": 0})]
    rows = ColumnReader(spec).read(pa.array(events, pa.binary())).to_pylist()
    assert rows == [{"s": None, "i": None}, {"s": "", "i": 0}]


def test_a_column_is_known_by_its_own_name_alone():
    spec = spec_of([Column("user_id", ColumnType.STRING), Column("userId", ColumnType.STRING)])
    encoder = RowEncoder(MessageType.load(spec.descriptor_set, spec.message))
    event = encoder.encode({"user_id": "a", "userId": "b"})
    (row,) = ColumnReader(spec).read(pa.array([event], pa.binary())).to_pylist()
    assert row == {"user_id": "a", "userId": "b"}


def test_a_copy_under_another_name_keeps_its_message():
    live = replace(spec_of([Column("a", ColumnType.INTEGER)]), table=TableId("p-p", "d", "copy"))
    wider = [Column("a", ColumnType.INTEGER), Column("b", ColumnType.INTEGER)]
    later = spec_of(wider, live, live.table)
    assert (later.message, is_from_columns(later)) == ("eventmill.fields.ci.builds", True)
    assert not plan_change(Table(live, 1, 0.0, 0.0), later).refusals


def test_more_columns_than_numbers_in_a_row():
    """protobuf keeps some numbers for itself; no table here reaches them, a grown one may."""
    live = spec_of([Column("a", ColumnType.INTEGER)])
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    files = FileDescriptorSet.FromString(live.descriptor_set)
    files.file[-1].message_type[0].field[0].number = 18_999
    live = replace(live, descriptor_set=files.SerializeToString())
    grown = spec_of([Column("a", ColumnType.INTEGER), Column("b", ColumnType.INTEGER)], live)
    fields = MessageType.load(grown.descriptor_set, grown.message).descriptor.fields
    assert [field.number for field in fields] == [18_999, 20_000]


@pytest.mark.parametrize(
    ("column", "word"),
    [
        (Column("x", ColumnType.BIGNUMERIC), "BIGNUMERIC"),
        (Column("no-name", ColumnType.STRING), "no-name"),
        (Column("1x", ColumnType.STRING), "1x"),
        (Column("häß", ColumnType.STRING), "häß"),
        (Column("", ColumnType.STRING), "name"),
        (Column("r", ColumnType.RECORD), "r: give at least one field"),
        (Column("_insert_id", ColumnType.STRING), "_insert_id"),
        (
            Column(
                "r",
                ColumnType.RECORD,
                fields=(Column("a", ColumnType.DATE), Column("A", ColumnType.DATE)),
            ),
            "differ only in case",
        ),
    ],
)
def test_what_cannot_be_a_column_is_refused_by_name(column, word):
    with pytest.raises(SchemaError, match=word):
        spec_of([column])
    with pytest.raises(SchemaError, match="at least one"):
        message_from_columns(TABLE, [])


def test_sixteen_levels_are_too_many():
    column = Column("x", ColumnType.STRING)
    for _ in range(15):
        column = Column("r", ColumnType.RECORD, fields=(column,))
    assert spec_of([column])
    with pytest.raises(SchemaError, match="16th level"):
        spec_of([Column("r", ColumnType.RECORD, fields=(column,))])
