import pytest
from warehouse_world import served

from eventmill.store.bigquery.store import BigQueryStore
from eventmill.store.memory import MemoryStore


@pytest.fixture
def place():
    with served(MemoryStore()) as place:
        yield place


@pytest.fixture
def store(place):
    with BigQueryStore(place) as store:
        yield store


@pytest.fixture
def other(place):
    """Another program on the same project."""
    with BigQueryStore(place) as store:
        yield store
