"""The table that a job writes to: there, made, or widened, as the job says."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eventmill.base.errors import SchemaConflictError
from eventmill.schema.table import Column, Mode, Table, TableId, TableSpec
from eventmill.server.access import Action, Principal
from eventmill.server.bigquery.calls import table_of
from eventmill.server.bigquery.datasets import Datasets
from eventmill.server.bigquery.definitions import new_spec, respecified, with_columns
from eventmill.server.bigquery.documents import number_of
from eventmill.server.bigquery.errors import (
    ApiError,
    duplicate,
    invalid,
    not_found,
    unsupported,
)
from eventmill.server.bigquery.rooms import Rooms, is_own, shown
from eventmill.server.bigquery.tables import Tables

_WRITES = ("WRITE_APPEND", "WRITE_EMPTY", "WRITE_TRUNCATE")
_CREATES = ("CREATE_IF_NEEDED", "CREATE_NEVER")
_OPTIONS = ("ALLOW_FIELD_ADDITION", "ALLOW_FIELD_RELAXATION")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a job says of the table that it writes to."""

    table: TableId
    create: str
    write: str
    may_add: bool
    """Whether the job may add columns to a table that is there."""
    may_relax: bool
    """Whether it may make REQUIRED columns NULLABLE."""
    document: Mapping[str, Any]
    """The job's part of the configuration, for what it says of a table that is made."""


def wish_of(configuration: Mapping[str, Any], default_write: str) -> Wish:
    """Read where a job writes; refuse what makes no sense."""
    reference = configuration.get("destinationTable")
    if not isinstance(reference, Mapping):
        raise invalid("Required parameter is missing: destinationTable", "destinationTable")
    table = table_of(
        reference.get("projectId"), reference.get("datasetId"), reference.get("tableId")
    )
    create = str(configuration.get("createDisposition") or _CREATES[0])
    write = str(configuration.get("writeDisposition") or default_write)
    if create not in _CREATES:
        raise invalid(f"createDisposition {create!r} is none of {', '.join(_CREATES)}")
    if write not in _WRITES:
        raise unsupported(f"writeDisposition {write!r}", f"use {' or '.join(_WRITES[:2])}")
    options = configuration.get("schemaUpdateOptions") or []
    for option in options:
        if option not in _OPTIONS:
            raise invalid(f"schemaUpdateOptions {option!r} is none of {', '.join(_OPTIONS)}")
    return Wish(table, create, write, _OPTIONS[0] in options, _OPTIONS[1] in options, configuration)


class Destinations:
    """Makes tables ready for jobs."""

    def __init__(self, rooms: Rooms, datasets: Datasets, tables: Tables) -> None:
        self._rooms = rooms
        self._datasets = datasets
        self._tables = tables
        self._lock = threading.Lock()
        self._busy: dict[TableId, threading.Lock] = {}

    def require(self, principal: Principal, wish: Wish) -> None:
        """Raise ForbiddenError unless ``principal`` may do what the wish takes."""
        guard = self._rooms.guard
        if is_own(wish.table):
            raise ApiError(403, "accessDenied", f"{shown(wish.table)} is the server's own")
        guard.require(principal, Action.APPEND, wish.table)
        if wish.may_add or wish.may_relax or not self.is_there(wish.table):
            guard.require(principal, Action.APPLY, wish.table)

    def is_there(self, table: TableId) -> bool:
        """Tell whether there is a table of that name."""
        return self._rooms.live(table) is not None

    def turn(self, table: TableId) -> threading.Lock:
        """Return the lock that jobs which write to ``table`` take one after the other."""
        with self._lock:
            return self._busy.setdefault(table, threading.Lock())

    def ready(
        self,
        wish: Wish,
        columns: Sequence[Column] | None,
        *,
        is_begun: bool,
        like: TableSpec | None = None,
    ) -> TableSpec | Table:
        """Return the live table, or the definition of one that is to be made.

        Args:
            wish: what the job says.
            columns: what its rows have; None: it does not say, and the table must be there.
            is_begun: whether rows of this job may be in the table already.
            like: a definition to take over for a new table.

        Raises:
            ApiError: the table is missing, not empty, or does not fit.
        """
        self._rooms.drop_expired()
        live = self._rooms.live(wish.table)
        if live is None:
            if wish.create == "CREATE_NEVER":
                raise not_found("Table", shown(wish.table))
            return self._new(wish, columns, like)
        if wish.write != "WRITE_APPEND" and not is_begun:
            self._require_empty(wish, live)
        if columns is None:
            return live
        if wish.may_add or wish.may_relax:
            live = self._widened(live, wish, columns)
        _check_columns(live, columns)
        return live

    def made(self, principal: Principal | None, found: TableSpec | Table, wish: Wish) -> Table:
        """Return the live table of what ``ready`` has returned."""
        if isinstance(found, Table):
            return found
        said = wish.document.get("destinationTableProperties")
        return self._tables.make(principal, found, said if isinstance(said, Mapping) else {})

    def _new(
        self, wish: Wish, columns: Sequence[Column] | None, like: TableSpec | None
    ) -> TableSpec:
        if like is not None:
            return replace(like, table=wish.table)
        if columns is None:
            raise invalid(
                f"Table {shown(wish.table)} does not exist and the job says no schema: give one,"
                " or autodetect",
                "schema",
            )
        properties = wish.document.get("destinationTableProperties")
        said = {**(properties if isinstance(properties, Mapping) else {}), **wish.document}
        dataset = self._datasets.required(wish.table.project, wish.table.dataset).said
        return new_spec(
            wish.table,
            said,
            columns=columns,
            partition_expiration_ms=number_of(dataset, "defaultPartitionExpirationMs"),
        )

    def _require_empty(self, wish: Wish, live: Table) -> None:
        if not self._rooms.store.stats(live.id).rows:
            return
        if wish.write == "WRITE_EMPTY":
            raise duplicate("Table", f"{shown(live.id)}: it has rows, and the job says WRITE_EMPTY")
        raise unsupported(
            f"WRITE_TRUNCATE into a table that has rows ({shown(live.id)})",
            "events are only ever added; write to a table of another name",
        )

    def _widened(self, live: Table, wish: Wish, columns: Sequence[Column]) -> Table:
        merged = _merged(live.spec.columns, columns, wish)
        try:
            return self._rooms.store.apply(
                respecified(with_columns(live.spec, merged)), expected_version=live.version
            )
        except SchemaConflictError as error:
            raise invalid(str(error)) from None


def _merged(live: Sequence[Column], wanted: Sequence[Column], wish: Wish) -> tuple[Column, ...]:
    """Return the columns of one level, changed as far as the job may change them."""
    by_name = {column.name.lower(): column for column in wanted}
    result = []
    for column in live:
        given = by_name.pop(column.name.lower(), None)
        if given is None:
            result.append(column)
            continue
        relaxed = wish.may_relax and column.mode is Mode.REQUIRED and given.mode is Mode.NULLABLE
        fields = _merged(column.fields, given.fields, wish) if column.fields else ()
        result.append(replace(column, mode=given.mode if relaxed else column.mode, fields=fields))
    return (*result, *(by_name.values() if wish.may_add else ()))


def _check_columns(live: Table, columns: Sequence[Column]) -> None:
    """Refuse rows whose columns the table does not have; values are judged one by one."""

    def check(known: Sequence[Column], wanted: Sequence[Column], prefix: str) -> None:
        by_name = {column.name.lower(): column for column in known}
        for column in wanted:
            found = by_name.get(column.name.lower())
            if found is None:
                raise invalid(
                    f"Provided Schema does not match Table {shown(live.id)}. Cannot add fields"
                    f" (field: {prefix}{column.name})"
                )
            check(found.fields, column.fields, f"{prefix}{column.name}.")

    check(live.spec.columns, columns, "")
