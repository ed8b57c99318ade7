"""What DuckDB refuses is told in words of GoogleSQL and of the table's columns."""

import pytest
from mapping_world import bq, world

from eventmill.base.errors import QueryError, UnsupportedSqlError

BODY = (
    f"message M {{ google.protobuf.Struct st = 1 {bq('JSON')}; string name = 2; N n = 3;"
    " repeated N r = 4; int64 i = 5; map<string, string> m = 6; repeated string l = 7; }"
    " message N { google.protobuf.Struct doc = 1; }"
)


@pytest.fixture(scope="module")
def store():
    return world(BODY).store


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("st.q", "JSON_VALUE(st, '$.q')"),
        ("t.st.q", "JSON_VALUE(t.st, '$.q')"),
        ("st.q.r", "JSON_VALUE(st, '$.q.r')"),
        ("name.q", "JSON_VALUE(name, '$.q')"),
        ("n.doc.q", "JSON_VALUE(n.doc, '$.q')"),
        ("e.doc.q", "JSON_VALUE(e.doc, '$.q')"),
        ("IF(n.doc IS NULL, i, 1) + st.q", "JSON_VALUE(st, '$.q')"),
        ("UPPER(name).q", "JSON_VALUE(text, '$.field')"),
    ],
)
def test_a_field_of_json_text_is_refused_with_the_function_that_reads_it(store, value, read):
    for sql in (
        f"SELECT {value} AS v FROM d.t AS t, UNNEST(r) AS e",
        f"SELECT COUNT(*) AS v FROM d.t AS t, UNNEST(r) AS e WHERE {value} IS NULL",
    ):
        for dry_run in (True, False):
            with pytest.raises(UnsupportedSqlError) as refused:
                store.query(sql, dry_run=dry_run)
            assert read in str(refused.value)
            assert "struct_extract" not in str(refused.value)
    if "text" not in read:
        name = read.removeprefix("JSON_VALUE(").partition(",")[0]
        assert f"of {name}, which is text" in str(refused.value)
        # The way out is one.
        store.query(f"SELECT {read} AS v FROM d.t AS t, UNNEST(r) AS e")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("i.q", "i is INT64, which has no field q"),
        ("l.q", "l is ARRAY<STRING>, which has no field q"),
        ("r.doc", r"write UNNEST\(r\) AS element in FROM, and element.doc"),
        ("m.k", r"write UNNEST\(m\) AS element"),
        ("[1, 2].q", "has no fields"),
        ("st.*", r"st is no STRUCT"),
        ("n.q", "there is no column q in local.d.t"),
    ],
)
def test_a_field_of_what_has_none_is_told_by_the_columns_name(store, value, told):
    with pytest.raises(QueryError, match=told):
        store.query(f"SELECT {value} FROM d.t")
