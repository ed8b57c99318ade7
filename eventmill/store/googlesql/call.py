"""A call of a function, and the rules that give functions their meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sqlglot import exp

from eventmill.base.errors import QueryError, UnsupportedSqlError
from eventmill.store.googlesql.refusals import NotConstantError, unsupported, wrong


class Writer(Protocol):
    """What a rule may ask of the translation that it is part of."""

    def write(self, node: exp.Expr) -> str:
        """Return ``node`` as a DuckDB expression."""
        ...

    def kind(self, node: exp.Expr) -> str | None:
        """Return the GoogleSQL type of ``node`` where the text alone tells it; else None."""
        ...

    def constant(self, node: exp.Expr) -> object:
        """Return the value of a literal or parameter; NotConstantError for anything else."""
        ...

    def now(self) -> str:
        """Return the statement's time as a DuckDB expression of type TIMESTAMPTZ."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it stands in the query, its arguments not yet written."""

    name: str
    """In upper case."""
    node: exp.Expr
    args: tuple[exp.Expr, ...]
    writer: Writer
    distinct: bool = False
    nulls: str = ""
    """``IGNORE``, ``RESPECT`` or empty."""
    order: str = ""
    """`` ORDER BY ...`` in DuckDB's words, or empty."""
    limit: str = ""
    """Written LIMIT inside the call, or empty."""
    having: tuple[str, str] | None = None
    """``MAX`` or ``MIN`` and the written expression of ANY_VALUE(x HAVING MAX y)."""
    over: str = ""
    """`` OVER (...)`` in DuckDB's words, or empty."""

    def sql(self, index: int) -> str:
        """Return argument ``index`` written."""
        return self.writer.write(self.args[index])

    def kind(self, index: int) -> str | None:
        """Return the GoogleSQL type of argument ``index`` where the text alone tells it."""
        return self.writer.kind(self.args[index])

    def written(self) -> list[str]:
        """Return all arguments written."""
        return [self.writer.write(arg) for arg in self.args]

    def constant(self, index: int, what: str) -> object:
        """Return the value of argument ``index``, which has to be a literal or a parameter."""
        from_literal = _constant_or_refusal(self.writer, self.args[index])
        if isinstance(from_literal, _NoConstant):
            raise unsupported(
                f"{self.name} with {what} that is neither a literal nor a parameter", self.node
            )
        return from_literal

    def refuse(self, what: str, instead: str = "") -> UnsupportedSqlError:
        """Return the error that names this function and ``what`` about it is not supported."""
        return unsupported(f"{self.name} with {what}", self.node, instead=instead)

    def wrong(self, problem: str) -> QueryError:
        """Return the error of a call that GoogleSQL itself would refuse."""
        return wrong(f"{self.name}: {problem}", self.node)


class _NoConstant:
    """Marks that an argument has no constant value (None is a value: NULL)."""


def _constant_or_refusal(writer: Writer, node: exp.Expr) -> object:
    try:
        return writer.constant(node)
    except NotConstantError:
        return _NoConstant()


@dataclass(frozen=True, slots=True)
class Rule:
    """The meaning of one function."""

    write: Callable[[Call], str]
    least: int
    """Fewest arguments."""
    most: int
    """Most arguments."""
    kind: str | None = None
    """GoogleSQL type of the result when it does not depend on the arguments."""
    aggregate: bool = False
    window: bool = False
    """Whether it needs an OVER clause."""
    modifiers: frozenset[str] = frozenset()
    """Which of DISTINCT, NULLS, ORDER BY, LIMIT, HAVING may stand inside the parentheses, and
    OVER behind them."""


Rules = Mapping[str, Rule]

MANY = 1000
"""Stands for no upper bound on the number of arguments."""


def scalar(
    write: str | Callable[[Call], str],
    least: int = 1,
    most: int | None = None,
    kind: str | None = None,
) -> Rule:
    """Return the rule of a scalar function.

    Args:
        write: a template with the written arguments as ``{0}``, ``{1}``, or a function.
        least: fewest arguments.
        most: most arguments; None: as many as ``least``.
        kind: type of the result when it does not depend on the arguments.
    """
    return Rule(_template(write), least, least if most is None else most, kind)


def aggregate(
    write: str | Callable[[Call], str],
    least: int = 1,
    most: int | None = None,
    kind: str | None = None,
    modifiers: str = "OVER",
) -> Rule:
    """Return the rule of an aggregate function.

    Args:
        write: as in ``scalar``; a template also gets ``{distinct}``, ``{order}`` and ``{over}``.
        least: fewest arguments.
        most: most arguments; None: as many as ``least``.
        kind: type of the result when it does not depend on the arguments.
        modifiers: words of ``Rule.modifiers``, separated by commas.
    """
    return Rule(
        _template(write),
        least,
        least if most is None else most,
        kind,
        aggregate=True,
        modifiers=frozenset(modifiers.split(",")),
    )


def window(
    write: str | Callable[[Call], str],
    least: int = 0,
    most: int | None = None,
    kind: str | None = None,
    modifiers: str = "OVER",
) -> Rule:
    """Return the rule of a function that needs an OVER clause; arguments as in ``aggregate``."""
    return Rule(
        _template(write),
        least,
        least if most is None else most,
        kind,
        window=True,
        modifiers=frozenset(modifiers.split(",")),
    )


def _template(write: str | Callable[[Call], str]) -> Callable[[Call], str]:
    if not isinstance(write, str):
        return write
    text = write

    def fill(call: Call) -> str:
        return text.format(
            *call.written(),
            distinct="DISTINCT " if call.distinct else "",
            order=call.order,
            over=call.over,
        )

    return fill
