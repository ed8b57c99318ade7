"""What the names in a query stand for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from eventmill.schema.table import TableId


class SourceKind(StrEnum):
    """What stands in a FROM clause."""

    TABLE = "table"
    QUERY = "query"
    """A subquery or a name of WITH."""
    UNNEST = "unnest"


@dataclass(frozen=True, slots=True)
class Source:
    """One item of a FROM clause."""

    alias: str
    kind: SourceKind
    table: TableId | None = None
    """The stored table, for a TABLE."""
    fields: tuple[str, ...] | None = None
    """Field names of an UNNEST's elements; empty: they are no STRUCTs; None: not known."""
    offset: str = ""
    """Name of an UNNEST's WITH OFFSET; empty for none."""
    named: bool = True
    """Whether the alias is the query's, not one made up here."""


@dataclass(slots=True)
class Scope:
    """The names that one SELECT brings in, and the scope around it."""

    parent: Scope | None = None
    sources: dict[str, Source] = field(default_factory=dict)
    """By alias in lower case, in the order of FROM."""
    queries: dict[str, str] = field(default_factory=dict)
    """Names of WITH: lower case to as written."""

    def source(self, name: str) -> Source | None:
        """Return the source of that alias, from here outward."""
        scope: Scope | None = self
        while scope is not None:
            found = scope.sources.get(name.lower())
            if found is not None and found.named:
                return found
            scope = scope.parent
        return None

    def element_field(self, name: str) -> Source | None:
        """Return the nearest UNNEST that has a field or an offset of that name."""
        scope: Scope | None = self
        while scope is not None:
            for source in scope.sources.values():
                if source.offset.lower() == name.lower() and source.offset:
                    return source
                if name.lower() in (known.lower() for known in source.fields or ()):
                    return source
            scope = scope.parent
        return None

    def query(self, name: str) -> str | None:
        """Return the name of WITH as it was written, from here outward; None: there is none."""
        scope: Scope | None = self
        while scope is not None:
            if name.lower() in scope.queries:
                return scope.queries[name.lower()]
            scope = scope.parent
        return None

    def tables(self) -> list[Source]:
        """Return the stored tables that this SELECT itself reads."""
        return [s for s in self.sources.values() if s.kind is SourceKind.TABLE]
