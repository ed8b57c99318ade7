"""Aggregates and window functions."""

from __future__ import annotations

from sqlglot import exp

from eventmill.store.googlesql.call import Call, Rules, aggregate, window

_ALL = "DISTINCT,NULLS,ORDER BY,LIMIT,OVER"


def _count(call: Call) -> str:
    if isinstance(call.args[0], exp.Star):
        if call.distinct:
            raise call.wrong("COUNT(DISTINCT *) is not GoogleSQL")
        return f"count(*){call.over}"
    distinct = "DISTINCT " if call.distinct else ""
    return f"count({distinct}{call.sql(0)}){call.over}"


def _count_if(call: Call) -> str:
    if call.distinct:
        raise call.refuse("DISTINCT", "use COUNT(DISTINCT IF(condition, x, NULL))")
    return f"count(CASE WHEN {call.sql(0)} THEN 1 END){call.over}"


def _sum(call: Call) -> str:
    # DuckDB adds INT64 into 128 bits; back to the argument's type, with an error where it
    # does not fit. The second aggregate is read for its type alone and never computed.
    x = call.sql(0)
    distinct = "DISTINCT " if call.distinct else ""
    like = x if call.over else f"any_value({x})"
    return f"cast_to_type(sum({distinct}{x}){call.over}, {like})"


def _any_value(call: Call) -> str:
    if call.having is None:
        return f"any_value({call.sql(0)}){call.over}"
    extreme, by = call.having
    return f"arg_{extreme.lower()}_null({call.sql(0)}, {by}){call.over}"


def _by(extreme: str) -> Rules:
    return {f"{extreme}_BY": aggregate(f"arg_{extreme.lower()}_null({{0}}, {{1}}){{over}}", 2)}


def _array_agg(call: Call) -> str:
    x = call.sql(0)
    distinct = "DISTINCT " if call.distinct else ""
    kept = f" FILTER (WHERE {x} IS NOT NULL)" if call.nulls == "IGNORE" else ""
    array = f"array_agg({distinct}{x}{call.order}){kept}{call.over}"
    return f"({array})[1:{call.limit}]" if call.limit else array


def _string_agg(call: Call) -> str:
    x = call.sql(0)
    delimiter = call.sql(1) if len(call.args) == 2 else "','"
    distinct = "DISTINCT " if call.distinct else ""
    if not call.limit:
        return f"string_agg({distinct}{x}, {delimiter}{call.order}){call.over}"
    kept = f"array_agg({distinct}{x}{call.order}) FILTER (WHERE {x} IS NOT NULL){call.over}"
    return f"array_to_string(({kept})[1:{call.limit}], {delimiter})"


def _quantile_number(call: Call) -> int:
    number = call.constant(1, "a number")
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 10_000:
        raise call.wrong("the number of quantiles has to be an integer from 1 to 10000")
    return number


def _quantiles(call: Call) -> str:
    number = _quantile_number(call)
    fractions = ", ".join(_fraction(k, number) for k in range(number + 1))
    distinct = "DISTINCT " if call.distinct else ""
    return f"quantile_disc({distinct}{call.sql(0)}, [{fractions}]){call.over}"


def one_quantile(call: Call, index: int) -> str | None:
    """Return element ``index`` (from 0) of APPROX_QUANTILES alone, not the whole array of them.

    None where there is no such element.
    """
    number = _quantile_number(call)
    if not 0 <= index <= number:
        return None
    distinct = "DISTINCT " if call.distinct else ""
    return f"quantile_disc({distinct}{call.sql(0)}, {_fraction(index, number)}){call.over}"


def _fraction(index: int, number: int) -> str:
    return f"CAST({index / number!r} AS DOUBLE)"


def _top_count(call: Call) -> str:
    x, number = call.sql(0), f"CAST({call.sql(1)} AS BIGINT)"
    pairs = (
        f"list_transform(map_entries(histogram({x})),"
        ' lambda e: struct_pack("count" := CAST(e.value AS BIGINT), "value" := e.key))'
    )
    # NULL counts as a value here; histogram leaves it out.
    missing = f"count(*) FILTER (WHERE {x} IS NULL)"
    null = f'[struct_pack("count" := {missing}, "value" := cast_to_type(NULL, any_value({x})))]'
    every = f"list_concat({pairs}, CASE WHEN {missing} > 0 THEN {null} END)"
    return (
        f"list_transform(list_reverse_sort({every})[1:{number}],"
        ' lambda e: struct_pack("value" := e."value", "count" := e."count"))'
    )


def _navigation(duckdb_name: str, least: int, most: int) -> Rules:
    def write(call: Call) -> str:
        nulls = " IGNORE NULLS" if call.nulls == "IGNORE" else ""
        return f"{duckdb_name}({', '.join(call.written())}{nulls}){call.over}"

    # DuckDB's LAG and LEAD take IGNORE NULLS, GoogleSQL's do not.
    modifiers = "OVER" if duckdb_name in ("lag", "lead") else "NULLS,OVER"
    return {duckdb_name.upper(): window(write, least, most, modifiers=modifiers)}


def _percentile(duckdb_name: str) -> str:
    return f"{duckdb_name}({{0}}, {{1}}){{over}}"


def _statistic(duckdb_name: str) -> str:
    return f"{duckdb_name}({{distinct}}CAST({{0}} AS DOUBLE)){{over}}"


AGGREGATES: Rules = {
    "COUNT": aggregate(_count, kind="INT64", modifiers="DISTINCT,OVER"),
    "COUNTIF": aggregate(_count_if, kind="INT64", modifiers="DISTINCT,OVER"),
    "SUM": aggregate(_sum, modifiers="DISTINCT,OVER"),
    "AVG": aggregate("avg({distinct}{0}){over}", modifiers="DISTINCT,OVER"),
    "MIN": aggregate("min({0}){over}"),
    "MAX": aggregate("max({0}){over}"),
    **_by("MIN"),
    **_by("MAX"),
    "ANY_VALUE": aggregate(_any_value, modifiers="HAVING,OVER"),
    "ARRAY_AGG": aggregate(_array_agg, kind="ARRAY", modifiers=_ALL),
    "STRING_AGG": aggregate(_string_agg, 1, 2, "STRING", modifiers="DISTINCT,ORDER BY,LIMIT,OVER"),
    "LOGICAL_AND": aggregate("bool_and({0}){over}", kind="BOOL"),
    "LOGICAL_OR": aggregate("bool_or({0}){over}", kind="BOOL"),
    "APPROX_COUNT_DISTINCT": aggregate("approx_count_distinct({0}){over}", kind="INT64"),
    "APPROX_QUANTILES": aggregate(_quantiles, 2, kind="ARRAY", modifiers="DISTINCT"),
    "APPROX_TOP_COUNT": aggregate(_top_count, 2, kind="ARRAY", modifiers=""),
    "STDDEV": aggregate(_statistic("stddev_samp"), kind="FLOAT64", modifiers="DISTINCT,OVER"),
    "STDDEV_SAMP": aggregate(_statistic("stddev_samp"), kind="FLOAT64", modifiers="DISTINCT,OVER"),
    "STDDEV_POP": aggregate(_statistic("stddev_pop"), kind="FLOAT64", modifiers="DISTINCT,OVER"),
    "VARIANCE": aggregate(_statistic("var_samp"), kind="FLOAT64", modifiers="DISTINCT,OVER"),
    "VAR_SAMP": aggregate(_statistic("var_samp"), kind="FLOAT64", modifiers="DISTINCT,OVER"),
    "VAR_POP": aggregate(_statistic("var_pop"), kind="FLOAT64", modifiers="DISTINCT,OVER"),
    "CORR": aggregate("corr({0}, {1}){over}", 2, kind="FLOAT64"),
    "COVAR_POP": aggregate("covar_pop({0}, {1}){over}", 2, kind="FLOAT64"),
    "COVAR_SAMP": aggregate("covar_samp({0}, {1}){over}", 2, kind="FLOAT64"),
    "GROUPING": aggregate("CAST(grouping({0}) AS BIGINT)", kind="INT64", modifiers=""),
}

WINDOWS: Rules = {
    "ROW_NUMBER": window("row_number(){over}", kind="INT64"),
    "RANK": window("rank(){over}", kind="INT64"),
    "DENSE_RANK": window("dense_rank(){over}", kind="INT64"),
    "PERCENT_RANK": window("percent_rank(){over}", kind="FLOAT64"),
    "CUME_DIST": window("cume_dist(){over}", kind="FLOAT64"),
    "NTILE": window("ntile({0}){over}", 1, kind="INT64"),
    **_navigation("lag", 1, 3),
    **_navigation("lead", 1, 3),
    **_navigation("first_value", 1, 1),
    **_navigation("last_value", 1, 1),
    **_navigation("nth_value", 2, 2),
    "PERCENTILE_CONT": window("quantile_cont(CAST({0} AS DOUBLE), {1}){over}", 2, kind="FLOAT64"),
    "PERCENTILE_DISC": window(_percentile("quantile_disc"), 2),
}
