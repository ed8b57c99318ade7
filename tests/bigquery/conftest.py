import pytest
from bigquery_world import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One server for the tests of a module; each makes datasets of its own."""
    found = Place(tmp_path_factory.mktemp("bigquery"))
    yield found
    found.close()


@pytest.fixture
def own_place(tmp_path):
    """A server for one test alone."""
    found = Place(tmp_path)
    yield found
    found.close()
