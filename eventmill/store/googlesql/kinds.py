"""Types that the text of a query tells without a look at any table."""

from __future__ import annotations

from sqlglot import exp

from eventmill.base.errors import UnsupportedSqlError
from eventmill.store.googlesql import literals
from eventmill.store.googlesql.casts import type_name
from eventmill.store.googlesql.functions import FUNCTIONS
from eventmill.store.googlesql.values import Parameters

_BOOL = (exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.In)


class Kinds:
    """Knows the GoogleSQL type of some expressions."""

    parameters: Parameters

    def kind(self, node: exp.Expr) -> str | None:
        """Return the GoogleSQL type of ``node``; None when only the tables could tell."""
        if isinstance(node, exp.Paren | exp.Window | exp.Neg):
            return self.kind(node.this)
        if isinstance(node, exp.Cast):
            return _kind_of_cast(node)
        if isinstance(node, exp.Anonymous | exp.Column):
            return _kind_of_call(node)
        if isinstance(node, exp.Parameter):
            return self.parameters.kind(literals.parameter_name(node))
        if isinstance(node, exp.Div):
            return "FLOAT64"
        if isinstance(node, exp.Add | exp.Sub):
            return self._kind_of_sum(node)
        return "BOOL" if isinstance(node, _BOOL) else _kind_of_literal(node)

    def _kind_of_sum(self, node: exp.Expr) -> str | None:
        kinds = {self.kind(node.this), self.kind(node.expression)}
        if kinds == {"INT64", "DATE"}:
            return "DATE"
        return kinds.pop() if kinds in ({"INT64"}, {"FLOAT64"}) else None


def _kind_of_cast(node: exp.Expr) -> str | None:
    try:
        return type_name(node.args["to"])
    except UnsupportedSqlError:
        return None


def _kind_of_call(node: exp.Expr) -> str | None:
    """Return what a function gives, or one of the few that stand without parentheses."""
    name = str(node.name).upper()
    if isinstance(node, exp.Column):
        bare = not node.table and not node.this.args.get("quoted")
        if not bare or not name.startswith("CURRENT_"):
            return None
    rule = FUNCTIONS.get(name)
    return rule.kind if rule else None


def _kind_of_literal(node: exp.Expr) -> str | None:
    meant = literals.value_or_none(node)
    for type_, kind in ((bool, "BOOL"), (int, "INT64"), (float, "FLOAT64"), (str, "STRING")):
        if isinstance(meant, type_):
            return kind
    return None
