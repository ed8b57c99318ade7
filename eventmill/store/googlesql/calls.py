"""Calls: the way from a call in the query to its rule in the allow list."""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from eventmill.store.googlesql import literals
from eventmill.store.googlesql.aggregates import one_quantile
from eventmill.store.googlesql.call import Call, Rule
from eventmill.store.googlesql.expressions import Expressions
from eventmill.store.googlesql.functions import FUNCTIONS, INSTEAD
from eventmill.store.googlesql.grammar import check_parts
from eventmill.store.googlesql.quoting import quote_name
from eventmill.store.googlesql.refusals import NotConstantError, unsupported, wrong
from eventmill.store.googlesql.structs import is_struct_call


class Calls(Expressions):
    """Writes calls of functions and their OVER clauses."""

    def write_call(self, node: exp.Expr, over: str = "") -> str:
        """Return a call of a function; ``over`` is its written OVER clause."""
        name = str(node.this).upper()
        if is_struct_call(node) and not over:
            return self.write_struct(node)
        if name == "ARRAY" and len(node.expressions) == 1 and not over:
            query = node.expressions[0]
            if isinstance(query, exp.Query):
                return f"ARRAY({self.write_subquery(query, as_struct=True)})"
        rule = FUNCTIONS.get(name)
        if rule is None:
            raise unsupported(f"the function {name}", node, instead=INSTEAD.get(name, ""))
        if self.scope is None and (rule.aggregate or rule.window):
            raise NotConstantError
        call = self._read_call(name, node, over)
        _check_call(call, rule)
        return rule.write(call)

    def _read_call(self, name: str, node: exp.Expr, over: str) -> Call:
        """Take the modifiers off the last argument, around which the parser wraps them."""
        args = list(node.expressions)
        parts: dict[str, Any] = {}
        while args and isinstance(args[-1], _WRAPPERS):
            wrapper = args.pop()
            if isinstance(wrapper, exp.Limit):
                check_parts(wrapper, "this", "expression")
                parts["limit"] = self.write(wrapper.expression)
            elif isinstance(wrapper, exp.Order):
                parts["order"] = self.write_order(wrapper)
            elif isinstance(wrapper, exp.HavingMax):
                extreme = "MAX" if wrapper.args.get("max") else "MIN"
                parts["having"] = (extreme, self.write(wrapper.expression))
            else:
                ignore = isinstance(wrapper, exp.IgnoreNulls)
                parts["nulls"] = "IGNORE" if ignore else "RESPECT"
            args.append(wrapper.this)
        if args and isinstance(args[0], exp.Distinct):
            check_parts(args[0], "expressions")
            parts["distinct"] = True
            args[:1] = args[0].expressions
        return Call(name, node, tuple(args), self, over=over, **parts)

    def write_quantile(self, node: exp.Expr, index: exp.Expr, base: int) -> str | None:
        """Return one element of a call of APPROX_QUANTILES; None where it is not that."""
        if not isinstance(node, exp.Anonymous) or str(node.this).upper() != "APPROX_QUANTILES":
            return None
        place = literals.value_or_none(index)
        if not isinstance(place, int) or isinstance(place, bool) or self.scope is None:
            return None
        call = self._read_call("APPROX_QUANTILES", node, "")
        if len(call.args) != 2 or call.nulls or call.order or call.limit or call.having:
            return None
        return one_quantile(call, place - base)

    def write_window(self, node: exp.Expr) -> str:
        """Return a call with its OVER clause."""
        if not isinstance(node.this, exp.Anonymous):
            raise unsupported("OVER behind this expression", node)
        if self.scope is None:
            raise NotConstantError
        return self.write_call(node.this, f" OVER {self.write_frame(node)}")

    def write_frame(self, node: exp.Expr) -> str:
        """Return what stands in the parentheses of an OVER clause, with them."""
        name = node.args.get("alias")
        parts = [quote_name(str(name.name))] if name is not None else []
        if node.args.get("partition_by"):
            written = ", ".join(self.write(e) for e in node.args["partition_by"])
            parts.append(f"PARTITION BY {written}")
        if node.args.get("order"):
            parts.append(self.write_order(node.args["order"]).strip())
        if node.args.get("spec"):
            parts.append(self._write_spec(node.args["spec"]))
        return f"({' '.join(parts)})"

    def _write_spec(self, spec: exp.Expr) -> str:
        check_parts(spec, "kind", "start", "start_side", "end", "end_side")
        start = self._write_edge(spec.args.get("start"), spec.args.get("start_side"))
        end = self._write_edge(spec.args.get("end") or "CURRENT ROW", spec.args.get("end_side"))
        return f"{spec.args['kind']} BETWEEN {start} AND {end}"

    def _write_edge(self, edge: exp.Expr | str | None, side: str | None) -> str:
        written = edge if isinstance(edge, str) else self.write(edge) if edge else "UNBOUNDED"
        return f"{written} {side}" if side else written

    def write_order(self, node: exp.Expr | None) -> str:
        """Return `` ORDER BY ...`` with the place of NULL spelled out; empty for None."""
        if node is None:
            return ""
        return " ORDER BY " + ", ".join(self.write_ordered(e) for e in node.expressions)

    def write_ordered(self, node: exp.Expr) -> str:
        """Return one item of an ORDER BY: NULL is the least of all values."""
        check_parts(node, "this", "desc", "nulls_first")
        way = "DESC" if node.args.get("desc") else "ASC"
        nulls = "FIRST" if node.args.get("nulls_first") else "LAST"
        return f"{self.write_sort_key(node.this)} {way} NULLS {nulls}"

    def write_sort_key(self, node: exp.Expr) -> str:
        """Return what an ORDER BY sorts by; an integer literal there is no ordinal."""
        return self.write(node)


_WRAPPERS = (exp.Limit, exp.Order, exp.HavingMax, exp.IgnoreNulls, exp.RespectNulls)


def _check_call(call: Call, rule: Rule) -> None:
    """Refuse a call with modifiers or a number of arguments that ``rule`` does not take."""
    name, node = call.name, call.node
    if rule.window and not call.over:
        raise wrong(f"{name} needs an OVER clause", node)
    for modifier in _modifiers(call):
        if modifier == "OVER" and not (rule.aggregate or rule.window):
            raise wrong(f"{name} is no window function and takes no OVER", node)
        if modifier not in rule.modifiers:
            raise unsupported(f"{name} with {modifier}", node)
    if not rule.least <= len(call.args) <= rule.most:
        wanted = str(rule.least) if rule.least == rule.most else f"{rule.least} to {rule.most}"
        raise wrong(f"{name} takes {wanted} arguments, not {len(call.args)}", node)


def _modifiers(call: Call) -> list[str]:
    present = {
        "DISTINCT": call.distinct,
        "NULLS": call.nulls,
        "ORDER BY": call.order,
        "LIMIT": call.limit,
        "HAVING": call.having,
        "OVER": call.over,
    }
    return [name for name, value in present.items() if value]
