"""How the subset says no: what is refused, where it stands, and what to write instead."""

from __future__ import annotations

from sqlglot import exp

from eventmill.base.errors import QueryError, UnsupportedSqlError


class NotConstantError(Exception):
    """An expression that should be constant reads a column or a subquery. Stays in this room."""


def unsupported(
    construct: str, node: exp.Expr | None = None, *, instead: str = ""
) -> UnsupportedSqlError:
    """Return the error for a construct outside the written subset.

    Args:
        construct: what was met, as its writer would call it, such as ``function FOO``.
        node: where it was met; None when the place is not known.
        instead: what to write in its place; empty when there is nothing better.
    """
    advice = f"; {instead}" if instead else ""
    return UnsupportedSqlError(
        f"{construct} is not supported by the embedded store{place(node)}{advice}"
    )


def wrong(problem: str, node: exp.Expr | None = None) -> QueryError:
    """Return the error for a query that GoogleSQL itself would refuse."""
    return QueryError(f"{problem}{place(node)}")


def place(node: exp.Expr | None) -> str:
    """Return `` (line L, column C)`` of the first part of ``node`` whose place is known."""
    if node is None:
        return ""
    for part in node.walk():
        line, column = part.meta.get("line"), part.meta.get("col")
        if line is not None and column is not None:
            start = part.meta.get("start")
            end = part.meta.get("end")
            # The parser counts a token's column at its last character.
            width = end - start if start is not None and end is not None else 0
            return f" (line {line}, column {max(1, column - width)})"
    return ""
