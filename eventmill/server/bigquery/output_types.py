"""Which columns of an answer are JSON or GEOGRAPHY, which the engine both hands over as text.

Followed through SELECT lists of plain columns and ``*``, WITH and subqueries; what is computed of
such a column is text here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from sqlglot import exp

from eventmill.schema.table import Column, ColumnType, TableId
from eventmill.store.googlesql.grammar import parse
from eventmill.store.googlesql.sources import alias_of

Known = Mapping[str, Column]
"""Columns by name in lower case."""
_TEXTS = (ColumnType.JSON, ColumnType.GEOGRAPHY)


def known_columns(
    sql: str, tables: Sequence[TableId], columns_of: Callable[[TableId], Sequence[Column]]
) -> Known:
    """Return what is known of the answer's columns beyond their Arrow types.

    Args:
        sql: a ready query, with whole names of tables.
        tables: those that it reads.
        columns_of: returns the columns of one of them.
    """
    by_table = {str(table): columns_of(table) for table in tables}
    if not any(_has_text(columns) for columns in by_table.values()):
        return {}
    return _Follower(by_table).query(parse(sql), {})


def _has_text(columns: Sequence[Column]) -> bool:
    return any(below.type in _TEXTS for column in columns for _, below in column.walk())


class _Follower:
    """Follows columns through one query."""

    def __init__(self, by_table: Mapping[str, Sequence[Column]]) -> None:
        self._by_table = by_table

    def query(self, node: exp.Expr, queries: Mapping[str, Known]) -> Known:
        """Return the columns of a query; ``queries`` are the names of WITH around it."""
        with_ = node.args.get("with_")
        if with_ is not None:
            queries = dict(queries)
            for each in with_.expressions:
                queries[alias_of(each).lower()] = self.query(each.this, queries)
        if isinstance(node, exp.Select):
            return self._select(node, queries)
        if isinstance(node, (exp.Subquery, exp.SetOperation)):
            return self.query(node.this, queries)
        return {}

    def _select(self, node: exp.Select, queries: Mapping[str, Known]) -> Known:
        from_ = node.args.get("from_")
        if from_ is None:
            return {}
        items = [from_.this, *(join.this for join in node.args.get("joins") or [])]
        sources = [self._source(item, queries) for item in items]
        found: dict[str, Column] = {}
        for item in node.expressions:
            found.update(_outputs(item, dict(sources)))
        return found

    def _source(self, item: exp.Expr, queries: Mapping[str, Known]) -> tuple[str, Known]:
        alias = alias_of(item).lower()
        if isinstance(item, exp.Subquery):
            return alias, self.query(item, queries)
        if not isinstance(item, exp.Table):
            return alias, {}
        parts = [str(part.name) for part in item.parts]
        alias = alias or parts[-1].lower()
        if len(parts) == 1:
            return alias, queries.get(parts[0].lower(), {})
        columns = self._by_table.get(".".join(parts), ())
        return alias, {column.name.lower(): column for column in columns}


def _outputs(item: exp.Expr, sources: Mapping[str, Known]) -> Iterator[tuple[str, Column]]:
    """Yield the columns that one item of a SELECT list adds, by name in lower case."""
    star = item if isinstance(item, exp.Star) else None
    only: str | None = None
    if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
        star, only = item.this, str(item.table).lower()
    if star is not None:
        gone = {str(column.name).lower() for column in star.args.get("except_") or []}
        gone |= {str(column.alias).lower() for column in star.args.get("replace") or []}
        for alias, columns in sources.items():
            if only in (None, alias):
                yield from ((name, one) for name, one in columns.items() if name not in gone)
        return
    value = item.this if isinstance(item, exp.Alias) else item
    column = _column_of(value, sources)
    if column is not None:
        name = str(item.alias) if isinstance(item, exp.Alias) else column.name
        yield name.lower(), column


def _column_of(node: exp.Expr, sources: Mapping[str, Known]) -> Column | None:
    if not isinstance(node, exp.Column):
        return None
    names = [str(part.name).lower() for part in node.parts]
    places = [sources[names[0]]] if names[0] in sources and len(names) > 1 else []
    if places:
        names = names[1:]
    else:
        places = [columns for columns in sources.values() if names[0] in columns]
    if len(places) != 1:
        return None
    found = places[0].get(names[0])
    for name in names[1:]:
        below = {column.name.lower(): column for column in found.fields} if found else {}
        found = below.get(name)
    return found
