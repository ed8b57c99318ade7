"""Names that a SELECT list gives, as GROUP BY, HAVING, QUALIFY and ORDER BY see them.

GoogleSQL looks for such a name first, and for a column of FROM after that; DuckDB the other way
round. So the expression behind the name is put in its place.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from eventmill.store.googlesql.functions import FUNCTIONS


class Aliases:
    """The names of one SELECT list."""

    def __init__(self, items: Sequence[exp.Expr]) -> None:
        """Take the items of the list."""
        self._expressions: dict[str, exp.Expr] = {}
        for item in items:
            if isinstance(item, exp.Alias):
                self._expressions.setdefault(str(item.alias).lower(), item.this)

    def expression(self, column: exp.Column) -> exp.Expr | None:
        """Return what the name stands for; None when the list does not give it."""
        if column.table or isinstance(column.this, exp.Star):
            return None
        return self._expressions.get(str(column.name).lower())

    def replace(self, node: exp.Expr) -> exp.Expr:
        """Return ``node`` with the names of the list replaced, but inside of aggregates."""
        if not self._expressions:
            return node
        if isinstance(node, exp.Column):
            meant = self.expression(node)
            return node if meant is None else exp.Paren(this=meant.copy())
        copy = node.copy()
        self._replace_below(copy)
        return copy

    def _replace_below(self, node: exp.Expr) -> None:
        for child in list(node.iter_expressions()):
            if isinstance(child, exp.Column):
                meant = self.expression(child)
                if meant is not None:
                    child.replace(exp.Paren(this=meant.copy()))
            elif not isinstance(child, exp.Query) and not _is_aggregate(child):
                self._replace_below(child)


def _is_aggregate(node: exp.Expr) -> bool:
    if not isinstance(node, exp.Anonymous):
        return False
    rule = FUNCTIONS.get(str(node.this).upper())
    return rule is not None and rule.aggregate
