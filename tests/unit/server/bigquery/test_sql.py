"""A query made ready: whole names, named parameters, and places that are those of the sender."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventmill.base.errors import QueryError, UnsupportedSqlError
from eventmill.schema.table import TableId
from eventmill.server.bigquery.sql import positional_name, ready_query
from eventmill.store.googlesql import translate

HOME = ("home-project", "home")
VIEWS = {
    TableId("home-project", "home", "v"): "SELECT x, t.y FROM d.t;",
    TableId(
        "my-project", "d", "vv"
    ): "SELECT * FROM `home-project.home.v` AS v WHERE x = '?' -- end",
    TableId("my-project", "d", "circle"): "SELECT * FROM d.circle",
}


def ready(sql, dataset=HOME):
    return ready_query(sql, "my-project", dataset, VIEWS.get)


def tables(sql, dataset=HOME):
    return [str(table) for table in translate(ready(sql, dataset).sql).tables]


NAMES = [
    ("SELECT 1 FROM t", ["home-project.home.t"]),
    ("SELECT 1 FROM `t`", ["home-project.home.t"]),
    ("SELECT 1 FROM d.t", ["my-project.d.t"]),
    ("SELECT 1 FROM `d.t`", ["my-project.d.t"]),
    ("SELECT 1 FROM `d`.`t`", ["my-project.d.t"]),
    ("SELECT 1 FROM d . t", ["my-project.d.t"]),
    ("SELECT 1 FROM p-q.d.t", ["p-q.d.t"]),
    ("SELECT 1 FROM `p-q.d.t`", ["p-q.d.t"]),
    ("SELECT 1 FROM `p-q`.d.t", ["p-q.d.t"]),
    ("SELECT 1 FROM t AS a JOIN d.t AS b ON TRUE", ["home-project.home.t", "my-project.d.t"]),
    ("SELECT 1 FROM t, t.steps", ["home-project.home.t"]),
    ("SELECT 1 FROM t AS a, a.steps AS s, s.parts", ["home-project.home.t"]),
    ("SELECT 1 FROM t AS a LEFT JOIN a.steps AS s ON TRUE", ["home-project.home.t"]),
    ("SELECT (SELECT COUNT(*) FROM u) FROM t", ["home-project.home.t", "home-project.home.u"]),
    ("WITH t AS (SELECT 1 AS x) SELECT * FROM t", []),
    ("WITH t AS (SELECT 1 AS x) SELECT * FROM T", []),
    ("WITH t AS (SELECT 1 AS x FROM t) SELECT * FROM t", ["home-project.home.t"]),
    ("WITH a AS (SELECT 1 AS x), b AS (SELECT x FROM a) SELECT 1 FROM b, d.a", ["my-project.d.a"]),
    ("SELECT * FROM (WITH t AS (SELECT 1 AS x) SELECT * FROM t) AS q", []),
    ("SELECT 1 FROM t UNION ALL SELECT 1 FROM u", ["home-project.home.t", "home-project.home.u"]),
    ("SELECT 'FROM d.t -- ?' FROM t # d.u ?", ["home-project.home.t"]),
    ("SELECT '''\nFROM d.t\n''' FROM /* d.u */ t", ["home-project.home.t"]),
    ("SELECT 1 FROM t;", ["home-project.home.t"]),
    ("SELECT 1 FROM t ; -- the end ;", ["home-project.home.t"]),
    ("(SELECT 1 FROM t)", ["home-project.home.t"]),
    ("SELECT * FROM v", ["home-project.d.t"]),
    ("SELECT w.x FROM `v` JOIN home.v AS w ON TRUE", ["home-project.d.t", "my-project.home.v"]),
    ("SELECT vv.x FROM d.vv, `d.vv` AS again", ["home-project.d.t"]),
    ("WITH v AS (SELECT 1 AS x) SELECT * FROM v", []),
    ("SELECT 'd.vv' FROM d.t -- d.vv", ["my-project.d.t"]),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "wanted"), NAMES)
def test_names_are_made_whole(sql, wanted):
    assert sorted(tables(sql)) == sorted(wanted)


def test_a_name_alone_needs_a_default():
    with pytest.raises(QueryError, match="neither a table nor a name"):
        tables("SELECT 1 FROM t", None)
    assert tables("SELECT 1 FROM d.t", None) == ["my-project.d.t"]


def test_a_query_that_is_whole_is_left_as_it_is():
    sql = "SELECT 'x?' AS a, @p FROM `p-q.d.t` -- ?"
    assert ready(sql).sql == sql


def test_marks_become_names_in_their_order():
    found = ready("SELECT ?, '?', `?`, ? -- ?").sql
    assert found == f"SELECT @{positional_name(0)}, '?', `?`, @{positional_name(1)} -- ?"


_PIECES = st.sampled_from(
    ["SELECT 1 AS x FROM t", "SELECT ? AS y FROM d.t", "SELECT '?\n' FROM `d.t`", "SELECT ?"]
)


@settings(deadline=None)
@given(st.lists(_PIECES, min_size=1, max_size=5), st.sampled_from([" ", "\n", "\n\n  "]))
def test_every_place_leads_back_to_the_same_word(pieces, gap):
    sent = f"{gap}UNION ALL{gap}".join(pieces)
    made = ready(sent)
    at = -1
    for word in ("SELECT", "UNION", "FROM"):
        at = made.sql.find(word)
        while at >= 0:
            before = made.sql[:at]
            line, column = before.count("\n") + 1, at - before.rfind("\n")
            told = made.told(f"bad (line {line}, column {column})")
            row, col = map(int, told.removeprefix("bad at [").removesuffix("]").split(":"))
            lines = sent.split("\n")
            assert lines[row - 1][col - 1 :].startswith(word), (sent, told)
            at = made.sql.find(word, at + 1)
    assert at == -1


def test_a_place_within_a_change_is_where_the_change_stands():
    made = ready("SELECT x FROM t WHERE y = ?")
    at = made.sql.index("`home`") + 1
    assert made.told(f"no (line 1, column {at + 1})") == "no at [1:15]"
    made = ready("SELECT x FROM d.vv, t WHERE y = ?")
    for word in ("home-project.home.v", "AS v WHERE", "d.t"):
        if word in made.sql:
            line = made.sql[: made.sql.index(word)].count("\n") + 1
            assert made.told(f"line {line}, column 1") == "[1:15]"
    made = ready("SELECT x FROM t WHERE y = ?")
    at = made.sql.index("positional") + 1
    assert made.told(f"line 1, column {at}") == "[1:27]"


@pytest.mark.parametrize("sql", ["", " ; ", "SELECT 1; SELECT 2", "SELECT 'x", "INSERT t"])
def test_what_is_no_query(sql):
    with pytest.raises(QueryError):
        ready(sql)
    with pytest.raises(UnsupportedSqlError):
        ready("CREATE TABLE d.t (x INT64)")


def test_table_ids_are_checked_by_the_store():
    assert translate(ready("SELECT 1 FROM d.t").sql).tables == (TableId("my-project", "d", "t"),)
    with pytest.raises(QueryError):
        tables("SELECT 1 FROM `d.t-x`")
