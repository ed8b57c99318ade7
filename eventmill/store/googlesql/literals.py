"""Literals: numbers, text, truth values, NULL."""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from eventmill.store.googlesql.quoting import float64, int64, quote_text
from eventmill.store.googlesql.refusals import NotConstantError, unsupported


def value(node: exp.Expr) -> Any:  # noqa: ANN401 - one of many types
    """Return what a literal stands for: str, int, float, bool or None.

    Raises:
        NotConstantError: it is no literal.
    """
    if isinstance(node, exp.Null):
        return None
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Neg):
        below = value(node.this)
        if isinstance(below, int | float) and not isinstance(below, bool):
            return -below
    if isinstance(node, exp.RawString):
        return str(node.this)
    if isinstance(node, exp.HexString) and node.args.get("is_integer"):
        return int(str(node.this), 16)
    if isinstance(node, exp.Literal):
        text = str(node.this)
        if node.is_string:
            return text
        return int(text) if text.isdigit() else float(text)
    raise NotConstantError


def value_or_none(node: exp.Expr) -> Any:  # noqa: ANN401 - one of many types
    """Return what a literal stands for; None when it is NULL or no literal."""
    try:
        return value(node)
    except NotConstantError:
        return None


def is_text(node: exp.Expr) -> bool:
    """Return whether ``node`` is a string literal."""
    return isinstance(value_or_none(node), str)


def write(node: exp.Expr) -> str:
    """Return a literal as a DuckDB expression of its GoogleSQL type."""
    meant = value(node)
    if meant is None:
        return "NULL"
    if isinstance(meant, bool):
        return "TRUE" if meant else "FALSE"
    if isinstance(meant, int):
        return int64(meant)
    if isinstance(meant, float):
        return float64(str(node.this))
    return quote_text(meant)


def parameter_name(node: exp.Expr) -> str:
    """Return the name in ``@name``.

    Raises:
        UnsupportedSqlError: it is a system variable.
    """
    if not isinstance(node.this, exp.Var | exp.Identifier):
        raise unsupported("a system variable @@name", node)
    return str(node.this.name)
