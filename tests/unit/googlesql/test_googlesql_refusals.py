"""What is outside the subset is refused by name; what is wrong is shown where it stands."""

from __future__ import annotations

import re

import pytest

from eventmill.base.errors import QueryError, UnsupportedSqlError
from eventmill.store.googlesql import translate
from eventmill.store.googlesql.functions import FUNCTIONS

UNSUPPORTED = [
    ("INSERT INTO ci.t VALUES (1)", "INSERT"),
    ("UPDATE ci.t SET a = 1 WHERE TRUE", "UPDATE"),
    ("DELETE FROM ci.t WHERE TRUE", "DELETE"),
    ("MERGE ci.t USING ci.u ON FALSE WHEN MATCHED THEN DELETE", "MERGE"),
    ("CREATE TABLE ci.t (a INT64)", "CREATE"),
    ("DROP TABLE ci.t", "DROP"),
    ("COPY ci.t TO 'x.csv'", "COPY"),
    ("ATTACH 'x.db'", "ATTACH"),
    ("PRAGMA show_tables", "PRAGMA"),
    ("SET x = 1", "SET"),
    ("INSTALL httpfs", "INSTALL"),
    ("EXPLAIN SELECT 1", "EXPLAIN"),
    ("DESCRIBE ci.t", "DESC"),
    ("VALUES (1)", "VALUES"),
    ("FROM ci.t", "FROM"),
    ("FROM ci.t |> WHERE TRUE", "FROM"),
    ("SELECT * FROM ci.t |> WHERE TRUE", "pipe syntax"),
    ("BEGIN TRANSACTION", "BEGIN"),
    ("SELECT FOO(1)", "function FOO"),
    ("SELECT foo.bar(1)", "foo.bar(1)"),
    ("SELECT NET.HOST('x')", "NET.HOST"),
    ("SELECT ML.PREDICT(x) FROM ci.t", "ML.PREDICT"),
    ("SELECT getenv('HOME')", "function GETENV"),
    ("SELECT error('x')", "function ERROR"),
    ("SELECT * FROM read_csv('x.csv')", "read_csv"),
    ("SELECT * FROM read_parquet('x')", "read_parquet"),
    ("SELECT * FROM duckdb_settings()", "duckdb_settings"),
    ("SELECT * FROM ci.f(1)", "table function"),
    ("SELECT LIST_VALUE(1)", "function LIST_VALUE"),
    ("SELECT RAND()", "function RAND"),
    ("SELECT FARM_FINGERPRINT('x')", "use TO_HEX(MD5(x))"),
    ("SELECT FORMAT('%d', 1)", "function FORMAT"),
    ("SELECT TO_JSON_STRING(1)", "function TO_JSON_STRING"),
    ("SELECT SESSION_USER()", "function SESSION_USER"),
    ("SELECT @@time_zone", "system variable"),
    ("SELECT ?", "positional parameter"),
    ("SELECT 5 % 2", "MOD(a, b)"),
    ("SELECT 1 << 2", "operator <<"),
    ("SELECT 1::INT64", "operator ::"),
    ("SELECT 'a' ILIKE 'A'", "ILIKE"),
    ("SELECT 'a' LIKE ANY ('a', 'b')", "LIKE ANY"),
    ("SELECT COUNT(*) FILTER (WHERE TRUE)", "FILTER"),
    ("SELECT (1, 2)", "tuple"),
    ("SELECT NUMERIC '1'", "type NUMERIC"),
    ("SELECT CAST(1 AS BIGNUMERIC)", "BIGNUMERIC"),
    ("SELECT JSON '1'", "JSON"),
    ("SELECT CAST(x AS JSON) FROM ci.t", "JSON"),
    ("SELECT CAST('x' AS STRING(5))", "STRING(5)"),
    ("SELECT CAST(x AS STRING FORMAT 'YYYY') FROM ci.t", "FORMAT in CAST"),
    ("SELECT CAST(x AS ARRAY<INT64>) FROM ci.t", "CAST AS ARRAY"),
    ("SELECT * FROM ci.t TABLESAMPLE SYSTEM (10 PERCENT)", "TABLESAMPLE"),
    ("SELECT * FROM ci.t FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP()", "FOR SYSTEM_TIME"),
    ("SELECT * FROM ci.t PIVOT (SUM(a) FOR b IN ('x'))", "PIVOT"),
    ("SELECT * FROM ci.events_*", "wildcard table"),
    ("SELECT * FROM `ci.events_*`", "wildcard table"),
    ("SELECT * FROM ci.INFORMATION_SCHEMA.TABLES", "INFORMATION_SCHEMA"),
    ("WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT 2) SELECT * FROM a", "RECURSIVE"),
    ("SELECT 1 EXCEPT ALL SELECT 1", "ALL"),
    ("SELECT * FROM (ci.t JOIN ci.u USING (a))", "parentheses"),
    ("SELECT * FROM ci.t NATURAL JOIN ci.u", "NATURAL"),
    ("SELECT * FROM ci.t, UNNEST(xs) AS x", "table.*"),
    ("SELECT AS VALUE 1", "AS VALUE"),
    ("SELECT DATE '2024-01-02' - DATE '2024-01-01'", "DATE_DIFF"),
    ("SELECT TIMESTAMP_TRUNC(x, NANOSECOND) FROM ci.t", "NANOSECOND"),
    ("SELECT INTERVAL '1-2' YEAR TO MONTH", "INTERVAL of several parts"),
    ("SELECT EXTRACT(CENTURY FROM x) FROM ci.t", "CENTURY"),
    ("SELECT FORMAT_TIMESTAMP('%e', x) FROM ci.t", "format element %e"),
    ("SELECT FORMAT_TIMESTAMP('%s', x) FROM ci.t", "format element %s"),
    ("SELECT FORMAT_TIMESTAMP('%E*S', x) FROM ci.t", "format element %E*S"),
    ("SELECT FORMAT_TIMESTAMP(f, x) FROM ci.t", "a format that is neither a literal"),
    ("SELECT FORMAT_TIMESTAMP('%z', x, 'Asia/Tokyo') FROM ci.t", "format element %z"),
    ("SELECT PARSE_DATE('%m/%d', x) FROM ci.t", "no year"),
    ("SELECT JSON_VALUE(x, '$..a') FROM ci.t", "the path '$..a'"),
    ("SELECT JSON_VALUE(x, '$.a[*]') FROM ci.t", "the path"),
    ("SELECT JSON_VALUE(x, y) FROM ci.t", "a path that is neither"),
    ("SELECT REGEXP_EXTRACT(x, y) FROM ci.t", "a pattern that is neither"),
    ("SELECT x['a'] FROM ci.t", "use JSON_VALUE"),
    ("SELECT SAFE.SUM(x) FROM ci.t", "SAFE. before SUM"),
    ("SELECT SAFE.LN(1 / x) FROM ci.t", "SAFE. before a call whose arguments"),
    ("SELECT LAG(x IGNORE NULLS) OVER (ORDER BY x) FROM ci.t", "LAG with NULLS"),
    ("SELECT SUM(x ORDER BY y) FROM ci.t", "SUM with ORDER BY"),
    ("SELECT APPROX_QUANTILES(x, 2 RESPECT NULLS) FROM ci.t", "APPROX_QUANTILES with NULLS"),
    ("SELECT GENERATE_ARRAY(0, 1, 0.5)", "FLOAT64"),
    ("SELECT t, _insert_id FROM ci.t", "the whole row t"),
    ("SELECT by.at.* FROM ci.t", "a * behind a path"),
    ("SELECT x AT TIME ZONE 'UTC' FROM ci.t", "AT TIME ZONE"),
    ("SELECT TIMESTAMP(x, 'Asia/Tokyo') FROM ci.t", "a zone for anything but"),
]


@pytest.mark.parametrize(("sql", "name"), UNSUPPORTED, ids=[case[0] for case in UNSUPPORTED])
def test_construct_outside_the_subset_is_refused_by_name(sql, name):
    with pytest.raises(UnsupportedSqlError, match=re.escape(name)):
        translate(sql)


WRONG = [
    ("", "empty"),
    (" ; ", "empty"),
    ("SELECT 1; SELECT 2", "only one statement"),
    ("SELECT 1; DROP TABLE x", "only one statement"),
    ("SELECT * FROM flights", "dataset.table"),
    ("SELECT * FROM `UP.d.t`", "project 'UP'"),
    ("SELECT *", "FROM clause"),
    ("SELECT 1 AS a, 2 AS A", "two columns named 'A'"),
    ("SELECT a, b AS a FROM ci.t", "two columns named 'a'"),
    ("SELECT 1 FROM ci.t, ci.t", "two items named 't'"),
    ("SELECT 1 FROM ci.t JOIN ci.u", "ON or USING"),
    ("WITH a AS (SELECT 1), A AS (SELECT 2) SELECT * FROM a", "two queries"),
    ("SELECT _insert_id FROM ci.t, ci.u", "ambiguous"),
    ("SELECT ROW_NUMBER() FROM ci.t", "needs an OVER"),
    ("SELECT LOWER(x) OVER () FROM ci.t", "takes no OVER"),
    ("SELECT LOWER(a, b) FROM ci.t", "LOWER takes 1 arguments, not 2"),
    ("SELECT IF(a, b) FROM ci.t", "IF takes 3 arguments, not 2"),
    ("SELECT TIMESTAMP_TRUNC(x, FORTNIGHT) FROM ci.t", "not a date part"),
    ("SELECT TIMESTAMP_DIFF(x, y, MONTH) FROM ci.t", "no fixed length"),
    ("SELECT DATE_DIFF(x, y, HOUR) FROM ci.t", "no part HOUR"),
    ("SELECT TIMESTAMP_ADD(x, INTERVAL 1 MONTH) FROM ci.t", "does not take the part MONTH"),
    ("SELECT DATE_ADD(x, 5) FROM ci.t", "wants INTERVAL"),
    ("SELECT x + INTERVAL 'a' DAY FROM ci.t", "has to be an integer"),
    ("SELECT 9223372036854775808", "does not fit INT64"),
    ("SELECT 1e999", "does not fit FLOAT64"),
    ("SELECT REGEXP_EXTRACT(x, '(a)(b)') FROM ci.t", "2 capturing groups"),
    ("SELECT x FROM ci.t LIMIT -1", "LIMIT"),
    ("SELECT x FROM ci.t LIMIT x", "LIMIT"),
    ("SELECT STRUCT(1 AS a, 2 AS a)", "same name"),
    ("SELECT [STRUCT(1 AS a), STRUCT(1, 2)]", "2 fields where 1"),
    ("SELECT FORMAT_DATE('%', x) FROM ci.t", "lone %"),
    ("SELECT APPROX_QUANTILES(x, 0) FROM ci.t", "from 1 to 10000"),
    ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "nested too deeply"),
    ("SELECT '" + "x" * 1_000_001 + "'", "the limit is 1,000,000"),
]


@pytest.mark.parametrize(("sql", "message"), WRONG, ids=[case[0][:60] for case in WRONG])
def test_query_that_googlesql_refuses_is_refused(sql, message):
    with pytest.raises(QueryError, match=re.escape(message)) as caught:
        translate(sql)
    assert not isinstance(caught.value, UnsupportedSqlError)


def test_syntax_error_shows_its_place():
    with pytest.raises(QueryError) as caught:
        translate("SELECT a\nFROM demo.t WHER x > 1")
    message = str(caught.value)
    assert "line 2, column 18" in message
    shown, mark = message.split("\n")[1:]
    assert shown[mark.index("^") :] == "x > 1"


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT FROM", "column 8: Expected table name but got the end"),
        ("SELECT * FROM t JOIN ON x", "Expected table name but got ON"),
        ("SELECT a FROM t WHERE", "a part of WHERE is missing"),
        ("SELECT CASE WHEN", "a part of IF is missing"),
    ],
)
def test_syntax_errors_are_told_without_the_parsers_classes(sql, told):
    with pytest.raises(QueryError, match=told) as caught:
        translate(sql)
    assert not re.search("Token|class|sqlglot", str(caught.value))


def test_text_without_an_end_says_where_it_begins():
    with pytest.raises(QueryError, match=r"line 2, column 8"):
        translate("SELECT 1,\n       'abc")


def test_refusal_says_line_and_column():
    with pytest.raises(UnsupportedSqlError, match=r"function FOO .*\(line 2, column 5\)"):
        translate("SELECT a,\n    FOO(b) FROM ci.t")


def test_function_names_know_no_case():
    assert translate("SELECT lower('A')").sql == translate("SELECT LOWER('A')").sql


@pytest.mark.parametrize("name", sorted(n for n, rule in FUNCTIONS.items() if rule.most < 1000))
def test_every_function_refuses_too_many_arguments(name):
    rule = FUNCTIONS[name]
    over = " OVER (ORDER BY x)" if rule.window else ""
    arguments = ", ".join(["x"] * (rule.most + 1))
    with pytest.raises(QueryError, match="arguments, not"):
        translate(f"SELECT {name}({arguments}){over} FROM ci.t")
