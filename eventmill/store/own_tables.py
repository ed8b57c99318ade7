"""The tables that a store keeps about itself, and the way into them."""

from __future__ import annotations

from functools import cache
from typing import Protocol, runtime_checkable

from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import DEFAULT_PROJECT, Partitioning, TableId, TableSpec
from eventmill.store.own_protos import own_descriptor_set
from eventmill.store.quarantine import OWN_DATASET, quarantine_spec
from eventmill.wire.batch import Batch

AUDIT = TableId(DEFAULT_PROJECT, OWN_DATASET, "audit")
AUDIT_KEPT_SECONDS = 400 * 86_400.0
"""How long an audit's entries are kept: a year, and some weeks to look at it."""


@cache
def audit_spec() -> TableSpec:
    """Return the definition of the audit table."""
    partitioning = Partitioning(column="recorded_at", expiration_seconds=AUDIT_KEPT_SECONDS)
    return spec_from_proto(
        AUDIT, own_descriptor_set("audit"), "eventmill.AuditEntry", partitioning=partitioning
    )


def own_specs() -> list[TableSpec]:
    """Return the definitions of all own tables."""
    return [quarantine_spec(), audit_spec()]


@runtime_checkable
class OwnTableStore(Protocol):
    """A store that keeps the server's entries in tables of its own."""

    def keep_own(self, batch: Batch) -> None:
        """Store ``batch`` in an own table, once however often the call is repeated.

        Raises:
            TransientError: any of it may be stored; call again.
        """
        ...
