"""Jobs: destination tables, copies, states, cancellation, what stays after a restart."""

import threading
import time
import warnings

import pytest
from bigquery_world import EVENT_FIELDS, PROJECT, F, error_of
from google.api_core import exceptions
from google.cloud import bigquery

from eventmill.schema.table import TableId
from eventmill.server.bigquery import job_book, results


def config(**options):
    return bigquery.QueryJobConfig(**options)


def filled(place, count=10, **more):
    table = place.table(**more)
    rows = [{"id": n, "name": f"n{n}", "ctx": {"lat": n / 2}} for n in range(count)]
    assert place.client.insert_rows_json(table, rows) == []
    return table


def ids(place, name):
    return [row["id"] for row in place.rows(f"SELECT id FROM `{name}` ORDER BY id")]


# -- destination tables --------------------------------------------------------------------


def test_an_answer_becomes_a_table(place):
    table = filled(place)
    target = f"{PROJECT}.{table.dataset_id}.out"
    job = place.client.query(
        f"SELECT id, name, ctx, steps, at FROM {table.dataset_id}.events WHERE id < 4",
        job_config=config(
            destination=target,
            time_partitioning=bigquery.TimePartitioning(field="at"),
            clustering_fields=["name"],
        ),
    )
    assert job.result().total_rows == 4
    made = place.client.get_table(target)
    assert made.num_rows == 4
    assert made.time_partitioning.field == "at"
    assert made.clustering_fields == ["name"]
    assert [f.field_type for f in made.schema] == [
        "INTEGER", "STRING", "RECORD", "RECORD", "TIMESTAMP",
    ]  # fmt: skip
    assert job.destination.table_id == "out"
    assert ids(place, target) == [0, 1, 2, 3]


def test_append_and_empty(place):
    table = filled(place)
    target = f"{PROJECT}.{table.dataset_id}.out"
    sql = f"SELECT id FROM {table.dataset_id}.events WHERE id < 2"
    for _ in range(2):
        options = config(destination=target, write_disposition="WRITE_APPEND")
        place.client.query(sql, job_config=options).result()
    assert ids(place, target) == [0, 0, 1, 1]
    job = place.client.query(sql, job_config=config(destination=target))
    with pytest.raises(exceptions.Conflict, match="WRITE_EMPTY"):
        job.result()
    assert ids(place, target) == [0, 0, 1, 1]


def test_nothing_is_ever_truncated(place):
    table = filled(place)
    target = f"{PROJECT}.{table.dataset_id}.out"
    options = config(destination=target, write_disposition="WRITE_TRUNCATE")
    sql = f"SELECT id FROM {table.dataset_id}.events WHERE id < 2"
    place.client.query(sql, job_config=options).result()  # there was nothing to truncate
    job = place.client.query(sql, job_config=options)
    with pytest.raises(exceptions.BadRequest, match="WRITE_TRUNCATE into a table that has rows"):
        job.result()
    assert ids(place, target) == [0, 1]


def test_create_never_wants_the_table_to_be_there(place):
    table = filled(place)
    options = config(
        destination=f"{PROJECT}.{table.dataset_id}.out", create_disposition="CREATE_NEVER"
    )
    job = place.client.query("SELECT 1 AS id", job_config=options)
    with pytest.raises(exceptions.NotFound):
        job.result()


def test_an_answer_that_does_not_fit_leaves_the_table_as_it_was(place):
    table = filled(place, 3)
    name = f"{PROJECT}.{table.dataset_id}.events"
    append = {"destination": name, "write_disposition": "WRITE_APPEND"}
    for sql, word in [
        ("SELECT 1 AS id, 'x' AS added", "Cannot add fields"),
        ("SELECT 'x' AS id", "integer"),
        ("SELECT 'no id' AS name", "required"),
        (f"SELECT IF(id = 2, NULL, id) AS id FROM {table.dataset_id}.events", "required"),
    ]:
        job = place.client.query(sql, job_config=config(**append))
        with pytest.raises(exceptions.BadRequest, match=word):
            job.result()
    assert ids(place, name) == [0, 1, 2]


def test_an_answer_may_add_columns_where_the_job_says_so(place):
    table = filled(place, 2)
    name = f"{PROJECT}.{table.dataset_id}.events"
    options = config(
        destination=name,
        write_disposition="WRITE_APPEND",
        schema_update_options=["ALLOW_FIELD_ADDITION"],
    )
    sql = "SELECT 7 AS id, STRUCT(1.5 AS lat, 'x' AS place) AS ctx, TRUE AS added"
    place.client.query(sql, job_config=options).result()
    schema = place.client.get_table(name).schema
    assert [f.name for f in schema][-1] == "added"
    assert [f.name for f in schema[3].fields] == ["lat", "tags", "place"]
    assert schema[0].mode == "REQUIRED"
    assert ids(place, name) == [0, 1, 7]


def test_tables_are_copied(place):
    table = filled(place, description="to be copied")
    target = f"{PROJECT}.{table.dataset_id}.copy"
    place.client.copy_table(table, target).result()
    made = place.client.get_table(target)
    assert (made.num_rows, made.description) == (10, "to be copied")
    assert [f.to_api_repr() for f in made.schema] == [f.to_api_repr() for f in EVENT_FIELDS]
    assert ids(place, target) == list(range(10))
    job = place.client.copy_table(table, target)
    with pytest.raises(exceptions.Conflict):
        job.result()
    append = bigquery.CopyJobConfig(write_disposition="WRITE_APPEND")
    place.client.copy_table([table, table], target, job_config=append).result()
    assert place.client.get_table(target).num_rows == 30


# -- states --------------------------------------------------------------------------------


def test_a_job_is_told_from_its_beginning_to_its_end(place):
    table = filled(place)
    job = place.client.query(
        f"SELECT id FROM {table.dataset_id}.events",
        job_id="told-1",
        job_config=config(labels={"team": "ci"}),
        job_retry=None,
    )
    job.result()
    found = place.client.get_job("told-1")
    assert (found.state, found.error_result, found.job_type) == ("DONE", None, "query")
    assert found.labels == {"team": "ci"}
    assert found.created <= found.started <= found.ended
    assert found.statement_type == "SELECT"
    assert found.total_bytes_processed > 0
    assert [t.table_id for t in found.referenced_tables] == ["events"]
    assert found.user_email == "anonymous"
    assert "told-1" in [one.job_id for one in place.client.list_jobs(max_results=5)]
    assert place.client.list_jobs(state_filter="running", max_results=5).num_results == 0


def test_a_job_id_is_used_once(place):
    place.client.query("SELECT 1", job_id="once", job_retry=None).result()
    with pytest.raises(exceptions.Conflict, match="Already Exists: Job my-project:once"):
        place.client.query("SELECT 2", job_id="once", job_retry=None)
    assert [tuple(row) for row in place.client.get_job("once").result()] == [(1,)]
    with pytest.raises(exceptions.BadRequest, match="Invalid job ID"):
        place.client.query("SELECT 1", job_id="no/good", job_retry=None)
    with pytest.raises(exceptions.NotFound, match="Not found: Job"):
        place.client.get_job("nowhere")


def test_a_job_is_forgotten_with_its_answer(place):
    job = place.client.query("SELECT 1", job_id="forget-me", job_retry=None)
    job.result()
    place.client.delete_job_metadata("forget-me")
    with pytest.raises(exceptions.NotFound):
        place.client.get_job("forget-me")
    with pytest.raises(exceptions.NotFound):
        list(place.client.list_rows(job.destination))


SLOW = """WITH a AS (SELECT x FROM UNNEST(GENERATE_ARRAY(1, 100000)) AS x)
          SELECT SUM(p.x * q.x * r.x) AS s FROM a AS p, a AS q, a AS r WHERE p.x + q.x < r.x"""


def test_a_job_is_cancelled(place):
    job = place.client.query(SLOW, job_id="too-long", job_retry=None)
    assert not job.done()
    status, _, document = place.raw(
        "GET", f"/bigquery/v2/projects/{PROJECT}/queries/too-long?timeoutMs=50"
    )
    assert (status, document["jobComplete"]) == (200, False)
    assert "rows" not in document
    job.cancel()
    with pytest.raises(exceptions.GoogleAPICallError, match="cancelled"):
        job.result()
    job.reload()
    assert (job.state, job.error_result["reason"]) == ("DONE", "stopped")
    assert place.client.cancel_job("too-long").state == "DONE"


def test_a_job_ends_at_the_time_that_it_has(place):
    job = place.client.query(SLOW, job_config=config(job_timeout_ms=200), job_retry=None)
    with pytest.raises(exceptions.BadRequest, match=r"stopped after 0\.2 s"):
        job.result()


def test_waiting_for_answers_holds_up_nobody_else(place):
    """More waiting requests than the server has threads; a short one passes them."""
    job = place.client.query(SLOW, job_id="waited-for", job_retry=None)
    path = f"/bigquery/v2/projects/{PROJECT}/queries/waited-for?timeoutMs=60000"
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(place.raw("GET", path)[0]))
        for _ in range(60)
    ]
    for thread in threads:
        thread.start()
    begun_at = time.monotonic()
    assert place.client.get_job("waited-for").state == "RUNNING" or not answers
    assert time.monotonic() - begun_at < 30
    assert answers == []
    job.cancel()
    for thread in threads:
        thread.join()
    assert answers == [400] * 60


def test_jobs_that_write_to_one_table_wait_for_each_other_and_hold_up_no_query(place):
    table = filled(place, 3)
    target = TableId(PROJECT, table.dataset_id, "out")
    turn = place.server.app.state.bigquery.destinations.turn(target)
    options = config(destination=str(target), write_disposition="WRITE_APPEND")
    sql = f"SELECT id FROM {table.dataset_id}.events"
    with turn:
        jobs = [place.client.query(sql, job_config=options) for _ in range(6)]
        assert place.rows("SELECT 1 AS one") == [{"one": 1}]
        assert not any(job.done() for job in jobs)
    for job in jobs:
        job.result()
    assert len(ids(place, str(target))) == 18


def test_only_results_of_queries_are_paged(place):
    table = filled(place)
    job = place.client.copy_table(table, f"{PROJECT}.{table.dataset_id}.copy")
    job.result()
    status, _, document = place.raw("GET", f"/bigquery/v2/projects/{PROJECT}/queries/{job.job_id}")
    assert (status, error_of(document)[2]) == (400, "invalid")


WRONG = [
    ({}, "exactly one of"),
    ({"query": {"query": "SELECT 1"}, "copy": {"x": 1}}, "exactly one of"),
    ({"extract": {"sourceTable": {}}}, "extract"),
    ({"query": {"query": "SELECT 1", "tableDefinitions": {"x": {}}}}, "tableDefinitions"),
    ({"query": {"query": "SELECT 1", "timePartitioning": {"type": "DAY"}}}, "destinationTable"),
    ({"load": {"sourceUris": ["gs://b/f"], "sourceFormat": "PARQUET"}}, "Cloud Storage"),
    ({"copy": {"sourceTable": {"projectId": "p-p", "datasetId": "d", "tableId": "t"}}}, "destin"),
    (
        {
            "query": {
                "query": "SELECT 1",
                "writeDisposition": "WRITE_TRUNCATE_DATA",
                "destinationTable": {"projectId": PROJECT, "datasetId": "d", "tableId": "t"},
            }
        },
        "WRITE_TRUNCATE_DATA",
    ),
]


@pytest.mark.parametrize(("configuration", "word"), WRONG)
def test_what_no_job_here_does_is_refused_by_name(place, configuration, word):
    status, _, document = place.raw(
        "POST", f"/bigquery/v2/projects/{PROJECT}/jobs", {"configuration": configuration}
    )
    assert status == 400
    assert word in document["error"]["message"]


# -- what stays ----------------------------------------------------------------------------


def test_jobs_and_answers_outlive_the_server(own_place):
    table = filled(own_place)
    sql = f"SELECT id FROM {table.dataset_id}.events ORDER BY id"
    own_place.client.query(sql, job_id="kept", job_retry=None).result()
    own_place.client.query("SELECT nope", job_id="bad", job_retry=None)
    while own_place.client.get_job("bad").state != "DONE":
        pass
    folder = own_place.folder
    own_place.close()
    own_place.__init__(folder)
    found = own_place.client.get_job("kept")
    assert [row.id for row in found.result(page_size=3)] == list(range(10))
    assert own_place.client.get_job("bad").error_result["reason"] == "invalidQuery"
    with pytest.raises(exceptions.Conflict):
        own_place.client.query("SELECT 1", job_id="kept", job_retry=None)


def test_old_jobs_and_answers_go(own_place, monkeypatch):
    job = own_place.client.query("SELECT 1", job_retry=None)
    job.result()
    upkeep = own_place.server.app.state.bigquery.upkeep
    monkeypatch.setattr(results, "KEPT_BYTES_MAX", 0)
    upkeep.round()
    with pytest.raises(exceptions.NotFound, match="not kept any more"):
        list(own_place.client.get_job(job.job_id).result())
    monkeypatch.setattr(job_book, "KEPT_MAX", 0)
    upkeep.round()
    with pytest.raises(exceptions.NotFound, match="Not found: Job"):
        own_place.client.get_job(job.job_id)


def test_a_job_cut_short_stores_its_rows_once(own_place):
    """The server ends after some rows of a job are stored; the next one stores the others."""
    name = TableId(PROJECT, "target", "t")
    own_place.client.create_dataset("target")
    own_place.client.create_table(bigquery.Table(str(name), schema=[F("id", "INTEGER")]))
    real_put, calls = own_place.store.put, []

    def put(batch, *, timeout_seconds=None):
        calls.append(batch.count)
        if len(calls) == 2:
            threading.Thread(target=own_place.server.stop).start()
            stopping.wait(10)
        return real_put(batch, timeout_seconds=timeout_seconds)

    stopping = threading.Event()
    runner = own_place.server.app.state.bigquery.runner
    real_close = runner.close

    def close():
        with runner._lock:
            runner._closing = True
            for running in runner._running.values():
                running.cancel.set()
        stopping.set()
        real_close()

    runner.close = close
    own_place.store.put = put
    sql = "SELECT x AS id FROM UNNEST(GENERATE_ARRAY(1, 25000)) AS x"
    own_place.client.query(
        sql,
        job_id="cut-short",
        job_config=config(destination=str(name), write_disposition="WRITE_EMPTY"),
        job_retry=None,
    )
    assert stopping.wait(20)
    while own_place.server._service.running:
        pass
    stored = own_place.store.stats(name).rows
    assert 0 < stored < 25_000
    folder = own_place.folder
    own_place.close()
    own_place.__init__(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own_place.client.get_job("cut-short").result()
    assert own_place.client.get_job("cut-short").error_result is None
    (found,) = own_place.rows(f"SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS d FROM `{name}`")
    assert found == {"n": 25_000, "d": 25_000}
