"""A service's table at its start: there, with at least the columns that the service writes."""

from __future__ import annotations

import threading
import weakref

from eventmill.base.errors import SchemaConflictError, TableNotFoundError
from eventmill.schema.diff import plan_change
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import Table, TableSpec
from eventmill.schema.union import with_fields_of
from eventmill.store.port import Store

_TRIES = 10
_lock = threading.Lock()
_busy: weakref.WeakKeyDictionary[Store, dict[str, threading.Lock]] = weakref.WeakKeyDictionary()
_done: weakref.WeakKeyDictionary[Store, dict[str, tuple[TableSpec, Table]]] = (
    weakref.WeakKeyDictionary()
)


def ensure_table(store: Store, spec: TableSpec, *, again: bool = False) -> Table:
    """Create the table of ``spec``, or add to it what it lacks; return it as it was then.

    Promise: on return the table has every column of ``spec``. Only additions are made: what it
    has beyond ``spec`` stays, fields of a newer service included, and so do description, owner,
    labels and clustering of a table that exists, so that two versions of a service do not undo
    each other. Safe from any thread and beside other processes; a call with the same ``spec`` as
    before costs no call of the store. A failure is not remembered.

    Args:
        store: where the table is.
        spec: what is written, such as ``schema.mapping.spec_from_proto`` returns.
        again: look at the store also when a call before has: somebody may have dropped the table.

    Raises:
        SchemaConflictError: the live table does not allow what is missing to be added.
        TransientError: the store cannot be asked now; call again.
    """
    name = str(spec.table)
    with _lock:
        known = _done.setdefault(store, {}).get(name)
        turn = _busy.setdefault(store, {}).setdefault(name, threading.Lock())
    if known is not None and known[0] == spec and not again:
        return known[1]
    with turn:  # one thread does the work, the others find it done
        known = _done[store].get(name)
        if known is not None and known[0] == spec and not again:
            return known[1]
        table = _ensure(store, spec)
        with _lock:
            _done[store][name] = (spec, table)
        return table


def _ensure(store: Store, spec: TableSpec) -> Table:
    for left in range(_TRIES - 1, -1, -1):
        try:
            live: Table | None = store.describe(spec.table)
        except TableNotFoundError:
            live = None
        wanted = spec if live is None else _more_than(live.spec, spec)
        plan = plan_change(live, wanted)
        if plan.refusals:
            raise SchemaConflictError(plan.to_text())
        if live is not None and plan.is_empty:
            return live
        try:
            return store.apply(wanted, expected_version=live.version if live else 0)
        except SchemaConflictError:
            # Somebody else has changed it since: look again at what is missing now.
            if not left:
                raise
    raise AssertionError("unreachable")


def _more_than(live: TableSpec, spec: TableSpec) -> TableSpec:
    """Return the live definition with what ``spec`` has beyond it."""
    return spec_from_proto(
        live.table,
        with_fields_of(live.descriptor_set, spec.descriptor_set),
        spec.message,
        partitioning=live.partitioning,
        clustering=live.clustering,
        require_partition_filter=live.require_partition_filter,
        description=live.description,
        owner=live.owner,
        labels=live.labels,
        freshness_seconds=live.freshness_seconds,
    )
