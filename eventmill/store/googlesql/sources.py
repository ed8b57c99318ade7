"""FROM: tables, subqueries, UNNEST and joins, and the bounds in time of what is read."""

from __future__ import annotations

from abc import abstractmethod

from sqlglot import exp

from eventmill.base.errors import QueryError
from eventmill.schema.table import TableId
from eventmill.store.googlesql.bounds import Read, comparisons, conjuncts, limit
from eventmill.store.googlesql.calls import Calls
from eventmill.store.googlesql.grammar import check_parts
from eventmill.store.googlesql.quoting import quote_name
from eventmill.store.googlesql.refusals import NotConstantError, unsupported, wrong
from eventmill.store.googlesql.scope import Scope, Source, SourceKind
from eventmill.store.googlesql.structs import element_fields
from eventmill.store.googlesql.tables import table_id, view_name
from eventmill.store.googlesql.values import Parameters

_TIMELESS = ("INT64", "FLOAT64", "BOOL", "BYTES")
"""Types of constants that no time is compared with."""
_JOINS = ("", "INNER", "CROSS", "OUTER")


class Sources(Calls):
    """Writes FROM clauses, and notes which tables are read within which bounds."""

    def __init__(self, parameters: Parameters, now: str, default_project: str) -> None:
        """Begin a translation; ``default_project`` is that of table names with two parts."""
        super().__init__(parameters, now)
        self.tables: dict[TableId, None] = {}
        """Every table that is read, in order of appearance."""
        self.reads: list[Read] = []
        self._default_project = default_project
        self._made_up = 0

    @abstractmethod
    def write_query(self, node: exp.Expr, *, as_struct: bool) -> str:
        """Return a query with its WITH; ``as_struct`` makes SELECT AS STRUCT one column."""

    def write_from(self, scope: Scope, node: exp.Select) -> str:
        """Return `` FROM ...`` and put its items into ``scope``; empty where there is none."""
        if node.args.get("from_") is None:
            return ""
        sql = f" FROM {self._item(scope, node.args['from_'].this, joined=False)}"
        for join in node.args.get("joins") or []:
            sql += self._join(scope, join)
        return sql

    def _join(self, scope: Scope, join: exp.Expr) -> str:
        check_parts(join, "this", "on", "using", "side", "kind")
        side, kind = str(join.args.get("side") or ""), str(join.args.get("kind") or "")
        if kind not in _JOINS or side not in ("", "LEFT", "RIGHT", "FULL"):
            raise unsupported(f"{side} {kind} JOIN".strip(), join)
        unnest = isinstance(join.this, exp.Unnest)
        item = self._item(scope, join.this, joined=True)
        if unnest and side in ("RIGHT", "FULL"):
            raise unsupported(f"{side} JOIN UNNEST", join)
        if kind == "CROSS":
            return f" CROSS JOIN {item}"
        word = f" {side} JOIN {item}" if side else f" JOIN {item}"
        if join.args.get("using"):
            columns = ", ".join(quote_name(str(c.name)) for c in join.args["using"])
            return f"{word} USING ({columns})"
        if join.args.get("on") is not None:
            return f"{word} ON {self.write(join.args['on'])}"
        if unnest:
            return f"{word} ON TRUE"
        raise wrong("a JOIN needs ON or USING", join)

    def _item(self, scope: Scope, node: exp.Expr, *, joined: bool) -> str:
        if isinstance(node, exp.Unnest):
            return self._unnest(scope, node, joined=joined)
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Query):
            check_parts(node, "this", "alias")
            # A query in FROM sees the names around its SELECT, not those beside it.
            self.scope = Scope(scope.parent, queries=scope.queries)
            try:
                body = self.write_query(node.this, as_struct=False)
            finally:
                self.scope = scope
            alias = alias_of(node) or self._make_up_alias()
            named = bool(alias_of(node))
            self._add(scope, Source(alias, SourceKind.QUERY, named=named), node)
            return f"({body}) AS {quote_name(alias)}"
        if isinstance(node, exp.Table):
            parts = [str(part.name) for part in node.parts]
            if len(parts) > 1 and parts[0].lower() in scope.sources:
                # A path from an item to the left, such as t.steps, is an array to unnest.
                return self._unnest(scope, _path_as_unnest(node, parts), joined=joined)
            return self._table(scope, node)
        raise unsupported("a join in parentheses in FROM", node, instead="write it without them")

    def _table(self, scope: Scope, node: exp.Table) -> str:
        check_parts(node, "this", "db", "catalog", "alias")
        alias = alias_of(node)
        if len(node.parts) == 1 and isinstance(node.this, exp.Identifier):
            name = scope.query(str(node.name))
            if name is not None:
                self._add(scope, Source(alias or name, SourceKind.QUERY), node)
                return f"{quote_name(name)} AS {quote_name(alias or name)}"
        table = table_id(node, self._default_project)
        self.tables[table] = None
        alias = alias or table.table
        self._add(scope, Source(alias, SourceKind.TABLE, table), node)
        return f"{quote_name(view_name(table))} AS {quote_name(alias)}"

    def _unnest(self, scope: Scope, node: exp.Unnest, *, joined: bool) -> str:
        check_parts(node, "expressions", "alias", "offset", "explode_array")
        if len(node.expressions) != 1:
            raise unsupported("UNNEST of several arrays", node)
        array = self.write(node.expressions[0])
        alias = alias_of(node)
        offset = node.args.get("offset")
        name = "" if not offset else "offset" if offset is True else str(offset.name)
        source = Source(
            alias or self._make_up_alias(),
            SourceKind.UNNEST,
            fields=element_fields(node.expressions[0]),
            offset=name,
            named=bool(alias),
        )
        columns = f"unnest({array}) AS {quote_name(source.alias)}"
        if name:
            columns += f", generate_subscripts({array}, 1) - 1 AS {quote_name(name)}"
        self._add(scope, source, node)
        lateral = "LATERAL " if joined else ""
        return f"{lateral}(SELECT {columns}) AS {quote_name(source.alias)}"

    def _make_up_alias(self) -> str:
        self._made_up += 1
        return f"_from_{self._made_up}"

    def _add(self, scope: Scope, source: Source, node: exp.Expr) -> None:
        if source.alias.lower() in scope.sources:
            raise wrong(f"FROM has two items named {source.alias!r}; rename one with AS", node)
        scope.sources[source.alias.lower()] = source

    def note_bounds(self, scope: Scope, node: exp.Select) -> None:
        """Note every read of a table of this SELECT, with the limits that its conditions set."""
        reads = {s.alias.lower(): Read(s.table) for s in scope.tables() if s.table is not None}
        self.reads.extend(reads.values())
        joins = node.args.get("joins") or []
        certain = {alias: reads[alias] for alias in _certain(scope, joins) if alias in reads}
        conditions = [join.args.get("on") for join in joins if not join.args.get("side")]
        where = node.args.get("where")
        conditions.append(where.this if where is not None else None)
        for condition in (part for whole in conditions for part in conjuncts(whole)):
            for comparison in comparisons(condition):
                found = self._subjects(scope, comparison.subject.names, certain)
                if not found or self.kind(comparison.constant) in _TIMELESS:
                    continue
                try:
                    constant = self.write_constant(comparison.constant)
                except (NotConstantError, QueryError):
                    continue  # what is wrong with it is said when the condition is written
                column = comparison.subject.names[-1].lower()
                for read in found:
                    read.limits.setdefault(column, []).append(limit(comparison, constant))

    def _subjects(
        self, scope: Scope, names: tuple[str, ...], certain: dict[str, Read]
    ) -> list[Read]:
        """Return the reads whose column ``names`` stand for."""
        if len(names) == 2:
            read = certain.get(names[0].lower())
            return [read] if read is not None else []
        if len(names) != 1 or scope.element_field(names[0]) or scope.source(names[0]):
            return []
        # The column belongs to one of them; those without such a column are not harmed.
        return list(certain.values())


def _path_as_unnest(node: exp.Table, parts: list[str]) -> exp.Unnest:
    check_parts(node, "this", "db", "catalog", "alias")
    array: exp.Expr = exp.column(parts[1], table=parts[0], quoted=True)
    for part in parts[2:]:
        array = exp.Dot(this=array, expression=exp.to_identifier(part, quoted=True))
    alias = exp.TableAlias(columns=[exp.to_identifier(alias_of(node) or parts[-1])])
    return exp.Unnest(expressions=[array], alias=alias)


def _certain(scope: Scope, joins: list[exp.Expr]) -> set[str]:
    """Return the aliases of a FROM clause that no join fills up with NULLs."""
    order = list(scope.sources)
    certain = {order[0]} if order else set()
    for alias, join in zip(order[1:], joins, strict=True):
        side = join.args.get("side")
        if side in ("RIGHT", "FULL"):
            certain.clear()
        if side not in ("LEFT", "FULL"):
            certain.add(alias)
    return certain


def alias_of(node: exp.Expr) -> str:
    """Return the alias of an item of FROM or WITH; empty for none."""
    alias = node.args.get("alias")
    if alias is None:
        return ""
    if isinstance(node, exp.Unnest) and alias.args.get("columns"):
        return str(alias.args["columns"][0].name)
    check_parts(alias, "this")
    return str(alias.name)
