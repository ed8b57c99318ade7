"""What the rooms of the surface share: the store, the catalog, the permissions, the time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from eventmill.base.clock import Clock
from eventmill.base.errors import TableNotFoundError
from eventmill.schema.table import Table, TableId
from eventmill.server.access import SERVER, Principal
from eventmill.server.bigquery.catalog import Catalog
from eventmill.server.bigquery.errors import not_found
from eventmill.server.bigquery.guard import Guard
from eventmill.server.bigquery.view_catalog import Views
from eventmill.store.port import Store
from eventmill.store.quarantine import OWN_DATASET


@dataclass(frozen=True, slots=True)
class Rooms:
    """Handed to every room of the surface. Safe from any thread."""

    store: Store
    catalog: Catalog
    views: Views
    guard: Guard
    clock: Clock

    def now_ms(self) -> int:
        """Return the time in milliseconds since 1970."""
        return int(self.clock.now() * 1000)

    def describe(self, table: TableId) -> Table:
        """Return a live table, or refuse the call in BigQuery's words."""
        self.drop_expired()
        try:
            return self.store.describe(table)
        except TableNotFoundError:
            raise not_found("Table", shown(table)) from None

    def live(self, table: TableId) -> Table | None:
        """Return a live table; None: there is none."""
        try:
            return self.store.describe(table)
        except TableNotFoundError:
            return None

    def drop(self, principal: Principal, table: TableId) -> None:
        """Remove a table and what was said of it; one that is gone already is no error."""
        self.guard.withdraw(principal, table)
        with contextlib.suppress(TableNotFoundError):
            self.store.drop(table)
        self.catalog.forget_table(table)

    def drop_view(self, principal: Principal, name: TableId) -> None:
        """Remove a view; the tables that it reads stay."""
        self.guard.withdraw(principal, name)
        self.views.forget(name)

    def has_expired(self) -> bool:
        """Tell whether the time of any table is over. Asks no disk."""
        due = self.catalog.next_expiry_ms
        return due is not None and due <= self.now_ms()

    def drop_expired(self) -> int:
        """Remove the tables whose time is over; return how many. Costs nothing where none is."""
        if not self.has_expired():
            return 0
        count = 0
        for name, created_at in self.catalog.expired(self.now_ms()):
            live = self.live(name)
            # One of the same name that was made since has nothing to do with the entry.
            if live is not None and live.created_at == created_at and not is_own(name):
                self.drop(SERVER, name)
                count += 1
            self.catalog.forget_table(name)
        return count


def is_own(table: TableId) -> bool:
    """Tell whether the store keeps the table about itself."""
    return table.dataset == OWN_DATASET


def shown(table: TableId) -> str:
    """Return a table's name as BigQuery's messages write it."""
    return f"{table.project}:{table.dataset}.{table.table}"
