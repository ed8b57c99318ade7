"""GoogleSQL's grammar, borrowed from sqlglot; the meaning of what it reads is this room's own."""

from __future__ import annotations

import re
from typing import ClassVar

from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokens import Token, TokenType

from eventmill.base.errors import QueryError, UnsupportedSqlError
from eventmill.store.googlesql.refusals import unsupported

SQL_CHARACTERS_MAX = 1_000_000
"""Characters of one query. BigQuery's limit for an unresolved query is 1 MB
(cloud.google.com/bigquery/quotas, looked up 2026-11-23)."""

_BIGQUERY = BigQuery.Parser
_PARSERS_TOKEN = re.compile(
    r"<Token token_type: TokenType\.(\w+), text: (.*), line: \d+, col: \d+, start: .*>", re.DOTALL
)
"""How the parser's messages spell a word of the query, or SENTINEL for its end."""
_PARSERS_CLASS = re.compile(r"Required keyword: '\w+' missing for <class '[\w.]*?(\w+)'>")
"""How they say that a clause ends before it is whole."""


class _CallsByName(BigQuery.Parser):  # type: ignore[misc]
    """BigQuery's parser that leaves every call of a function as it stands.

    sqlglot's own parser renames functions, reorders arguments and adds defaults on the way to
    other dialects; here a call stays a name and a list of arguments.
    """

    # ``FROM t, t.steps`` stays a path; what it means is decided where the names are known.
    SUPPORTS_IMPLICIT_UNNEST = False
    FUNCTIONS: ClassVar[dict[str, object]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, object]] = {
        name: parser
        for name, parser in _BIGQUERY.FUNCTION_PARSERS.items()
        if name in ("CAST", "SAFE_CAST", "EXTRACT")
    }
    NO_PAREN_FUNCTIONS: ClassVar[dict[object, object]] = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, object]] = {
        "CASE": _BIGQUERY.NO_PAREN_FUNCTION_PARSERS["CASE"]
    }


class _Grammar(BigQuery):  # type: ignore[misc]
    """BigQuery's dialect with ``_CallsByName``."""

    Parser = _CallsByName


def parse(sql: str) -> exp.Expr:
    """Return the tree of one SELECT or WITH statement.

    Raises:
        QueryError: a syntax error, with its place; or more than one statement, or none.
        UnsupportedSqlError: a statement that is not a query.
    """
    if len(sql) > SQL_CHARACTERS_MAX:
        raise QueryError(
            f"the query has {len(sql):,} characters; the limit is {SQL_CHARACTERS_MAX:,}"
        )
    dialect = _Grammar()
    try:
        tokens: list[Token] = dialect.tokenize(sql)
        _check_statement(tokens)
        trees = dialect.parser().parse(tokens, sql)
    except ParseError as error:
        raise _syntax_error(sql, error) from None
    except TokenError as error:
        raise QueryError(f"syntax error: {_unfinished(sql, error)}") from None
    tree = trees[0]
    if not isinstance(tree, exp.Query):
        raise QueryError("the query has no SELECT")
    return tree


def tokens_of(sql: str) -> list[Token]:
    """Return the words of a text that ``parse`` has found good, each with its place."""
    tokens: list[Token] = _Grammar().tokenize(sql)
    return tokens


def _check_statement(tokens: list[Token]) -> None:
    """Refuse by name what is not one query, before the parser tries to make sense of it."""
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        raise QueryError("the query is empty: write one SELECT or WITH statement")
    first = next((t for t in tokens if t.token_type != TokenType.L_PAREN), tokens[0])
    if first.token_type not in (TokenType.SELECT, TokenType.WITH):
        word = first.text.upper()
        raise UnsupportedSqlError(
            f"the statement {word} is not supported: a query begins with SELECT or WITH, and"
            f" only reads{_at(first)}"
        )
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            raise QueryError(f"only one statement may be sent at a time{_at(token)}")
        if token.token_type == TokenType.DCOLON:
            raise UnsupportedSqlError(f"the operator :: is not GoogleSQL; use CAST{_at(token)}")
        if token.token_type == TokenType.PIPE_GT:
            raise UnsupportedSqlError(
                f"pipe syntax (|>) is not supported by the embedded store{_at(token)}"
            )


def _at(token: Token) -> str:
    return f" (line {token.line}, column {max(1, token.col - len(token.text) + 1)})"


def _syntax_error(sql: str, error: ParseError) -> QueryError:
    details = error.errors[0] if error.errors else {}
    line, column = details.get("line"), details.get("col")
    what = _plain(str(details.get("description") or error)).split("\n")[0].rstrip(".")
    if not line or not column:
        return QueryError(f"syntax error: {what}")
    highlight = str(details.get("highlight") or "")
    # The parser counts a token's column at its last character.
    column = max(1, column - max(0, len(highlight) - 1))
    lines = sql.split("\n")
    text = lines[line - 1].rstrip() if line <= len(lines) else ""
    start = max(0, column - 60)
    shown = text[start : start + 100]
    mark = " " * (column - 1 - start) + "^" * max(1, len(highlight.split("\n")[0]))
    return QueryError(
        f"syntax error at line {line}, column {column}: {what}\n  {shown}\n  {mark[:100]}"
    )


def _plain(description: str) -> str:
    """Return what the parser says, in words of the query and not of the parser's own classes."""
    word = _PARSERS_TOKEN.sub(
        lambda found: "the end" if found[1] == "SENTINEL" else found[2], description
    )
    return _PARSERS_CLASS.sub(lambda found: f"a part of {found[1].upper()} is missing", word)


def _unfinished(sql: str, error: TokenError) -> str:
    """Say which quote has no end; the parser gives the offset of its beginning."""
    found = re.fullmatch(r"Missing (.+?) from \d+:(\d+)", str(error.__cause__))
    if not found:
        return "a text, a name or a comment has no end"
    before = sql[: int(found[2])]
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    return f"the {found[1]} at line {line}, column {column} is never closed"


def check_parts(node: exp.Expr, *understood: str) -> None:
    """Refuse ``node`` by name when the parser found a part of it that is not ``understood``.

    Raises:
        UnsupportedSqlError: it has such a part.
    """
    for part, value in node.args.items():
        if value and part not in understood:
            construct = _PARTS.get(part) or f"{part.strip('_').upper()} in {node.key.upper()}"
            raise unsupported(construct, node)


_PARTS = {
    "sample": "TABLESAMPLE",
    "version": "FOR SYSTEM_TIME AS OF",
    "pivots": "PIVOT or UNPIVOT",
    "match": "MATCH_RECOGNIZE",
    "laterals": "LATERAL",
    "hint": "a query hint",
    "hints": "a table hint",
    "into": "SELECT INTO",
    "locks": "FOR UPDATE",
    "by_name": "BY NAME or CORRESPONDING in a set operation",
    "format": "FORMAT in CAST",
    "recursive": "WITH RECURSIVE",
    "method": "NATURAL or ASOF JOIN",
    "rename": "* RENAME",
}
