"""Which columns of the lake's files have dictionaries."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eventmill.store.local.dictionaries import dictionary_columns


def table(count):
    chance = random.Random(1)
    times = sorted(chance.randrange(10**9) for _ in range(count))
    return pa.table(
        {
            "time": pa.array(times, pa.timestamp("us", "UTC")),
            "neighbours": pa.array([place // 2 for place in range(count)], pa.int64()),
            "measure": pa.array([chance.random() for _ in range(count)]),
            "code": pa.array([place % 7 for place in range(count)], pa.int32()),
            "rare": pa.array([None if place % 100 else place for place in range(count)]),
            "absent": pa.nulls(count, pa.int64()),
            "name": pa.array([f"n{place}" for place in range(count)]),
            "ids": pa.array([[place, place + 1] for place in range(count)], pa.list_(pa.int64())),
            "few": pa.array([[place % 3] for place in range(count)], pa.list_(pa.int64())),
            "record": pa.array(
                [{"word": "w", "steps": [{"ms": place}]} for place in range(count)],
                pa.struct({"word": pa.string(), "steps": pa.list_(pa.struct({"ms": pa.int64()}))}),
            ),
            "_insert_id": pa.array([f"i{place}" for place in range(count)]),
        }
    )


def test_numbers_whose_values_differ_have_none_and_texts_have_one():
    assert dictionary_columns(table(20_000)) == [
        "code",
        "absent",
        "name",
        "few.list.element",
        "record.word",
        "record.steps.list.element.ms",
    ]


def test_a_few_rows_have_them_all():
    assert dictionary_columns(table(100)) is True


@pytest.mark.parametrize("count", [4_096, 4_097, 8_191, 20_000])
def test_parquet_takes_the_choice_at_its_word(tmp_path, count):
    rows = table(count)
    chosen = dictionary_columns(rows)
    path = tmp_path / "x.parquet"
    pq.write_table(rows, path, use_dictionary=chosen)
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(place) for place in range(group.num_columns)]
    written = [one.path_in_schema for one in columns if one.has_dictionary_page]
    assert sorted(written) == sorted(chosen)
    assert pq.read_table(path).equals(rows)
