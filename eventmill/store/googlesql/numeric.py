"""Numbers and choices: ROUND, SAFE_DIVIDE, GREATEST, IF, COALESCE and their like."""

from __future__ import annotations

from eventmill.store.googlesql.call import MANY, Call, Rules, scalar
from eventmill.store.googlesql.quoting import failure

ZERO_DIVISION = "division by zero; SAFE_DIVIDE gives NULL instead"


def _rounding(duckdb_name: str) -> Rules:
    def write(call: Call) -> str:
        value = f"CAST({call.sql(0)} AS DOUBLE)"
        if len(call.args) == 1:
            return f"{duckdb_name}({value})"
        return f"{duckdb_name}({value}, CAST({call.sql(1)} AS INTEGER))"

    return {duckdb_name.upper(): scalar(write, 1, 2, "FLOAT64")}


def _checked(name: str, bad: str, message: str, result: str) -> Rules:
    """Return the rule of a function of one number that is an error outside its domain."""

    def write(call: Call) -> str:
        x = f"CAST({call.sql(0)} AS DOUBLE)"
        stop = failure(f"{name}: {message}")
        return f"CASE WHEN {bad.format(x)} THEN {stop} ELSE {result.format(x)} END"

    return {name: scalar(write, kind="FLOAT64")}


def _power(call: Call) -> str:
    x, y = (f"CAST({value} AS DOUBLE)" for value in call.written())
    power = f"pow({x}, {y})"
    stop = failure(f"{call.name}: the result is no finite number")
    bad = f"isfinite({x}) AND isfinite({y}) AND NOT isfinite({power})"
    return f"CASE WHEN {bad} THEN {stop} ELSE {power} END"


def _logarithm(call: Call) -> str:
    # LOG of one argument is the natural logarithm, unlike DuckDB's.
    x = f"CAST({call.sql(0)} AS DOUBLE)"
    stop = failure("LOG: the argument is not above 0")
    if len(call.args) == 1:
        return f"CASE WHEN {x} <= 0 THEN {stop} ELSE ln({x}) END"
    base = f"CAST({call.sql(1)} AS DOUBLE)"
    bad_base = failure("LOG: the base is not above 0, or is 1")
    return (
        f"CASE WHEN {x} <= 0 THEN {stop} WHEN {base} <= 0 OR {base} = 1 THEN {bad_base}"
        f" ELSE ln({x}) / ln({base}) END"
    )


def _extreme(call: Call) -> str:
    # NULL among the arguments makes NULL; DuckDB would leave it out.
    values = call.written()
    missing = " OR ".join(f"{value} IS NULL" for value in values)
    return f"CASE WHEN {missing} THEN NULL ELSE {call.name.lower()}({', '.join(values)}) END"


def _integer(sign: str) -> Rules:
    name = {"//": "DIV", "%": "MOD"}[sign]

    def write(call: Call) -> str:
        return f"({call.sql(0)} {sign} {nonzero(call.sql(1), f'{name}: division by zero')})"

    return {name: scalar(write, 2, kind="INT64")}


def nonzero(value: str, message: str = ZERO_DIVISION) -> str:
    """Return the written number ``value``, or an error with ``message`` where it is 0."""
    return f"CASE WHEN {value} = 0 THEN {failure(message)} ELSE {value} END"


def _ieee_divide(call: Call) -> str:
    return f"(CAST({call.sql(0)} AS DOUBLE) / CAST({call.sql(1)} AS DOUBLE))"


def _safe(sign: str) -> Rules:
    name = {"+": "SAFE_ADD", "-": "SAFE_SUBTRACT", "*": "SAFE_MULTIPLY"}[sign]

    def write(call: Call) -> str:
        # Errors of the arguments themselves have to stay errors: TRY sees bare values alone.
        a, b = call.written()
        probe = f"list_transform([struct_pack(a := {a}, b := {b})], lambda p: TRY(p.a {sign} p.b))"
        return f"({probe})[1]"

    return {name: scalar(write, 2)}


NUMBERS: Rules = {
    **_rounding("round"),
    **_rounding("trunc"),
    "CEIL": scalar("ceil(CAST({0} AS DOUBLE))", kind="FLOAT64"),
    "CEILING": scalar("ceil(CAST({0} AS DOUBLE))", kind="FLOAT64"),
    "FLOOR": scalar("floor(CAST({0} AS DOUBLE))", kind="FLOAT64"),
    "ABS": scalar("abs({0})"),
    "SIGN": scalar("cast_to_type(sign({0}), {0})"),
    **_checked("SQRT", "{0} < 0", "the argument is negative", "sqrt({0})"),
    **_checked("LN", "{0} <= 0", "the argument is not above 0", "ln({0})"),
    **_checked("LOG10", "{0} <= 0", "the argument is not above 0", "log10({0})"),
    **_checked(
        "EXP", "isfinite({0}) AND NOT isfinite(exp({0}))", "the result is too large", "exp({0})"
    ),
    "LOG": scalar(_logarithm, 1, 2, "FLOAT64"),
    "POW": scalar(_power, 2, kind="FLOAT64"),
    "POWER": scalar(_power, 2, kind="FLOAT64"),
    "SIN": scalar("sin(CAST({0} AS DOUBLE))", kind="FLOAT64"),
    "COS": scalar("cos(CAST({0} AS DOUBLE))", kind="FLOAT64"),
    "ATAN2": scalar("atan2(CAST({0} AS DOUBLE), CAST({1} AS DOUBLE))", 2, kind="FLOAT64"),
    "IS_NAN": scalar("isnan(CAST({0} AS DOUBLE))", kind="BOOL"),
    "IS_INF": scalar("isinf(CAST({0} AS DOUBLE))", kind="BOOL"),
    **_integer("//"),
    **_integer("%"),
    "SAFE_DIVIDE": scalar("({0} / nullif({1}, 0))", 2, kind="FLOAT64"),
    "IEEE_DIVIDE": scalar(_ieee_divide, 2, kind="FLOAT64"),
    **_safe("+"),
    **_safe("-"),
    **_safe("*"),
    "SAFE_NEGATE": scalar("TRY(-({0}))"),
    "GREATEST": scalar(_extreme, 1, MANY),
    "LEAST": scalar(_extreme, 1, MANY),
    "IF": scalar("CASE WHEN {0} THEN {1} ELSE {2} END", 3),
    "IFNULL": scalar("coalesce({0}, {1})", 2),
    "COALESCE": scalar(lambda call: f"coalesce({', '.join(call.written())})", 1, MANY),
    "NULLIF": scalar("nullif({0}, {1})", 2),
}
