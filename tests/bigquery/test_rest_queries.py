"""Queries, their answers and their pages, through Google's client."""

from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from bigquery_world import NOON, PROJECT, F, error_of
from google.api_core import exceptions
from google.cloud import bigquery


@pytest.fixture(scope="module")
def table(place):
    """A table with a hundred rows."""
    made = place.table()
    rows = [
        {
            "id": n,
            "name": f"name-{n % 7}",
            "at": 1_767_355_200 + n,
            "ctx": {"lat": n / 2, "tags": ["a"] * (n % 3)},
            "steps": [{"name": "build", "ok": n % 2 == 0}],
        }
        for n in range(100)
    ]
    assert place.client.insert_rows_json(made, rows) == []
    return made


def config(**options):
    return bigquery.QueryJobConfig(**options)


def test_a_query_by_each_way_of_asking(place, table):
    sql = f"SELECT COUNT(*) AS n FROM `{table.dataset_id}.events`"
    assert [row.n for row in place.client.query(sql).result()] == [100]
    assert [row.n for row in place.client.query_and_wait(sql)] == [100]
    api = place.client.query(sql, api_method="QUERY")
    assert [row.n for row in api.result()] == [100]


TABLE_NAMES = [
    "`{p}.{d}.events`",
    "`{p}`.{d}.events",
    "{p}.{d}.events",
    "{d}.events",
    "`{d}.events`",
    "`{d}`.`events`",
    "events",
    "`events`",
    "events AS e, e.steps AS s",
    "(SELECT * FROM events)",
]


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_a_table_has_many_names(place, table, name):
    written = name.format(p=PROJECT, d=table.dataset_id)
    default = config(default_dataset=f"{PROJECT}.{table.dataset_id}")
    sql = f"-- a comment; with ?\nSELECT COUNT(*) AS n FROM {written};"
    assert [row.n for row in place.client.query(sql, job_config=default).result()] == [100]


def test_a_name_of_with_is_no_table(place, table):
    default = config(default_dataset=f"{PROJECT}.{table.dataset_id}")
    sql = """WITH first AS (SELECT id FROM events WHERE id < 5), events AS (SELECT id FROM first)
             SELECT (SELECT COUNT(*) FROM first) AS a, (SELECT COUNT(*) FROM events) AS b"""
    assert [tuple(row) for row in place.client.query(sql, job_config=default).result()] == [(5, 5)]


PARAMETERS = [
    ("STRING", "it's", "it's"),
    ("INT64", 5, 5),
    ("FLOAT64", 1.5, 1.5),
    ("FLOAT64", float("inf"), float("inf")),
    ("BOOL", True, True),
    ("BYTES", b"\x00\xff", b"\x00\xff"),
    ("TIMESTAMP", NOON, NOON),
    ("DATE", date(2026, 1, 31), date(2026, 1, 31)),
    ("TIME", time(12, 30, 0, 5), time(12, 30, 0, 5)),
    ("DATETIME", datetime(2026, 1, 31, 12, 30), datetime(2026, 1, 31, 12, 30)),
    ("STRING", None, None),
]


@pytest.mark.parametrize(("kind", "given", "back"), PARAMETERS)
def test_named_and_positional_parameters(place, kind, given, back):
    named = config(query_parameters=[bigquery.ScalarQueryParameter("p", kind, given)])
    assert [row.x for row in place.client.query("SELECT @p AS x", job_config=named)] == [back]
    positional = config(query_parameters=[bigquery.ScalarQueryParameter(None, kind, given)])
    rows = list(place.client.query("SELECT '?' AS q, ? AS x -- ?", job_config=positional))
    assert [tuple(row) for row in rows] == [("?", back)]


def test_parameters_that_are_lists(place, table):
    options = config(
        query_parameters=[
            bigquery.ArrayQueryParameter("ids", "INT64", [1, 2, 200]),
            bigquery.ScalarQueryParameter("unused", "INT64", 1),
        ]
    )
    sql = f"SELECT id FROM {table.dataset_id}.events WHERE id IN UNNEST(@ids) ORDER BY id"
    assert [row.id for row in place.client.query(sql, job_config=options)] == [1, 2]


@pytest.mark.parametrize(
    ("kind", "value", "word"),
    [("STRUCT", None, "STRUCT"), ("NUMERIC", "1", "NUMERIC"), ("INT64", "x", "INT64")],
)
def test_a_parameter_that_cannot_be_is_refused_by_name(place, kind, value, word):
    body = {
        "query": "SELECT @p",
        "queryParameters": [
            {"name": "p", "parameterType": {"type": kind}, "parameterValue": {"value": value}}
        ],
    }
    status, _, document = place.raw("POST", f"/bigquery/v2/projects/{PROJECT}/queries", body)
    assert (status, error_of(document)[2]) == (400, "invalidQuery")
    assert word in document["error"]["message"]


def test_the_types_of_an_answer(place):
    sql = """SELECT 1 AS i, 1.5 AS f, TRUE AS b, 'x' AS s, b'x' AS y,
             TIMESTAMP '2026-01-02 12:00:00.5Z' AS t,
             DATE '2026-01-02' AS d, DATETIME '2026-01-02 12:00:00' AS dt, [1, 2] AS a,
             STRUCT('x' AS p, [STRUCT(1 AS q)] AS r) AS st, NULL AS n"""
    result = place.client.query(sql).result()
    assert [(f.name, f.field_type, f.mode) for f in result.schema] == [
        ("i", "INTEGER", "NULLABLE"),
        ("f", "FLOAT", "NULLABLE"),
        ("b", "BOOLEAN", "NULLABLE"),
        ("s", "STRING", "NULLABLE"),
        ("y", "BYTES", "NULLABLE"),
        ("t", "TIMESTAMP", "NULLABLE"),
        ("d", "DATE", "NULLABLE"),
        ("dt", "DATETIME", "NULLABLE"),
        ("a", "INTEGER", "REPEATED"),
        ("st", "RECORD", "NULLABLE"),
        ("n", "INTEGER", "NULLABLE"),
    ]
    (row,) = result
    assert dict(row) == {
        "i": 1,
        "f": 1.5,
        "b": True,
        "s": "x",
        "y": b"x",
        "t": datetime(2026, 1, 2, 12, 0, 0, 500_000, tzinfo=UTC),
        "d": date(2026, 1, 2),
        "dt": datetime(2026, 1, 2, 12),
        "a": [1, 2],
        "st": {"p": "x", "r": [{"q": 1}]},
        "n": None,
    }


def test_timestamps_are_written_as_the_client_asks(place):
    body = {"query": "SELECT TIMESTAMP '2026-01-02 12:00:00.123456Z' AS t"}
    for options, cell in [
        ({}, "1767355200.123456"),
        ({"formatOptions": {"useInt64Timestamp": True}}, "1767355200123456"),
    ]:
        status, _, document = place.raw(
            "POST", f"/bigquery/v2/projects/{PROJECT}/queries", {**body, **options}
        )
        assert status == 200
        assert document["rows"] == [{"f": [{"v": cell}]}]
    job = document["jobReference"]["jobId"]
    path = f"/bigquery/v2/projects/{PROJECT}/queries/{job}"
    assert place.raw("GET", path)[2]["rows"] == [{"f": [{"v": "1767355200.123456"}]}]
    path += "?formatOptions.useInt64Timestamp=true"
    assert place.raw("GET", path)[2]["rows"] == [{"f": [{"v": cell}]}]


def test_json_stays_json_through_plain_columns(place):
    table = place.table(
        [F("id", "INTEGER"), F("j", "JSON"), F("r", "RECORD", fields=[F("k", "JSON")])]
    )
    place.client.insert_rows_json(table, [{"id": 1, "j": '{"a": 1}', "r": {"k": "[2]"}}])
    name = f"{table.dataset_id}.events"
    for sql in (
        f"SELECT j, r.k FROM {name}",
        f"SELECT * EXCEPT (r, id), t.r.k FROM {name} AS t",
        f"WITH w AS (SELECT j, r FROM {name}) SELECT w.j, r.k AS k FROM w",
        f"SELECT x.j, x.k FROM (SELECT j, r.k AS k FROM {name}) AS x",
        f"SELECT j, r.k FROM {name} UNION ALL SELECT j, r.k FROM {name} WHERE FALSE",
    ):
        result = place.client.query(sql).result()
        assert [f.field_type for f in result.schema] == ["JSON", "JSON"], sql
        assert [tuple(row) for row in result] == [({"a": 1}, [2])], sql
    result = place.client.query(f"SELECT UPPER(r.k) AS k, r FROM {name}").result()
    assert [f.field_type for f in result.schema] == ["STRING", "RECORD"]
    assert result.schema[1].fields[0].field_type == "JSON"


def test_a_numeric_keeps_its_digits(place):
    table = place.table([F("n", "NUMERIC")])
    digits = Decimal("12345678901234567890123456789.123456789")
    assert place.client.insert_rows(table, [{"n": digits}, {"n": Decimal(10)}]) == []
    found = place.rows(f"SELECT n FROM {table.dataset_id}.events ORDER BY n DESC")
    assert [row["n"] for row in found] == [digits, Decimal(10)]


def test_an_answer_comes_in_pages(place, table):
    result = place.client.query(f"SELECT id FROM {table.dataset_id}.events ORDER BY id").result(
        page_size=7
    )
    assert result.total_rows == 100
    sizes = [page.num_items for page in result.pages]
    assert sizes == [7] * 14 + [2]
    part = place.client.query(f"SELECT id FROM {table.dataset_id}.events ORDER BY id")
    assert [row.id for row in part.result(start_index=95)] == [95, 96, 97, 98, 99]
    assert [row.id for row in part.result(max_results=3)] == [0, 1, 2]
    waited = place.client.query_and_wait(
        f"SELECT id FROM {table.dataset_id}.events ORDER BY id", page_size=30
    )
    assert [row.id for row in waited] == list(range(100))


def test_an_answer_without_rows_has_its_columns(place, table):
    result = place.client.query(f"SELECT * FROM {table.dataset_id}.events WHERE id < 0").result()
    assert (result.total_rows, list(result)) == (0, [])
    assert [f.name for f in result.schema] == [f.name for f in table.schema]


def test_an_answer_can_be_read_as_the_table_that_it_is(place, table):
    job = place.client.query(f"SELECT id FROM {table.dataset_id}.events ORDER BY id")
    job.result()
    found = place.client.get_table(job.destination)
    assert (found.num_rows, [f.name for f in found.schema]) == (100, ["id"])
    rows = place.client.list_rows(job.destination, selected_fields=found.schema[:0] or None)
    assert [row.id for row in rows] == list(range(100))
    assert len(list(place.client.list_rows(job.destination, max_results=5))) == 5


def test_rows_of_a_table_are_listed(place, table):
    rows = place.client.list_rows(table, page_size=9)
    assert sorted(row.id for row in rows) == list(range(100))
    assert rows.total_rows == 100
    assert len(list(place.client.list_rows(table, max_results=10))) == 10
    assert len(list(place.client.list_rows(table, start_index=90))) == 10
    chosen = [table.schema[2], table.schema[0]]
    first = next(iter(place.client.list_rows(table, selected_fields=chosen, max_results=1)))
    assert first["at"].timestamp() - first["id"] == 1_767_355_200


def test_pages_stay_whole_while_rows_come_in_and_are_compacted(own_place):
    table = own_place.table()
    send = own_place.client.insert_rows_json
    assert send(table, [{"id": n} for n in range(50)]) == []
    seen = []
    pages = own_place.client.list_rows(table, page_size=10).pages
    for number, page in enumerate(pages):
        seen += [row.id for row in page]
        if number < 3:
            assert send(table, [{"id": 1000 + number}]) == []
            own_place.store.seal()
    assert sorted(seen) == [*range(50), 1000, 1001, 1002]


def test_a_table_that_wants_a_filter_is_listed_and_not_queried_without(place):
    table = place.table(
        time_partitioning=bigquery.TimePartitioning(field="at"), require_partition_filter=True
    )
    place.client.insert_rows_json(table, [{"id": 1}, {"id": 2, "at": 1_767_355_200}])
    assert sorted(row.id for row in place.client.list_rows(table)) == [1, 2]
    with pytest.raises(exceptions.BadRequest, match="filter"):
        place.rows(f"SELECT id FROM {table.dataset_id}.events")
    since = f"SELECT id FROM {table.dataset_id}.events WHERE at > '2026-01-01'"
    assert place.rows(since) == [{"id": 2}]


def test_a_dry_run_tells_bytes_and_columns(place, table):
    sql = f"SELECT id, steps FROM {table.dataset_id}.events ORDER BY id;"
    job = place.client.query(sql, job_config=config(dry_run=True))
    assert (job.state, job.job_id) == ("DONE", None)
    assert job.total_bytes_processed > 1000
    assert [f.name for f in job.schema] == ["id", "steps"]
    assert [str(t) for t in job.referenced_tables] == [str(table.reference)]
    assert all(one.dry_run is not True for one in place.client.list_jobs())
    status, _, document = place.raw(
        "POST",
        f"/bigquery/v2/projects/{PROJECT}/queries",
        {"query": sql, "dryRun": True},
    )
    assert (status, int(document["totalBytesProcessed"])) == (200, job.total_bytes_processed)


def test_more_bytes_than_allowed_are_not_read(place, table):
    sql = f"SELECT COUNT(*) AS n FROM {table.dataset_id}.events"
    job = place.client.query(sql, job_config=config(maximum_bytes_billed=10))
    with pytest.raises(exceptions.GoogleAPICallError, match="Query exceeded limit for bytes") as e:
        job.result()
    assert e.value.errors[0]["reason"] == "bytesBilledLimitExceeded"
    job.reload()
    assert job.state == "DONE"
    assert place.rows(sql, maximum_bytes_billed=10**9) == [{"n": 100}]


FAULTY = [
    ("SELECT 1 +", "Syntax|syntax"),
    ("SELECT nope", "nope"),
    ("SELEKT 1", "SELEKT"),
    ("SELECT 1; SELECT 2", "one statement"),
    ("DELETE FROM d.t WHERE TRUE", "DELETE"),
    ("DECLARE x INT64", "DECLARE"),
    ("SELECT * FROM `d.t*`", "wildcard"),
    ("SELECT * FROM d.INFORMATION_SCHEMA.TABLES", "INFORMATION_SCHEMA"),
    ("SELECT @missing", "missing"),
    ("SELECT * FROM t", "neither a table nor a name"),
    ("-- nothing", "empty"),
]


@pytest.mark.parametrize(("sql", "word"), FAULTY)
def test_sql_that_cannot_be_answered_is_told_by_the_job(place, sql, word):
    job = place.client.query(sql, job_retry=None)
    with pytest.raises(exceptions.BadRequest, match=word) as caught:
        job.result()
    assert caught.value.errors[0]["reason"] == "invalidQuery"
    assert caught.value.errors[0]["location"] == "query"
    job.reload()
    assert job.state == "DONE"
    assert job.error_result["reason"] == "invalidQuery"
    with pytest.raises(exceptions.BadRequest):
        place.client.query(sql, job_config=config(dry_run=True))
    with pytest.raises(exceptions.BadRequest):
        place.client.query_and_wait(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id,\n  UNKNOWN_FUNCTION(id) FROM {d}.events",
        "SELECT id, ? AS p,\n  UNKNOWN_FUNCTION(id) FROM events, {d}.events AS other",
    ],
)
def test_a_place_in_a_message_is_one_in_the_text_that_was_sent(place, table, sql):
    parameter = [bigquery.ScalarQueryParameter(None, "INT64", 1)] if "?" in sql else []
    options = config(default_dataset=f"{PROJECT}.{table.dataset_id}", query_parameters=parameter)
    job = place.client.query(sql.format(d=table.dataset_id), job_config=options)
    with pytest.raises(exceptions.BadRequest, match=r"at \[2:3\]"):
        job.result()


def test_a_missing_table_is_not_found(place, table):
    with pytest.raises(exceptions.NotFound, match="Not found") as caught:
        place.client.query(f"SELECT * FROM {table.dataset_id}.evnts").result()
    assert "did you mean" not in str(caught.value)


def test_legacy_sql_and_other_dialects_of_an_answer_are_refused_by_name(place):
    with pytest.raises(exceptions.BadRequest, match="legacy SQL"):
        place.client.query("SELECT 1", job_config=config(use_legacy_sql=True))
    status, _, document = place.raw(
        "POST",
        f"/bigquery/v2/projects/{PROJECT}/queries",
        {"query": "SELECT 1", "queryResultsFormat": "ARROW"},
    )
    assert (status, error_of(document)[2]) == (400, "notImplemented")
    status, _, document = place.raw(
        "POST",
        f"/bigquery/v2/projects/{PROJECT}/queries",
        {"query": "SELECT 1", "createSession": True},
    )
    assert "createSession" in document["error"]["message"]


def test_a_request_id_runs_its_query_once(place):
    body = {"query": "SELECT 1 AS x", "requestId": "the-same"}
    path = f"/bigquery/v2/projects/{PROJECT}/queries"
    first, second = (place.raw("POST", path, body)[2] for _ in range(2))
    assert first["jobReference"] == second["jobReference"]
    assert first["rows"] == second["rows"] == [{"f": [{"v": "1"}]}]
    other = place.raw("POST", path, {**body, "requestId": "another"})[2]
    assert other["jobReference"] != first["jobReference"]


@pytest.mark.filterwarnings("ignore:Retrieving DataFrames via:PendingDeprecationWarning")
def test_dataframes_without_the_storage_api(place, table):
    sql = f"SELECT id, at FROM {table.dataset_id}.events ORDER BY id"
    frame = place.client.query(sql).result().to_dataframe(create_bqstorage_client=False)
    assert list(frame["id"]) == list(range(100))
    assert str(frame["at"].dt.tz) == "UTC"
    arrow = place.client.query(sql).result().to_arrow(create_bqstorage_client=False)
    assert arrow.num_rows == 100
