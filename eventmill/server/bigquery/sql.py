"""A query as BigQuery's clients send it, made ready for the store: whole names, named parameters.

The store knows tables by ``project.dataset.table`` and parameters by ``@name``. Clients also write
``dataset.table`` (of the job's project), ``table`` (of its default dataset) and ``?``. The text is
changed in these places alone, and places in messages are counted back to the text that was sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sqlglot import exp
from sqlglot.tokens import TokenType

from eventmill.base.errors import QueryError
from eventmill.schema.table import TableId
from eventmill.store.googlesql.grammar import parse, tokens_of
from eventmill.store.googlesql.sources import alias_of

_PLACE = re.compile(r" ?\(line (\d+), column (\d+)\)|line (\d+), column (\d+)")
_POSITIONAL = "positional_parameter_"


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of the text."""

    start: int
    """Where in the text that was sent."""
    end: int
    text: str
    """What stands there instead."""


@dataclass(frozen=True, slots=True)
class ReadyQuery:
    """A query that the store can read."""

    sql: str
    sent: str
    tree: exp.Expr
    """Of the text that was sent."""
    edits: Sequence[Edit]
    """In order of their place."""

    def told(self, message: str) -> str:
        """Return a message of the store about ``sql``, with places as in ``sent``.

        ``(line 1, column 15)`` becomes ``at [1:15]``, as BigQuery writes it.
        """

        def place(match: re.Match[str]) -> str:
            line, column = int(match[1] or match[3]), int(match[2] or match[4])
            at = self._origin(_offset(self.sql, line, column))
            before = self.sent[:at]
            row, col = before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1
            return f" at [{row}:{col}]" if match[1] else f"[{row}:{col}]"

        return _PLACE.sub(place, message)

    def _origin(self, offset: int) -> int:
        """Return where in ``sent`` a place in ``sql`` comes from."""
        moved = 0
        for edit in self.edits:
            start = edit.start + moved
            if offset < start:
                break
            if offset < start + len(edit.text):
                return edit.start
            moved += len(edit.text) - (edit.end - edit.start)
        return offset - moved


ViewLookup: TypeAlias = Callable[[TableId], str | None]
"""Returns what a view asks; None for a name that is no view's."""
_VIEWS_DEEP_MAX = 16
"""Views that read each other (cloud.google.com/bigquery/quotas#view_limits, looked up
2026-11-24)."""


def ready_query(
    sent: str,
    project: str,
    dataset: tuple[str, str] | None,
    views: ViewLookup,
    *,
    depth: int = 0,
) -> ReadyQuery:
    """Return the query with whole names of tables and named parameters.

    Args:
        sent: GoogleSQL as the client has written it.
        project: of the job, for names of two parts.
        dataset: project and dataset of the job's default, for names of one part; None: it has
            none.
        views: knows the views; each is replaced by its query.
        depth: how many views have led here.

    Raises:
        QueryError: a syntax error, views that read each other in a circle, or more than one
            statement.
        UnsupportedSqlError: a statement that is no query.
    """
    tree = parse(sent)
    if depth > _VIEWS_DEEP_MAX:
        raise QueryError(f"views read each other more than {_VIEWS_DEEP_MAX} deep")
    edits = [
        _as_view(node, project, dataset, views, depth) or _qualified(node, sent, project, dataset)
        for node in _tables(tree)
    ]
    edits += _token_edits(sent)
    every = sorted((edit for edit in edits if edit is not None), key=lambda edit: edit.start)
    pieces, at = [], 0
    for edit in every:
        pieces += [sent[at : edit.start], edit.text]
        at = edit.end
    return ReadyQuery("".join([*pieces, sent[at:]]), sent, tree, every)


def positional_name(index: int) -> str:
    """Return the name that the parameter at ``index`` (from 0) has in a ready query."""
    return f"{_POSITIONAL}{index + 1}"


def places_told(message: str) -> str:
    """Return a message about a text as it was sent, with places as BigQuery writes them."""
    return _PLACE.sub(lambda m: f" at [{m[1]}:{m[2]}]" if m[1] else f"[{m[3]}:{m[4]}]", message)


def _tables(tree: exp.Expr) -> list[exp.Table]:
    """Return the nodes that name a table, not a query of WITH, nor a path into a row."""
    found = []
    for node in tree.find_all(exp.Table):
        if not isinstance(node.this, exp.Identifier):
            continue
        parts = [str(part.name) for part in node.parts]
        if len(parts) == 1 and _is_query_of_with(node, parts[0]):
            continue
        if len(parts) > 1 and parts[0].lower() in _items_before(node):
            continue
        found.append(node)
    return found


def _is_query_of_with(node: exp.Expr, name: str) -> bool:
    above = node.parent
    while above is not None:
        with_ = above.args.get("with_") if isinstance(above, exp.Query) else None
        for query in with_.expressions if with_ is not None else ():
            if _contains(query, node):
                break  # a query of WITH sees those before it alone
            if alias_of(query).lower() == name.lower():
                return True
        above = above.parent
    return False


def _contains(tree: exp.Expr, node: exp.Expr) -> bool:
    at: exp.Expr | None = node
    while at is not None:
        if at is tree:
            return True
        at = at.parent
    return False


def _items_before(node: exp.Expr) -> set[str]:
    """Return the names, in lower case, of the items that stand before ``node`` in its FROM."""
    select = node.find_ancestor(exp.Select)
    if select is None or select.args.get("from_") is None:
        return set()
    names: set[str] = set()
    items = [select.args["from_"].this, *(j.this for j in select.args.get("joins") or [])]
    for item in items:
        if item is node:
            break
        alias = alias_of(item)
        if not alias and isinstance(item, exp.Table):
            alias = str(item.parts[-1].name)
        if alias:
            names.add(alias.lower())
    return names


def _as_view(
    node: exp.Table,
    project: str,
    dataset: tuple[str, str] | None,
    views: ViewLookup,
    depth: int,
) -> Edit | None:
    """Return what puts a view's query in place of its name; None when it is no view."""
    names = [str(part.name) for part in node.parts]
    whole = [*((project,) if len(names) == 2 else dataset or () if len(names) == 1 else ()), *names]
    if len(whole) != 3:
        return None
    name = TableId(*whole)
    query = views(name)
    if query is None:
        return None
    inner = ready_query(query, name.project, None, views, depth=depth + 1).sql
    alias = "" if alias_of(node) else f" AS `{name.table}`"
    first, last = node.parts[0].meta, node.parts[-1].meta
    return Edit(first["start"], last["end"] + 1, f"(\n{inner}\n){alias}")


def _qualified(
    node: exp.Table, sent: str, project: str, dataset: tuple[str, str] | None
) -> Edit | None:
    parts = list(node.parts)
    start = parts[0].meta.get("start")
    names = {part.meta.get("start") for part in parts}
    if start is None or len(parts) > 2:
        return None
    if len(parts) == 2:
        prefix = [project]
    elif dataset is not None:
        prefix = list(dataset)
    else:
        return None
    if len(parts) == 2 and len(names) == 1:  # `dataset.table` in one pair of backquotes
        return Edit(start + 1, start + 1, f"{project}.")
    return Edit(start, start, "".join(f"`{name}`." for name in prefix))


def _token_edits(sent: str) -> list[Edit]:
    tokens = tokens_of(sent)
    marks = [token for token in tokens if token.token_type == TokenType.PLACEHOLDER]
    edits = [
        Edit(mark.start, mark.end + 1, f"@{positional_name(index)}")
        for index, mark in enumerate(marks)
    ]
    # At the end alone, or the text would not have been read as one statement.
    semicolons = [token for token in tokens if token.token_type == TokenType.SEMICOLON]
    return edits + [Edit(token.start, token.end + 1, "") for token in semicolons]


def _offset(text: str, line: int, column: int) -> int:
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
    return start + column - 1
