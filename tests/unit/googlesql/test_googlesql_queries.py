"""SELECT, FROM, joins, UNNEST, GROUP BY, windows, set operations: what they mean."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

CASES: list[tuple[str, list[tuple]]] = [
    # SELECT
    ("SELECT 1", [(1,)]),
    ("SELECT id FROM ci.builds WHERE id < 3 ORDER BY id", [(1,), (2,)]),
    ("SELECT DISTINCT repo FROM ci.builds ORDER BY repo", [(None,), ("app",), ("lib",)]),
    ("SELECT * FROM ci.repos ORDER BY repo", [("app", "web"), ("old", "none")]),
    ("SELECT * EXCEPT (team) FROM ci.repos ORDER BY 1", [("app",), ("old",)]),
    (
        "SELECT * REPLACE (UPPER(team) AS team) FROM ci.repos ORDER BY repo",
        [("app", "WEB"), ("old", "NONE")],
    ),
    ("SELECT r.* EXCEPT (repo) FROM ci.repos AS r ORDER BY team", [("none",), ("web",)]),
    ("SELECT AS STRUCT 1 AS a, 'x' AS b", [(1, "x")]),
    ("SELECT (SELECT AS STRUCT 1 AS a, 'x' AS b).b", [("x",)]),
    # names of tables
    ("SELECT COUNT(*) FROM `local.ci.builds`", [(4,)]),
    ("SELECT COUNT(*) FROM `local`.ci.builds", [(4,)]),
    ("SELECT COUNT(*) FROM `local.ci`.builds", [(4,)]),
    ("SELECT COUNT(*) FROM my-proj.ci.builds", [(4,)]),
    ("SELECT COUNT(*) FROM `my-proj`.ci.builds", [(4,)]),
    ("SELECT builds.id FROM ci.builds WHERE builds.id = 1", [(1,)]),
    ("SELECT B.ID FROM ci.builds AS b WHERE b.Id = 1", [(1,)]),
    # nested fields
    ("SELECT b.by.at.city FROM ci.builds b WHERE id = 1", [("Rome",)]),
    ("SELECT `by`.name FROM ci.builds WHERE id = 2", [("Bob",)]),
    ("SELECT by.at.city FROM ci.builds WHERE by.name = 'Ada'", [("Rome",)]),
    ("SELECT local_.by.at.city FROM ci.builds AS local_ ORDER BY id LIMIT 1", [("Rome",)]),
    ("SELECT by.* FROM ci.builds WHERE id = 2", [("Bob", {"city": "Oslo"})]),
    # joins
    (
        "SELECT b.id, r.team FROM ci.builds b JOIN ci.repos r ON b.repo = r.repo ORDER BY id",
        [(1, "web"), (2, "web")],
    ),
    (
        "SELECT id, team FROM ci.builds LEFT JOIN ci.repos USING (repo) ORDER BY id",
        [(1, "web"), (2, "web"), (3, None), (4, None)],
    ),
    (
        "SELECT repo, id FROM ci.builds RIGHT OUTER JOIN ci.repos USING (repo) ORDER BY repo, id",
        [("app", 1), ("app", 2), ("old", None)],
    ),
    (
        "SELECT repo, id, team FROM ci.builds FULL JOIN ci.repos USING (repo) ORDER BY id, repo",
        [
            ("old", None, "none"),
            ("app", 1, "web"),
            ("app", 2, "web"),
            ("lib", 3, None),
            (None, 4, None),
        ],
    ),
    ("SELECT COUNT(*) FROM ci.builds CROSS JOIN ci.repos", [(8,)]),
    ("SELECT COUNT(*) FROM ci.builds, ci.repos", [(8,)]),
    (
        "SELECT a.id, b.id AS other FROM ci.builds a, ci.builds b WHERE a.id = b.id - 3",
        [(1, 4)],
    ),
    # UNNEST
    (
        "SELECT id, s.name FROM ci.builds, UNNEST(steps) AS s ORDER BY id, s.ms",
        [(1, "lint"), (1, "test"), (3, "test")],
    ),
    (
        (
            "SELECT b.id, s.name, o FROM ci.builds AS b, UNNEST(b.steps) AS s WITH OFFSET AS o"
            " ORDER BY 1, 3"
        ),
        [(1, "lint", 0), (1, "test", 1), (3, "test", 0)],
    ),
    (
        "SELECT id, offset FROM ci.builds CROSS JOIN UNNEST(tags) WITH OFFSET ORDER BY 1, 2",
        [(1, 0), (1, 1), (2, 0)],
    ),
    (
        "SELECT id, s.ms FROM ci.builds, builds.steps AS s ORDER BY s.ms",
        [(1, 10), (1, 30), (3, 50)],
    ),
    (
        "SELECT id, s.ms FROM ci.builds b, b.steps s WHERE s.name = 'test' ORDER BY id",
        [(1, 30), (3, 50)],
    ),
    (
        "SELECT id, s.name FROM ci.builds LEFT JOIN UNNEST(steps) AS s ORDER BY id, s.ms",
        [(1, "lint"), (1, "test"), (2, None), (3, "test"), (4, None)],
    ),
    (
        "SELECT id, s.ms FROM ci.builds b LEFT JOIN UNNEST(b.steps) AS s ON s.ms > 20 ORDER BY id",
        [(1, 30), (2, None), (3, 50), (4, None)],
    ),
    (
        "SELECT id, s.name FROM ci.builds JOIN UNNEST(steps) s ON s.ms > 20 ORDER BY id",
        [(1, "test"), (3, "test")],
    ),
    ("SELECT id, t FROM ci.builds, UNNEST(tags) t ORDER BY id, t", [(1, "a"), (1, "b"), (2, "b")]),
    ("SELECT s FROM ci.builds, UNNEST(steps) s WHERE id = 3", [({"name": "test", "ms": 50},)]),
    ("SELECT s.* FROM ci.builds, UNNEST(steps) s WHERE id = 3", [("test", 50)]),
    ("SELECT x FROM UNNEST([3, 1, 2]) AS x ORDER BY x", [(1,), (2,), (3,)]),
    ("SELECT * FROM UNNEST([1, 2]) AS x WITH OFFSET AS o ORDER BY o", [(1, 0), (2, 1)]),
    (
        "SELECT * FROM UNNEST([STRUCT(1 AS a, 'x' AS b), (2, 'y')]) ORDER BY a",
        [(1, "x"), (2, "y")],
    ),
    (
        "SELECT b, t.a FROM UNNEST([STRUCT(1 AS a, 'x' AS b), STRUCT(2, 'y')]) AS t ORDER BY a",
        [("x", 1), ("y", 2)],
    ),
    (
        (
            "SELECT a + 1 FROM UNNEST(ARRAY<STRUCT<a INT64, b STRING>>[(1, 'x'), (2, NULL)])"
            " WHERE b IS NULL"
        ),
        [(3,)],
    ),
    (
        "SELECT t.a, e FROM UNNEST([STRUCT(1 AS a, [5, 6] AS b)]) AS t, t.b AS e ORDER BY e",
        [(1, 5), (1, 6)],
    ),
    ("SELECT steps FROM (SELECT [1, 2] AS steps) AS q, q.steps ORDER BY 1", [(1,), (2,)]),
    (
        "SELECT steps.name FROM ci.builds b, b.steps ORDER BY steps.ms",
        [("lint",), ("test",), ("test",)],
    ),
    # subqueries
    (
        "SELECT id FROM ci.builds WHERE repo IN (SELECT repo FROM ci.repos) ORDER BY id",
        [(1,), (2,)],
    ),
    (
        (
            "SELECT repo FROM ci.repos r WHERE NOT EXISTS"
            " (SELECT 1 FROM ci.builds b WHERE b.repo = r.repo)"
        ),
        [("old",)],
    ),
    ("SELECT (SELECT MAX(id) FROM ci.builds)", [(4,)]),
    (
        (
            "SELECT id, (SELECT COUNT(*) FROM UNNEST(steps) s WHERE s.ms >= 30) FROM ci.builds"
            " ORDER BY id"
        ),
        [(1, 1), (2, 0), (3, 1), (4, 0)],
    ),
    (
        (
            "SELECT id FROM ci.builds WHERE EXISTS (SELECT 1 FROM UNNEST(steps) s WHERE s.name ="
            " 'lint')"
        ),
        [(1,)],
    ),
    (
        (
            "SELECT ARRAY(SELECT s.name FROM UNNEST(steps) s ORDER BY s.ms DESC) FROM ci.builds"
            " ORDER BY id"
        ),
        [(["test", "lint"],), ([],), (["test"],), ([],)],
    ),
    (
        (
            "SELECT ARRAY(SELECT AS STRUCT s.name, o AS place FROM UNNEST(steps) s WITH OFFSET o"
            " ORDER BY o) FROM ci.builds WHERE id = 1"
        ),
        [([{"name": "lint", "place": 0}, {"name": "test", "place": 1}],)],
    ),
    ("SELECT n FROM (SELECT COUNT(*) AS n FROM ci.builds)", [(4,)]),
    ("SELECT q.f FROM (SELECT 5 AS f) AS q", [(5,)]),
    ("SELECT * FROM (SELECT 1 AS a, 2 AS b)", [(1, 2)]),
    # WITH
    (
        "WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS x FROM a) SELECT a.x, b.x AS y FROM a, b",
        [(1, 2)],
    ),
    ("WITH builds AS (SELECT 7 AS id) SELECT id FROM builds", [(7,)]),
    ("WITH a AS (SELECT 1 AS x) SELECT (SELECT x FROM a) + x FROM A", [(2,)]),
    ("SELECT * FROM (WITH a AS (SELECT 3 AS x) SELECT x FROM a)", [(3,)]),
    # set operations
    ("SELECT 1 AS a UNION ALL SELECT 1", [(1,), (1,)]),
    ("SELECT 1 AS a UNION DISTINCT SELECT 1", [(1,)]),
    ("(SELECT 1 AS a UNION ALL SELECT 2) UNION ALL SELECT 3 ORDER BY a DESC LIMIT 2", [(3,), (2,)]),
    ("SELECT 1 AS a INTERSECT DISTINCT SELECT 1", [(1,)]),
    ("SELECT x FROM UNNEST([1, 2, 2]) x EXCEPT DISTINCT SELECT 1", [(2,)]),
    (
        "SELECT x FROM UNNEST([2, NULL, 1]) x UNION ALL SELECT 0 ORDER BY x",
        [(None,), (0,), (1,), (2,)],
    ),
    # GROUP BY
    (
        "SELECT repo, COUNT(*) FROM ci.builds GROUP BY repo ORDER BY repo",
        [(None, 1), ("app", 2), ("lib", 1)],
    ),
    (
        (
            "SELECT UPPER(repo) AS repo, COUNT(*) AS n FROM ci.builds GROUP BY repo ORDER BY n"
            " DESC, repo LIMIT 1"
        ),
        [("APP", 2)],
    ),
    (
        (
            "SELECT TIMESTAMP_TRUNC(ts, YEAR) AS ts, COUNT(*) AS n FROM ci.builds WHERE ts IS NOT"
            " NULL GROUP BY ts HAVING n > 1"
        ),
        [(datetime(2024, 1, 1, tzinfo=UTC), 3)],
    ),
    ("SELECT repo, COUNT(*) FROM ci.builds GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1", [("app", 2)]),
    (
        "SELECT repo, COUNT(*) AS n FROM ci.builds GROUP BY ALL ORDER BY n DESC LIMIT 1",
        [("app", 2)],
    ),
    (
        (
            "SELECT repo, COUNT(*) AS n FROM ci.builds WHERE repo IS NOT NULL GROUP BY ROLLUP(repo)"
            " ORDER BY n DESC, repo"
        ),
        [(None, 3), ("app", 2), ("lib", 1)],
    ),
    (
        (
            "SELECT repo, GROUPING(repo) AS g, COUNT(*) AS n FROM ci.builds WHERE repo IS NOT NULL"
            " GROUP BY GROUPING SETS ((repo), ()) ORDER BY g, repo"
        ),
        [("app", 0, 2), ("lib", 0, 1), (None, 1, 3)],
    ),
    ("SELECT repo FROM ci.builds GROUP BY repo HAVING COUNT(*) > 1", [("app",)]),
    (
        "SELECT repo, SUM(id) AS id FROM ci.builds GROUP BY repo HAVING id = 3 ORDER BY repo",
        [("app", 3), ("lib", 3)],
    ),
    # ORDER BY
    ("SELECT repo FROM ci.builds ORDER BY repo DESC, id", [("lib",), ("app",), ("app",), (None,)]),
    ("SELECT repo FROM ci.repos ORDER BY LENGTH(team) + 0, 1", [("app",), ("old",)]),
    ("SELECT id AS n FROM ci.builds ORDER BY repo NULLS LAST, n DESC", [(2,), (1,), (3,), (4,)]),
    ("SELECT -id AS id FROM ci.builds ORDER BY id + 0 LIMIT 1", [(-4,)]),
    ("SELECT id FROM ci.builds ORDER BY id LIMIT 2 OFFSET 1", [(2,), (3,)]),
    # windows
    (
        (
            "SELECT id, ROW_NUMBER() OVER (PARTITION BY repo ORDER BY ts DESC) AS n FROM ci.builds"
            " ORDER BY id"
        ),
        [(1, 2), (2, 1), (3, 1), (4, 1)],
    ),
    (
        (
            "SELECT x, RANK() OVER (ORDER BY x), DENSE_RANK() OVER (ORDER BY x) FROM"
            " UNNEST([1, 1, 2]) x ORDER BY x"
        ),
        [(1, 1, 1), (1, 1, 1), (2, 3, 2)],
    ),
    (
        (
            "SELECT id, SUM(id) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM"
            " ci.builds ORDER BY id"
        ),
        [(1, 1), (2, 3), (3, 5), (4, 7)],
    ),
    (
        (
            "SELECT id, LAG(id) OVER w, LEAD(id, 2, -1) OVER w, FIRST_VALUE(id) OVER w FROM"
            " ci.builds WINDOW w AS (ORDER BY id) ORDER BY id"
        ),
        [(1, None, 3, 1), (2, 1, 4, 1), (3, 2, -1, 1), (4, 3, -1, 1)],
    ),
    (
        "SELECT id, LAST_VALUE(seconds IGNORE NULLS) OVER (ORDER BY id) FROM ci.builds ORDER BY id",
        [(1, 1.5), (2, 2.5), (3, 2.5), (4, 4.0)],
    ),
    (
        "SELECT id, COUNT(*) OVER (), NTILE(2) OVER (ORDER BY id) FROM ci.builds ORDER BY id",
        [(1, 4, 1), (2, 4, 1), (3, 4, 2), (4, 4, 2)],
    ),
    (
        (
            "SELECT id FROM ci.builds WHERE TRUE QUALIFY ROW_NUMBER() OVER (PARTITION BY repo"
            " ORDER BY id DESC) = 1 ORDER BY id"
        ),
        [(2,), (3,), (4,)],
    ),
    (
        "SELECT id, RANK() OVER (ORDER BY id DESC) AS r FROM ci.builds QUALIFY r <= 2 ORDER BY r",
        [(4, 1), (3, 2)],
    ),
    (
        "SELECT DISTINCT PERCENTILE_CONT(x, 0.5) OVER () FROM UNNEST([1, 2, 3, 10]) x",
        [(2.5,)],
    ),
    (
        "SELECT SUM(COUNT(*)) OVER (ORDER BY repo) FROM ci.builds GROUP BY repo ORDER BY 1",
        [(1,), (3,), (4,)],
    ),
    # the latest row of each group, as people write it
    (
        (
            "SELECT r.id FROM (SELECT ARRAY_AGG(b ORDER BY ts DESC LIMIT 1)[OFFSET(0)] AS r FROM"
            " ci.builds b GROUP BY repo) ORDER BY 1"
        ),
        [(2,), (3,), (4,)],
    ),
    # pseudo columns
    ("SELECT _insert_id FROM ci.builds WHERE id = 2", [("i2",)]),
    (
        "SELECT *, _insert_id FROM ci.repos ORDER BY 3",
        [("app", "web", "r1"), ("old", "none", "r2")],
    ),
    (
        "SELECT id FROM ci.builds WHERE _PARTITIONTIME >= TIMESTAMP '2024-02-01' ORDER BY id",
        [(3,), (4,)],
    ),
    ("SELECT id FROM ci.builds b WHERE b._PARTITIONDATE = '2024-01-03'", [(2,)]),
    (
        "WITH w AS (SELECT _insert_id FROM ci.repos) SELECT _insert_id FROM w ORDER BY 1",
        [("r1",), ("r2",)],
    ),
]


@pytest.mark.parametrize(("sql", "rows"), CASES, ids=[case[0] for case in CASES])
def test_query_answers_as_googlesql_does(ask, sql, rows):
    assert ask(sql).rows == rows


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT 1, 2 AS a, 3", ["f0_", "a", "f1_"]),
        ("SELECT COUNT(*), repo FROM ci.builds GROUP BY repo", ["f0_", "repo"]),
        ("SELECT b.by.at.city, tags[SAFE_OFFSET(0)] FROM ci.builds b", ["city", "f0_"]),
        ("SELECT CURRENT_DATE, CAST(1 AS STRING)", ["f0_", "f1_"]),
        ("SELECT Id FROM ci.builds UNION ALL SELECT 1", ["Id"]),
        ("SELECT * FROM ci.repos", ["repo", "team"]),
        ("SELECT r.repo, r.team AS t FROM ci.repos r", ["repo", "t"]),
        ("SELECT * FROM UNNEST([STRUCT(1 AS a, 2 AS b)])", ["a", "b"]),
        ("SELECT * FROM UNNEST([1])", ["f0_"]),
    ],
)
def test_columns_are_named_as_bigquery_names_them(ask, sql, names):
    assert ask(sql).names == names


@pytest.mark.parametrize(
    ("expression", "type_"),
    [
        ("1", "int64"),
        ("1 + 2147483647", "int64"),
        ("1.5", "double"),
        ("1 / 2", "double"),
        ("SUM(id)", "int64"),
        ("SUM(seconds)", "double"),
        ("COUNT(*)", "int64"),
        ("COUNTIF(ok)", "int64"),
        ("AVG(id)", "double"),
        ("ROUND(SUM(id))", "double"),
        ("MAX(ts)", "timestamp[us, tz=UTC]"),
        ("MIN(DATE(ts))", "date32[day]"),
        ("ARRAY_AGG(id)", "list<l: int64>"),
        ("APPROX_QUANTILES(id, 4)[OFFSET(1)]", "int64"),
        ("DIV(7, 2)", "int64"),
        ("SIGN(-2)", "int64"),
        ("SIGN(-2.5)", "double"),
        ("EXTRACT(YEAR FROM MAX(ts))", "int64"),
        ("TIMESTAMP_DIFF(MAX(ts), MIN(ts), HOUR)", "int64"),
        ("LENGTH('abc')", "int64"),
        ("MD5('a')", "binary"),
    ],
)
def test_types_are_googlesql_types(ask, expression, type_):
    assert ask(f"SELECT {expression} FROM ci.builds").types == [type_]
