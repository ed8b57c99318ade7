"""Names of column types as users write them."""

from __future__ import annotations

from eventmill.base.errors import UsageError
from eventmill.schema.table import ColumnType

# GoogleSQL's names beside those of BigQuery's API (cloud.google.com/bigquery/docs/reference/
# rest/v2/tables#TableFieldSchema, looked up 2026-11-23).
_ALIASES = {
    "INT64": ColumnType.INTEGER,
    "FLOAT64": ColumnType.FLOAT,
    "BOOL": ColumnType.BOOLEAN,
    "STRUCT": ColumnType.RECORD,
    "DECIMAL": ColumnType.NUMERIC,
    "BIGDECIMAL": ColumnType.BIGNUMERIC,
}


def column_type(text: str) -> ColumnType:
    """Return the type that ``text`` names, in any case; aliases such as INT64 are accepted.

    Raises:
        UsageError: it names none; the message lists those there are.
    """
    name = text.strip().upper()
    if name in _ALIASES:
        return _ALIASES[name]
    if name in ColumnType.__members__:
        return ColumnType[name]
    raise UsageError(
        f"{text!r} is not a column type: use one of {', '.join(ColumnType)}"
        f" (or {', '.join(_ALIASES)})"
    )
