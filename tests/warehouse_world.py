"""A local server with its BigQuery surface, and a BigQuery store that takes it for Google's."""

import contextlib
from typing import ClassVar

import pytest

from eventmill.base.settings import ServerSettings
from eventmill.schema.table import TableId
from eventmill.server.bigquery_write.listener import WriteListener
from eventmill.server.run import Server
from eventmill.store.bigquery.place import BigQueryPlace
from eventmill.store.bigquery.store import BigQueryStore
from eventmill.store.memory import MemoryStore
from eventmill.testing.contracts import SlotStoreContract, StoreContract


@contextlib.contextmanager
def served(store, *, folder=None, write="storage"):
    """Serve ``store`` by both listeners; yield the place that reaches them."""
    with (
        Server(store, ServerSettings(port=0)) as server,
        WriteListener(store, server.access, folder=folder) as listener,
    ):
        yield BigQueryPlace(
            "local",
            endpoint=server.url,
            write_endpoint=listener.address,
            write=write,
            own_dataset="warehouse",  # the server behind keeps its own in ``eventmill``
        )


@contextlib.contextmanager
def bigquery_store(store, **options):
    """Yield a BigQuery store whose project is ``store``, behind a server."""
    with served(store, **options) as place, BigQueryStore(place) as bigquery:
        yield bigquery


class WarehouseContract(StoreContract):
    """The suite of a store, for a BigQuery store; ``options`` are of ``bigquery_store``."""

    quarantine_table = "warehouse.quarantine_deduplicated"
    options: ClassVar = {}

    @pytest.fixture
    def store(self):
        with bigquery_store(MemoryStore(), **self.options) as store:
            yield store


class WarehouseSlotsContract(SlotStoreContract):
    """The suite of a store of slots, for a BigQuery store."""

    own_table = TableId("local", "warehouse", "quarantine")

    @pytest.fixture
    def store(self):
        with bigquery_store(MemoryStore()) as store:
            yield store
