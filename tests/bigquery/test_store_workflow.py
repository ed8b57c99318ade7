"""One workflow, one SQL: the same rows in the embedded store and in BigQuery, late events too."""

import pytest
from cq_world import FOLDER, START, put_events, specs
from warehouse_world import bigquery_store

from eventmill.store.memory import MemoryStore
from eventmill.workflow.reading import read_workflow
from eventmill.workflow.shipped.cq_sample import sample_rows
from eventmill.workflow.slot_run import run_slot

pytestmark = pytest.mark.slow

ATTEMPTS = 200
FIRST = int(START.timestamp())
HOURS = [(FIRST + hour * 3_600, FIRST + (hour + 1) * 3_600) for hour in range(3)]
SQL = "SELECT * FROM aggregated.cq_attempts ORDER BY attempt_start_msec, cq_name, issue, patchset"


@pytest.fixture
def embedded():
    store = MemoryStore()
    yield store
    store.close()


@pytest.fixture
def bigquery():
    with bigquery_store(MemoryStore()) as store:
        yield store


@pytest.fixture(scope="module")
def workflow():
    return read_workflow(str(FOLDER))


def run_all(workflow, store, events, generation):
    put_events(store, events)
    results = [
        run_slot(workflow, store, slot, generation=generation, log=lambda line: None)
        for slot in HOURS
    ]
    return list(store.query(SQL, row_limit=None)), [result.output_rows for result in results]


def test_the_same_sql_gives_the_same_rows(workflow, embedded, bigquery):
    events = list(sample_rows(ATTEMPTS, seed=5, attempts_a_day=ATTEMPTS * 8))
    for store in (embedded, bigquery):
        for spec in specs():
            store.apply(spec)
    half = len(events) // 2
    here, counts = run_all(workflow, embedded, events[:half], 1)
    there, counts_there = run_all(workflow, bigquery, events[:half], 1)
    assert here == there
    assert counts == counts_there
    before = len(here)
    here, counts = run_all(workflow, embedded, events[half:], 2)
    there, counts_there = run_all(workflow, bigquery, events[half:], 2)
    assert here == there
    assert counts == counts_there
    assert len(here) > before > 0
