"""Every sink and store of the package, held to the shipped suites."""

import importlib
import inspect
import pkgutil
import random
import sys

import pytest
from warehouse_world import WarehouseContract, WarehouseSlotsContract

import eventmill
from eventmill.base.settings import ServerSettings
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.http_keys import HttpKeys
from eventmill.client.http_sink import HttpSink
from eventmill.client.http_store import HttpStore
from eventmill.server.run import Server
from eventmill.store.bigquery.store import BigQueryStore
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.store import LocalStore
from eventmill.store.memory import MemoryStore
from eventmill.testing.contracts import SinkContract, SlotStoreContract, StoreContract
from eventmill.testing.fakes import Faults, FlakySink, RecordingSink, WrappedSink


@pytest.fixture
def memory_store():
    store = MemoryStore()
    yield store
    store.close()


@pytest.fixture
def local_store(tmp_path):
    store = LocalStore.open(str(tmp_path / "store"))
    yield store
    store.close()


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self, memory_store):
        return memory_store


def compact(local_store):
    local_store.seal()
    assert compact_once(local_store.path).errors == []


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, local_store):
        return local_store

    def settle(self, store):
        compact(store)


@pytest.fixture
def served():
    """Return a function that serves a store and returns the server's URL."""
    servers = []

    def serve(store):
        server = Server(store, ServerSettings(port=0))
        servers.append(server)
        server.start()
        return server.url

    yield serve
    for server in servers:
        server.stop()


class TestHttpStoreOnMemoryStore(StoreContract):
    @pytest.fixture
    def store(self, memory_store, served):
        with HttpStore(served(memory_store)) as store:
            yield store


class TestHttpStoreOnLocalStore(StoreContract):
    @pytest.fixture
    def store(self, local_store, served):
        self.settle = lambda _: compact(local_store)
        with HttpStore(served(local_store)) as store:
            yield store


class TestSlotsInMemoryStore(SlotStoreContract):
    @pytest.fixture
    def store(self, memory_store):
        return memory_store


class TestSlotsInLocalStore(SlotStoreContract):
    @pytest.fixture
    def store(self, local_store):
        return local_store

    def settle(self, store):
        compact(store)


class TestSlotsOverHttpInMemoryStore(SlotStoreContract):
    @pytest.fixture
    def store(self, memory_store, served):
        with HttpStore(served(memory_store)) as store:
            yield store


class TestSlotsOverHttpInLocalStore(SlotStoreContract):
    @pytest.fixture
    def store(self, local_store, served):
        self.settle = lambda _: compact(local_store)
        with HttpStore(served(local_store)) as store:
            yield store


class TestHttpSink(SinkContract):
    @pytest.fixture
    def store(self, memory_store):
        return memory_store

    @pytest.fixture
    def sink(self, memory_store, served):
        with HttpSink(served(memory_store)) as sink:
            yield sink


class TestHttpKeys(SinkContract):
    @pytest.fixture
    def store(self, memory_store):
        return memory_store

    @pytest.fixture
    def sink(self, memory_store, served):
        with HttpKeys(served(memory_store)) as sink:
            yield sink


class Around(SinkContract):
    @pytest.fixture
    def store(self, memory_store):
        return memory_store


class TestWrappedSink(Around):
    @pytest.fixture
    def sink(self, memory_store):
        return WrappedSink(memory_store)


class TestRecordingSink(Around):
    @pytest.fixture
    def sink(self, memory_store):
        return RecordingSink(memory_store)


class TestFlakySinkWithoutFaults(Around):
    @pytest.fixture
    def sink(self, memory_store):
        return FlakySink(memory_store, Faults(), rng=random.Random(1))


HELD = {
    MemoryStore: TestMemoryStore,
    LocalStore: TestLocalStore,
    HttpSink: TestHttpSink,
    HttpKeys: TestHttpKeys,
    HttpStore: TestHttpStoreOnMemoryStore,
    WrappedSink: TestWrappedSink,
    RecordingSink: TestRecordingSink,
    FlakySink: TestFlakySinkWithoutFaults,
    BigQueryStore: WarehouseContract,
}
"""Each sink and store, and the suite that holds it to its promise."""


SLOTS_HELD = {
    MemoryStore: TestSlotsInMemoryStore,
    LocalStore: TestSlotsInLocalStore,
    HttpStore: TestSlotsOverHttpInMemoryStore,
    BigQueryStore: WarehouseSlotsContract,
}
"""Each store that can replace the rows of a slot, and its suite."""


def classes_of_the_package():
    for module in pkgutil.walk_packages(eventmill.__path__, "eventmill."):
        if module.name.endswith("__main__") or module.name.split(".")[1] == "beam":
            continue  # Beam has an environment of its own
        importlib.import_module(module.name)
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] == "eventmill":
            for _, found in inspect.getmembers(module, inspect.isclass):
                if found.__module__ == name:
                    yield found


def is_sink(found):
    return (
        hasattr(found, "features")
        and callable(getattr(found, "put", None))
        and not getattr(found, "_is_protocol", False)
    )


def test_no_sink_escapes_the_suites():
    assert {found for found in classes_of_the_package() if is_sink(found)} == set(HELD)
    for suite in HELD.values():
        assert issubclass(suite, SinkContract)


def replaces_slots(found):
    return callable(getattr(found, "replace_slot", None)) and not getattr(
        found, "_is_protocol", False
    )


def test_no_store_of_slots_escapes_its_suite():
    assert {found for found in classes_of_the_package() if replaces_slots(found)} == set(SLOTS_HELD)
    for suite in SLOTS_HELD.values():
        assert issubclass(suite, SlotStoreContract)


def test_the_enumeration_knows_a_sink_when_it_sees_one():
    class Escaped:
        features = None

        def put(self, batch):
            raise NotImplementedError

    assert is_sink(Escaped)
    assert not is_sink(BatchUploader)


def test_no_suite_is_overridden():
    for suite in (*HELD.values(), *SLOTS_HELD.values()):
        for name in vars(suite):
            if name.startswith("test_"):
                pytest.fail(f"{suite.__name__} overrides {name}")
