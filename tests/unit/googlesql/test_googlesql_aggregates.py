"""Aggregates: GoogleSQL in, its documented values out, run on DuckDB."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest


def ts(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


AGGREGATES = [
    ("COUNT(*)", 4),
    ("COUNT(seconds)", 3),
    ("COUNT(DISTINCT repo)", 2),
    ("COUNTIF(ok)", 2),
    ("SUM(id)", 10),
    ("SUM(DISTINCT IF(id > 2, 3, id))", 6),
    ("SUM(seconds)", 8.0),
    ("SUM(IF(FALSE, id, NULL))", None),
    ("AVG(id)", 2.5),
    ("MIN(repo)", "app"),
    ("MAX(id)", 4),
    ("MAX_BY(repo, seconds)", None),
    ("MIN_BY(repo, id)", "app"),
    ("ANY_VALUE(repo HAVING MAX ts)", "lib"),
    ("ANY_VALUE(id HAVING MIN seconds)", 1),
    ("ARRAY_AGG(id ORDER BY id DESC)", [4, 3, 2, 1]),
    ("ARRAY_AGG(DISTINCT repo IGNORE NULLS ORDER BY repo)", ["app", "lib"]),
    ("ARRAY_AGG(repo IGNORE NULLS ORDER BY id DESC LIMIT 2)", ["lib", "app"]),
    ("ARRAY_AGG(repo ORDER BY repo, id LIMIT 2)", [None, "app"]),
    ("ARRAY_AGG(id ORDER BY ts DESC LIMIT 1)[OFFSET(0)]", 3),
    ("STRING_AGG(repo ORDER BY id)", "app,app,lib"),
    ("STRING_AGG(DISTINCT repo, '|' ORDER BY repo DESC)", "lib|app"),
    ("STRING_AGG(repo, '-' ORDER BY id DESC LIMIT 2)", "lib-app"),
    ("LOGICAL_AND(ok)", False),
    ("LOGICAL_OR(ok)", True),
    ("APPROX_COUNT_DISTINCT(id)", 4),
    ("APPROX_QUANTILES(id, 1)", [1, 4]),
    ("APPROX_QUANTILES(id, 3)", [1, 2, 3, 4]),
    ("APPROX_QUANTILES(id, 100)[OFFSET(0)]", 1),
    ("APPROX_QUANTILES(id, 100)[OFFSET(100)]", 4),
    ("APPROX_QUANTILES(id, 2)[ORDINAL(3)]", 4),
    ("APPROX_QUANTILES(id, 2)[SAFE_OFFSET(7)]", None),
    ("APPROX_TOP_COUNT(repo, 1)", [{"value": "app", "count": 2}]),
    ("APPROX_TOP_COUNT(IF(id < 4, NULL, 'x'), 1)", [{"value": None, "count": 3}]),
    ("STDDEV(id)", math.sqrt(5 / 3)),
    ("STDDEV_POP(id)", math.sqrt(5 / 4)),
    ("VARIANCE(id)", 5 / 3),
    ("VAR_POP(id)", 5 / 4),
    ("CORR(id, 2 * id)", 1.0),
    ("COVAR_POP(id, id)", 1.25),
    ("STDDEV(IF(id = 1, id, NULL))", None),
    ("MAX(IF(id = 1, seconds, NULL)) / COUNT(*)", 0.375),
]


@pytest.mark.parametrize(("expression", "value"), AGGREGATES, ids=[case[0] for case in AGGREGATES])
def test_aggregate_has_googlesqls_value(ask, expression, value):
    ((answer,),) = ask(f"SELECT {expression} FROM ci.builds").rows
    assert answer == (pytest.approx(value) if isinstance(value, float) else value)
