"""Query parameters: @name in the text, a typed value beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from eventmill.base.errors import QueryError
from eventmill.store.googlesql.casts import DUCKDB

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INT64 = range(-(2**63), 2**63)


class Parameters:
    """The values that came with a query, and which of them it uses. Names know no case."""

    def __init__(self, values: Mapping[str, Any] | None) -> None:
        """Take the values.

        Raises:
            QueryError: a name or a value that no parameter can have.
        """
        self._values: dict[str, tuple[str, Any]] = {}
        self._kinds: dict[str, str | None] = {}
        self._mentioned: set[str] = set()
        self._written: set[str] = set()
        for name, value in (values or {}).items():
            if not _NAME.fullmatch(name):
                raise QueryError(f"{name!r} is not the name of a parameter: use [A-Za-z0-9_]")
            key = name.lower()
            if key in self._values:
                raise QueryError(f"parameter @{name} is given twice (names know no case)")
            self._kinds[key] = _kind(name, value)
            self._values[key] = (name, _bindable(value))

    def forget_use(self) -> None:
        """Begin anew to note which parameters are used."""
        self._mentioned.clear()
        self._written.clear()

    def value(self, name: str) -> Any:  # noqa: ANN401 - one of many types
        """Return the value of @``name``, to be used while translating."""
        key = self._key(name)
        return self._values[key][1]

    def kind(self, name: str) -> str | None:
        """Return the GoogleSQL type of @``name``; None for NULL and for arrays."""
        kind = self._kinds.get(name.lower())
        return None if kind is None or kind.startswith("ARRAY") else kind

    def write(self, name: str) -> str:
        """Return @``name`` as a DuckDB expression."""
        key = self._key(name)
        self._written.add(key)
        kind, bound = self._kinds[key], f"${self._values[key][0]}"
        # Text stays untyped, so that it can become a DATE or TIMESTAMP where one is wanted.
        if kind in (None, "STRING", "ARRAY"):
            return bound
        if kind.startswith("ARRAY"):
            return f"CAST({bound} AS {DUCKDB[kind[6:-1]]}[])"
        return f"CAST({bound} AS {DUCKDB[kind]})"

    def used(self) -> dict[str, Any]:
        """Return what has to be bound when the written SQL runs.

        Raises:
            QueryError: a value was given that the query does not mention.
        """
        for key, (name, _) in self._values.items():
            if key not in self._mentioned:
                uses = ", ".join(f"@{other}" for other in sorted(self._mentioned)) or "none"
                raise QueryError(f"parameter @{name} is not used by the query; it uses {uses}")
        return {self._values[key][0]: self._values[key][1] for key in sorted(self._written)}

    def _key(self, name: str) -> str:
        key = name.lower()
        if key not in self._values:
            given = ", ".join(f"@{other}" for other, _ in self._values.values()) or "none"
            raise QueryError(
                f"the query uses @{name}, but no value is given for it (given: {given})"
            )
        self._mentioned.add(key)
        return key


def _kind(name: str, value: object) -> str | None:
    """Return the GoogleSQL type of a Python value; None for NULL."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value not in _INT64:
        raise QueryError(f"parameter @{name}: {value} does not fit INT64")
    if isinstance(value, datetime):
        return "DATETIME" if value.tzinfo is None else "TIMESTAMP"
    for type_, kind in _KINDS:
        if isinstance(value, type_):
            return kind
    if isinstance(value, Sequence):
        return _array_kind(name, value)
    raise QueryError(
        f"parameter @{name}: a value of type {type(value).__name__} is not supported; use str,"
        " int, float, bool, bytes, datetime, date, time, or a list of one of these"
    )


def _array_kind(name: str, elements: Sequence[object]) -> str:
    kinds = {_kind(name, element) for element in elements} - {None}
    if kinds == {"INT64", "FLOAT64"}:
        return "ARRAY<FLOAT64>"
    if len(kinds) > 1 or any(str(kind).startswith("ARRAY") for kind in kinds):
        raise QueryError(
            f"parameter @{name}: an array needs elements of one type that is not an array"
        )
    return f"ARRAY<{kinds.pop()}>" if kinds else "ARRAY"


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "BOOL"),
    (int, "INT64"),
    (float, "FLOAT64"),
    (str, "STRING"),
    (bytes, "BYTES"),
    (date, "DATE"),
    (time, "TIME"),
)


def _bindable(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_bindable(element) for element in value]
    return value
