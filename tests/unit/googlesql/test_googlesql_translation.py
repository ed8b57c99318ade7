"""What a translation tells the executor: tables, parameters, pseudo columns; and its time."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

import pytest

from eventmill.base.errors import QueryError
from eventmill.schema.table import TableId
from eventmill.store.googlesql import translate, view_name

BUILDS = TableId("local", "ci", "builds")
REPOS = TableId("local", "ci", "repos")


def test_tables_come_in_full_once_in_order_of_appearance_without_names_of_with():
    translation = translate(
        "WITH w AS (SELECT * FROM ci.repos) SELECT 1 FROM w JOIN `other-p`.ci.a USING (k)"
        " JOIN ci.builds USING (k) WHERE k IN (SELECT k FROM `local.ci.repos`)"
    )
    assert translation.tables == (REPOS, TableId("other-p", "ci", "a"), BUILDS)
    for table in translation.tables:
        assert f'"{view_name(table)}"' in translation.sql


def test_default_project_completes_names():
    translation = translate("SELECT 1 FROM ci.builds", default_project="prod")
    assert translation.tables == (TableId("prod", "ci", "builds"),)


def test_pseudo_columns_name_only_the_tables_that_they_were_read_of():
    translation = translate(
        "SELECT b._insert_id, r.* FROM ci.builds b JOIN ci.repos r USING (repo)"
    )
    assert translation.pseudo_columns == {BUILDS}
    assert translate("SELECT * FROM ci.builds").pseudo_columns == frozenset()
    assert translate("SELECT 1 FROM ci.repos WHERE _PARTITIONDATE = '2024-01-01'").pseudo_columns


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("x", "x"),
        (5, 5),
        (2**40, 2**40),
        (1.5, 1.5),
        (True, True),
        (b"\x00a", b"\x00a"),
        (None, None),
        (date(2024, 1, 2), date(2024, 1, 2)),
        (time(1, 2), time(1, 2)),
        (datetime(2024, 1, 2, 3), datetime(2024, 1, 2, 3)),
        (datetime(2024, 1, 2, 3, tzinfo=UTC), datetime(2024, 1, 2, 3, tzinfo=UTC)),
        ([1, 2], [1, 2]),
        (["a", None], ["a", None]),
        ([1, 2.5], [1.0, 2.5]),
        ([date(2024, 1, 2)], [date(2024, 1, 2)]),
        ([], []),
    ],
)
def test_parameter_comes_back_as_it_was_given(ask, value, meant):
    assert ask("SELECT @p", {"p": value}).rows == [(meant,)]


@pytest.mark.parametrize(
    ("condition", "params", "rows"),
    [
        ("repo = @repo", {"repo": "lib"}, [(3,)]),
        ("ts >= @from", {"from": "2024-02-01"}, [(3,)]),
        ("DATE(ts) = @day", {"day": "2024-01-02"}, [(2,)]),
        ("DATE(ts) = @day", {"day": date(2024, 1, 2)}, [(2,)]),
        ("repo IN UNNEST(@repos)", {"repos": ["lib", "x"]}, [(3,)]),
        ("repo IN UNNEST(@repos)", {"repos": []}, []),
        ("id IN UNNEST(@ids)", {"ids": [4, 1]}, [(1,), (4,)]),
        ("id IN UNNEST(@ids)", {"ids": []}, []),
        ("id = @ID AND @id > 0", {"Id": 2}, [(2,)]),
        ("REGEXP_EXTRACT(repo, @r) = 'ib'", {"r": "l(..)"}, [(3,)]),
        ("id < @n", {"n": 1.5}, [(1,)]),
    ],
)
def test_parameter_works_where_a_literal_does(ask, condition, params, rows):
    assert ask(f"SELECT id FROM ci.builds WHERE {condition} ORDER BY id", params).rows == rows


def test_parameter_may_be_a_limit(ask):
    sql = "SELECT id FROM ci.builds ORDER BY id LIMIT @n OFFSET @m"
    assert ask(sql, {"n": 2, "m": 1}).rows == [(2,), (3,)]


def test_parameter_used_only_while_translating_is_not_bound():
    translation = translate("SELECT FORMAT_DATE(@f, DATE '2024-01-01')", {"f": "%Y"})
    assert translation.parameters == {}


@pytest.mark.parametrize(
    ("sql", "params", "message"),
    [
        ("SELECT @a", None, "the query uses @a, but no value is given for it"),
        ("SELECT @a", {"b": 1}, "@a, but no value is given for it .given: @b"),
        ("SELECT 1", {"b": 1}, "parameter @b is not used by the query; it uses none"),
        ("SELECT @a", {"a": 1, "b": 1}, "parameter @b is not used by the query; it uses @a"),
        ("SELECT @a", {"a": 1, "A": 2}, "given twice"),
        ("SELECT @a", {"a": 2**63}, "does not fit INT64"),
        ("SELECT @a", {"a": [1, "x"]}, "elements of one type"),
        ("SELECT @a", {"a": [[1]]}, "elements of one type"),
        ("SELECT @a", {"a": {"x": 1}}, "a value of type dict"),
        ("SELECT 1", {"a b": 1}, "not the name of a parameter"),
        ("SELECT x FROM ci.t LIMIT @n", {"n": -1}, "LIMIT"),
        ("SELECT x FROM ci.t LIMIT @n", {"n": "5"}, "LIMIT"),
    ],
)
def test_parameter_that_does_not_fit_is_named(sql, params, message):
    with pytest.raises(QueryError, match=message):
        translate(sql, params)


def test_time_stands_still_within_a_statement(ask):
    sql = "SELECT CURRENT_TIMESTAMP() = CURRENT_TIMESTAMP, DATE(CURRENT_TIMESTAMP()) = CURRENT_DATE"
    assert ask(sql).rows == [(True, True)]


def test_names_cannot_break_out_of_their_quotes(ask):
    asked = ask(
        "SELECT 1 AS `a\"b`, 'it''s' AS `c'd` FROM (SELECT 1) AS `x\"y`".replace("''", r"\'")
    )
    assert asked.names == ['a"b', "c'd"]
    assert asked.rows == [(1, "it's")]
