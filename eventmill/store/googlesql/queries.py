"""Queries: WITH, SELECT, FROM, joins and set operations."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from eventmill.schema.table import TableId
from eventmill.store.googlesql import literals
from eventmill.store.googlesql.aliases import Aliases
from eventmill.store.googlesql.expressions import (
    INGESTED_AT,
    INSERT_ID,
    path,
)
from eventmill.store.googlesql.grammar import check_parts
from eventmill.store.googlesql.quoting import quote_name
from eventmill.store.googlesql.refusals import NotConstantError, unsupported, wrong
from eventmill.store.googlesql.scope import Scope, Source, SourceKind
from eventmill.store.googlesql.sources import Sources, alias_of
from eventmill.store.googlesql.values import Parameters

_SET_OPERATIONS: dict[type[exp.Expr], str] = {
    exp.Union: "UNION",
    exp.Intersect: "INTERSECT",
    exp.Except: "EXCEPT",
}


class Queries(Sources):
    """Writes whole queries, and notes which tables they read within which bounds."""

    def __init__(
        self,
        parameters: Parameters,
        now: str,
        default_project: str,
        hidden: frozenset[TableId] = frozenset(),
    ) -> None:
        """Begin a translation.

        Args:
            parameters: values of the query's parameters.
            now: the statement's time as a DuckDB expression.
            default_project: project of table names with two parts.
            hidden: tables whose views show the pseudo columns, which ``*`` must leave out.
        """
        super().__init__(parameters, now, default_project)
        self.hidden = hidden
        self._aliases: Aliases | None = None

    def write_statement(self, node: exp.Expr) -> str:
        """Return the whole statement; two columns of one name in its answer are an error."""
        names = self._output_names(node)
        seen: set[str] = set()
        for name in names:
            if name.lower() in seen:
                raise wrong(f"the answer has two columns named {name!r}; rename one with AS", node)
            seen.add(name.lower())
        return self.write_query(node, as_struct=False)

    def write_subquery(self, node: exp.Expr, *, as_struct: bool) -> str:
        """Return a query inside an expression, without parentheses around it."""
        if self.scope is None:
            raise NotConstantError
        return self.write_query(node, as_struct=as_struct)

    def write_query(self, node: exp.Expr, *, as_struct: bool) -> str:
        """Return a query with its WITH; ``as_struct`` makes SELECT AS STRUCT one column."""
        self.scope = scope = Scope(self.scope)
        aliases, self._aliases = self._aliases, None
        try:
            with_ = self._with(scope, node.args.get("with_"))
            if isinstance(node, exp.Select):
                return with_ + self._select(scope, node, as_struct=as_struct)
            if isinstance(node, exp.Subquery):
                check_parts(node, "this", "with_", "order", "limit", "offset")
                inner = self.write_query(node.this, as_struct=as_struct)
                tail = self._tail(node)
                return f"{with_}({inner}){tail}" if tail else with_ + inner
            return with_ + self._set_operation(node, as_struct=as_struct)
        finally:
            self.scope, self._aliases = scope.parent, aliases

    def _with(self, scope: Scope, node: exp.Expr | None) -> str:
        if node is None:
            return ""
        check_parts(node, "expressions")
        written = []
        for query in node.expressions:
            check_parts(query, "this", "alias")
            name = alias_of(query)
            if name.lower() in scope.queries:
                raise wrong(f"WITH names two queries {name!r}", query)
            body = self.write_query(query.this, as_struct=False)
            scope.queries[name.lower()] = name
            written.append(f"{quote_name(name)} AS ({body})")
        return f"WITH {', '.join(written)} "

    def _set_operation(self, node: exp.Expr, *, as_struct: bool) -> str:
        word = _SET_OPERATIONS.get(type(node))
        if word is None:
            raise unsupported(f"{type(node).__name__} as a query", node)
        check_parts(node, "this", "expression", "distinct", "with_", "order", "limit", "offset")
        every = "" if node.args.get("distinct") else " ALL"
        if every and word != "UNION":
            raise unsupported(f"{word} ALL", node, instead=f"use {word} DISTINCT")
        left = self.write_query(node.this, as_struct=as_struct)
        right = self.write_query(node.expression, as_struct=as_struct)
        return f"({left}) {word}{every} ({right}){self._tail(node)}"

    def _tail(self, node: exp.Expr) -> str:
        """Return ORDER BY, LIMIT and OFFSET of a query."""
        sql = self.write_order(node.args.get("order"))
        for part in ("limit", "offset"):
            if node.args.get(part):
                check_parts(node.args[part], "this", "expression")
                sql += f" {part.upper()} {self._count(node.args[part].expression)}"
        return sql

    def _count(self, node: exp.Expr) -> str:
        value = self.constant(node) if isinstance(node, exp.Literal | exp.Parameter) else None
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise wrong("LIMIT and OFFSET want an integer of at least 0, or a parameter", node)
        return self.write(node) if isinstance(node, exp.Parameter) else str(value)

    def write_sort_key(self, node: exp.Expr) -> str:
        """Return what an ORDER BY sorts by: an ordinal, an alias or an expression."""
        if isinstance(node, exp.Literal) and self._at_query_level(node):
            return str(literals.value(node))
        if self._aliases is not None and self._at_query_level(node):
            if isinstance(node, exp.Column) and self._aliases.expression(node) is not None:
                return quote_name(str(node.name))
            return self.write(self._aliases.replace(node))
        return self.write(node)

    def _at_query_level(self, node: exp.Expr) -> bool:
        """Return whether a sort key belongs to a query, not to a window or an aggregate."""
        order = node.parent.parent if node.parent else None
        return order is not None and isinstance(order.parent, exp.Query)

    # SELECT

    def _select(self, scope: Scope, node: exp.Select, *, as_struct: bool) -> str:
        check_parts(
            node, "with_", "kind", "expressions", "distinct", "from_", "joins", "where", "group",
            "having", "qualify", "windows", "order", "limit", "offset",
        )  # fmt: skip
        if node.args.get("kind") not in (None, "STRUCT"):
            raise unsupported(f"SELECT AS {node.args['kind']}", node)
        from_ = self.write_from(scope, node)
        self.note_bounds(scope, node)
        saved, self._aliases = self._aliases, Aliases(node.expressions)
        try:
            items = self._items(scope, node, pack=as_struct and node.args.get("kind") == "STRUCT")
            where = node.args.get("where")
            parts = [f"SELECT {self._distinct(node)}{items}{from_}"]
            if where is not None:
                parts.append(f" WHERE {self.write(where.this)}")
            parts.append(self._group(node))
            for clause in ("having", "qualify"):
                if node.args.get(clause):
                    condition = self._aliases.replace(node.args[clause].this)
                    parts.append(f" {clause.upper()} {self.write(condition)}")
            parts.append(self._windows(node))
            parts.append(self._tail(node))
            return "".join(parts)
        finally:
            self._aliases = saved

    def _distinct(self, node: exp.Select) -> str:
        distinct = node.args.get("distinct")
        if distinct is None:
            return ""
        check_parts(distinct)
        return "DISTINCT "

    def _windows(self, node: exp.Select) -> str:
        if not node.args.get("windows"):
            return ""
        written = (
            f"{quote_name(str(window.this.name))} AS {self.write_frame(window)}"
            for window in node.args["windows"]
        )
        return f" WINDOW {', '.join(written)}"

    def _group(self, node: exp.Select) -> str:
        group = node.args.get("group")
        if group is None:
            return ""
        check_parts(group, "expressions", "all")
        if group.args.get("all"):
            return " GROUP BY ALL"
        return " GROUP BY " + ", ".join(self._group_item(item) for item in group.expressions)

    def _group_item(self, node: exp.Expr) -> str:
        words = {exp.Rollup: "ROLLUP", exp.Cube: "CUBE", exp.GroupingSets: "GROUPING SETS"}
        word = words.get(type(node))
        if word is not None:
            return f"{word} ({', '.join(self._group_item(item) for item in node.expressions)})"
        if isinstance(node, exp.Tuple):
            return f"({', '.join(self._group_item(item) for item in node.expressions)})"
        if isinstance(node, exp.Paren):
            return f"({self._group_item(node.this)})"
        if isinstance(node, exp.Literal) and not node.is_string:
            return str(literals.value(node))
        meant = None
        if isinstance(node, exp.Column) and self._aliases is not None:
            meant = self._aliases.expression(node)
        return self.write(meant if meant is not None else node)

    # The SELECT list

    def _items(self, scope: Scope, node: exp.Select, *, pack: bool) -> str:
        written: list[tuple[str, str]] = []
        count = 0
        for item in node.expressions:
            if _is_star(item):
                if pack:
                    raise unsupported("SELECT AS STRUCT *", item, instead="name the columns")
                written.extend(("", sql) for sql in self._star(scope, item))
                continue
            name = _name_of(item)
            if not name:
                name, count = f"f{count}_", count + 1
            value = item.this if isinstance(item, exp.Alias) else item
            written.append((name, self.write(value)))
        if pack:
            fields = (f"{quote_name(name)} := {sql}" for name, sql in written)
            return f"struct_pack({', '.join(fields)}) AS {quote_name('f0_')}"
        return ", ".join(f"{sql} AS {quote_name(n)}" if n else sql for n, sql in written)

    def _output_names(self, node: exp.Expr) -> Iterator[str]:
        """Yield the names of the answer's columns as far as the text tells them."""
        while not isinstance(node, exp.Select):
            if not isinstance(node.this, exp.Query):
                return
            node = node.this
        count = 0
        for item in node.expressions:
            if not _is_star(item):
                name = _name_of(item)
                yield name or f"f{count}_"
                count += not name

    def _star(self, scope: Scope, node: exp.Expr) -> Iterator[str]:
        star = node if isinstance(node, exp.Star) else node.this
        if isinstance(node, exp.Dot) or len(getattr(node, "parts", [])) > 2:
            raise unsupported("a * behind a path", node, instead="name the fields")
        check_parts(star, "except_", "replace")
        if isinstance(node, exp.Column):
            alias = str(node.table)
            source = scope.source(alias)
            if source is not None and source.kind is SourceKind.UNNEST:
                self._plain_star(star)
                yield from self._element_columns(source, node, all_fields=True)
                return
            yield f"{quote_name(source.alias if source else alias)}.*" + self._star_parts(
                star, [source] if source else []
            )
            return
        sources = list(scope.sources.values())
        if not sources:
            raise wrong("SELECT * needs a FROM clause", node)
        if all(source.kind is not SourceKind.UNNEST for source in sources):
            yield "*" + self._star_parts(star, sources)
            return
        self._plain_star(star)
        for source in sources:
            if source.kind is SourceKind.UNNEST:
                yield from self._element_columns(source, node, all_fields=False)
            else:
                yield f"{quote_name(source.alias)}.*" + self._star_parts(star, [source])

    def _plain_star(self, star: exp.Expr) -> None:
        if star.args.get("except_") or star.args.get("replace"):
            raise unsupported("* EXCEPT or * REPLACE over UNNEST", star, instead="name the columns")

    def _element_columns(
        self, source: Source, node: exp.Expr, *, all_fields: bool
    ) -> Iterator[str]:
        alias = quote_name(source.alias)
        element = f"{alias}.{alias}"
        if source.fields is None and not all_fields:
            raise unsupported(
                "SELECT * over UNNEST of a column",
                node,
                instead=f"write table.*, {source.alias}.* or name the columns",
            )
        if source.fields is None:
            yield f"unnest({element})"
        elif source.fields:
            yield from (f"{path(element, [f])} AS {quote_name(f)}" for f in source.fields)
        else:
            yield element if source.named else f"{element} AS {quote_name('f0_')}"
        if source.offset and not all_fields:
            yield f"{alias}.{quote_name(source.offset)}"

    def _star_parts(self, star: exp.Expr, sources: list[Source]) -> str:
        excluded = [str(column.name) for column in star.args.get("except_") or []]
        if any(source.table in self.hidden for source in sources if source.table):
            excluded += [INSERT_ID, INGESTED_AT]
        sql = f" EXCLUDE ({', '.join(map(quote_name, excluded))})" if excluded else ""
        if star.args.get("replace"):
            replaced = (
                f"{self.write(item.this)} AS {quote_name(str(item.alias))}"
                for item in star.args["replace"]
            )
            sql += f" REPLACE ({', '.join(replaced)})"
        return sql


def _is_star(node: exp.Expr) -> bool:
    return (
        isinstance(node, exp.Star)
        or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star))
        or (isinstance(node, exp.Dot) and isinstance(node.expression, exp.Star))
    )


def _name_of(item: exp.Expr) -> str:
    """Return the name of a column of a SELECT list; empty where it has none."""
    if isinstance(item, exp.Alias):
        return str(item.alias)
    if isinstance(item, exp.Column):
        bare = not item.table and not item.this.args.get("quoted")
        word = str(item.name).upper()
        return "" if bare and word in ("CURRENT_DATE", "CURRENT_TIMESTAMP") else str(item.name)
    if isinstance(item, exp.Dot) and isinstance(item.expression, exp.Identifier):
        return str(item.expression.name)
    return ""
