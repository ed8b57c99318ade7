"""CAST and SAFE_CAST, and the names of types."""

from __future__ import annotations

from sqlglot import exp

from eventmill.store.googlesql.quoting import failure, quote_name
from eventmill.store.googlesql.refusals import unsupported

_DType = exp.DType

_GOOGLESQL = {
    _DType.BIGINT: "INT64",
    _DType.INT: "INT64",
    _DType.SMALLINT: "INT64",
    _DType.TINYINT: "INT64",
    _DType.DOUBLE: "FLOAT64",
    _DType.FLOAT: "FLOAT64",
    _DType.BOOLEAN: "BOOL",
    _DType.TEXT: "STRING",
    _DType.VARCHAR: "STRING",
    _DType.BINARY: "BYTES",
    _DType.VARBINARY: "BYTES",
    _DType.DATE: "DATE",
    _DType.TIME: "TIME",
    _DType.TIMESTAMP: "DATETIME",
    _DType.DATETIME: "DATETIME",
    _DType.TIMESTAMPTZ: "TIMESTAMP",
    _DType.ARRAY: "ARRAY",
    _DType.STRUCT: "STRUCT",
}

DUCKDB = {
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "BOOL": "BOOLEAN",
    "STRING": "VARCHAR",
    "BYTES": "BLOB",
    "DATE": "DATE",
    "TIME": "TIME",
    "DATETIME": "TIMESTAMP",
    "TIMESTAMP": "TIMESTAMPTZ",
}
"""DuckDB's name of each GoogleSQL type without parts."""


def type_name(type_: exp.Expr) -> str:
    """Return GoogleSQL's name of a parsed type, ``ARRAY`` and ``STRUCT`` without their parts.

    Raises:
        UnsupportedSqlError: the embedded store does not have the type.
    """
    if isinstance(type_, exp.DataType):
        name = _GOOGLESQL.get(type_.this)
        sized = type_.expressions and name not in ("ARRAY", "STRUCT")
        if name is not None and not sized:
            return name
    raise unsupported(f"the type {type_.sql('bigquery')}", type_)


def duckdb_type(type_: exp.Expr) -> str:
    """Return DuckDB's words for a parsed type, parts included."""
    name = type_name(type_)
    if name == "ARRAY":
        return f"{duckdb_type(type_.expressions[0])}[]"
    if name == "STRUCT":
        fields = ", ".join(
            f"{quote_name(field_name(field, place))} {duckdb_type(field_type(field))}"
            for place, field in enumerate(type_.expressions, 1)
        )
        return f"STRUCT({fields})"
    return DUCKDB[name]


def field_name(field: exp.Expr, place: int) -> str:
    """Return the name of a field of a parsed STRUCT type; ``place`` counts from 1."""
    return str(field.name) if isinstance(field, exp.ColumnDef) else f"_field_{place}"


def field_type(field: exp.Expr) -> exp.Expr:
    """Return the type of a field of a parsed STRUCT type."""
    kind: exp.Expr = field.args["kind"] if isinstance(field, exp.ColumnDef) else field
    return kind


def cast(value: str, to: str, known: str | None, *, safe: bool) -> str:
    """Return a written value cast as GoogleSQL does.

    DuckDB's own casts round halves to even, read '1.5' as an integer and '1' as a truth value,
    and write 1.0 for the number 1.

    Args:
        value: the written value.
        to: GoogleSQL's name of the wanted type.
        known: GoogleSQL's name of the value's type; None when the text does not tell it.
        safe: give NULL where the cast fails.
    """
    if known == to:
        return value
    if to == "STRING":
        return _to_string(value, known, safe)
    if to == "INT64":
        return _to_integer(value, known, safe)
    if to == "BOOL":
        return _to_bool(value, safe)
    if to == "BYTES":
        encoded = f"encode(CAST({value} AS VARCHAR))"
        return f"CASE typeof({value}) WHEN 'VARCHAR' THEN {encoded} ELSE CAST({value} AS BLOB) END"
    return f"{'TRY_CAST' if safe else 'CAST'}({value} AS {DUCKDB[to]})"


def _to_string(value: str, known: str | None, safe: bool) -> str:
    text = f"CAST({value} AS VARCHAR)"
    if known in ("INT64", "BOOL", "DATE"):
        return text
    # Through text, as DuckDB checks every branch against the one type that the value has; by
    # TRY_CAST, as it computes the branches of a constant that are never taken.
    number = f"TRY_CAST({text} AS DOUBLE)"
    short, long = f"format('{{:.15g}}', {number})", f"format('{{:.17g}}', {number})"
    double = f"CASE WHEN CAST({short} AS DOUBLE) = {number} THEN {short} ELSE {long} END"
    decoded = f"decode(TRY_CAST({text} AS BLOB))"
    if safe:
        decoded = f"TRY({decoded})"
    # Fractions of a second have no, three or six digits.
    clock = (
        rf"regexp_replace(regexp_replace({text}, '\.(\d|\d{{4}})(\+|$)', '.\100\2'),"
        rf" '\.(\d{{2}}|\d{{5}})(\+|$)', '.\10\2')"
    )
    return (
        f"CASE typeof({value}) WHEN 'VARCHAR' THEN {text} WHEN 'DOUBLE' THEN {double}"
        f" WHEN 'BLOB' THEN {decoded} WHEN 'TIMESTAMP WITH TIME ZONE' THEN {clock}"
        f" WHEN 'TIMESTAMP' THEN {clock} WHEN 'TIME' THEN {clock} ELSE {text} END"
    )


def _to_integer(value: str, known: str | None, safe: bool) -> str:
    word = "TRY_CAST" if safe else "CAST"
    rounded = f"{word}(round(CAST({value} AS DOUBLE)) AS BIGINT)"
    if known == "FLOAT64":
        return rounded
    tried = f"{word}(round(TRY_CAST({value} AS DOUBLE)) AS BIGINT)"
    text = f"CAST({value} AS VARCHAR)"
    otherwise = "NULL" if safe else failure("CAST: the text is not an INT64")
    digits = r"'\s*[+-]?(\d+|0[xX][0-9a-fA-F]+)\s*'"
    parsed = (
        f"CASE WHEN {value} IS NULL THEN NULL WHEN regexp_full_match({text}, {digits})"
        f" THEN {word}({value} AS BIGINT) ELSE {otherwise} END"
    )
    return (
        f"CASE typeof({value}) WHEN 'DOUBLE' THEN {tried} WHEN 'VARCHAR' THEN {parsed}"
        f" ELSE {word}({value} AS BIGINT) END"
    )


def _to_bool(value: str, safe: bool) -> str:
    text = f"lower(CAST({value} AS VARCHAR))"
    otherwise = "NULL" if safe else failure("CAST: the text is neither true nor false")
    parsed = (
        f"CASE WHEN {value} IS NULL THEN NULL WHEN {text} = 'true' THEN TRUE"
        f" WHEN {text} = 'false' THEN FALSE ELSE {otherwise} END"
    )
    plain = f"{'TRY_CAST' if safe else 'CAST'}({value} AS BOOLEAN)"
    return f"CASE typeof({value}) WHEN 'VARCHAR' THEN {parsed} ELSE {plain} END"
