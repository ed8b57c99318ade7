"""BigQuery in pipelines: Google's by Beam's connectors, and Beam's connectors on a local server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from datetime import UTC, date, datetime
from typing import ClassVar

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.io.gcp import bigquery as beam_bigquery
from beam_place import run_rows
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from eventmill.base.errors import UsageError
from eventmill.base.settings import ServerSettings
from eventmill.beam import EventsPipeline, ReadTable
from eventmill.beam.bigquery_staging import BigQueryStaging
from eventmill.beam.literals import with_literals
from eventmill.beam.sources import StoreSource
from eventmill.schema.table import Column, ColumnType, Mode, TableId
from eventmill.server.run import Server
from eventmill.store.local.store import LocalStore

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
FIELDS = [
    bigquery.SchemaField("id", "INTEGER"),
    bigquery.SchemaField("name", "STRING"),
]
PROGRAM = """
    import logging, sys
    import apache_beam as beam
    from apache_beam.io.gcp import bigquery
    {before}
    options = beam.options.pipeline_options.PipelineOptions(
        ["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"]
    )
    with beam.Pipeline(options=options) as pipeline:
        rows = pipeline | beam.Create([{{"id": n, "name": f"n{{n}}"}} for n in range(30)])
        rows | bigquery.WriteToBigQuery(
            "shop:till.orders",
            schema="id:INTEGER,name:STRING",
            method="STREAMING_INSERTS",
            create_disposition=bigquery.BigQueryDisposition.{create},
        )
    print("done")
"""


@pytest.fixture
def server(tmp_path):
    """A server without keys, on a store of its own."""
    store = LocalStore.open(str(tmp_path / "data"))
    running = Server(store, ServerSettings(port=0))
    running.start()
    running.stored = store
    yield running
    running.stop()
    store.close()


def client_of(server):
    return bigquery.Client(
        project="shop",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": server.url},
    )


def stream(server, folder, *, before="", create="CREATE_NEVER"):
    """Stream rows by a program of its own, with a key file that the server does not ask for."""
    with client_of(server) as client:
        client.create_dataset("till")
        if create == "CREATE_NEVER":
            client.create_table(bigquery.Table("shop.till.orders", schema=FIELDS))
    key_file = folder / "etl.json"
    made = [sys.executable, "-m", "eventmill", "key", "create", "etl", "--store", server.url]
    made += ["--grant", "editor:shop.till.*", "--google", "--project", "shop", "-o", str(key_file)]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    program = textwrap.dedent(PROGRAM.format(before=before.format(url=server.url), create=create))
    environ = {
        **os.environ,
        "BIGQUERY_EMULATOR_HOST": server.url,
        "GOOGLE_APPLICATION_CREDENTIALS": str(key_file),
        "NO_GCE_CHECK": "true",
    }
    told = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60
    )
    assert told.stdout.strip().endswith("done"), told.stderr[-3000:]
    return json.loads(key_file.read_text())


def stored(server):
    rows = server.stored.query("SELECT id, name FROM shop.till.orders ORDER BY id")
    return [(row["id"], row["name"]) for row in rows]


ORDERS = [(number, f"n{number}") for number in range(30)]


def test_streaming_inserts_reach_a_local_server_by_the_environment_alone(server, tmp_path):
    stream(server, tmp_path)
    assert stored(server) == ORDERS


def test_a_table_is_made_once_the_address_in_the_connector_is_changed(server, tmp_path):
    patch = (
        "from apache_beam.io.gcp.internal.clients.bigquery import BigqueryV2;"
        "BigqueryV2.BASE_URL = '{url}/bigquery/v2/'"
    )
    stream(server, tmp_path, before=patch, create="CREATE_IF_NEEDED")
    assert stored(server) == ORDERS


class Asked(beam.PTransform):
    """Stands in the place of ReadFromBigQuery, which reaches Google alone."""

    calls: ClassVar[list] = []

    def __init__(self, **arguments):
        super().__init__()
        self.calls.append(arguments)

    def expand(self, begin):
        return begin | beam.Create([{"id": 1}, {"id": 2}])


def test_googles_bigquery_is_read_by_beams_connector_with_literals(monkeypatch):
    monkeypatch.setattr(beam_bigquery, "ReadFromBigQuery", Asked)
    monkeypatch.setattr(Asked, "calls", [])
    pipeline = EventsPipeline([], store="bigquery://shop?location=EU")
    sql = "SELECT id FROM till.orders WHERE at < @slot_end"
    rows = [
        pipeline | ReadTable("till.orders"),
        pipeline
        | "asked" >> ReadTable("till.x", sql=sql, params={"slot_end": NOON}, method="DIRECT_READ"),
    ]
    found = run_rows(pipeline, rows=rows | beam.Flatten())
    assert len(found["rows"]) == 4
    assert found["counts"] == {"rows_read": 4}
    same = {"use_standard_sql": True, "project": "shop"}
    assert Asked.calls == [
        {"query": "SELECT * FROM `till.orders`", "method": "EXPORT", **same},
        {
            "query": "SELECT id FROM till.orders WHERE at < TIMESTAMP '2026-01-02 12:00:00.000000"
            "+00:00'",
            "method": "DIRECT_READ",
            "use_native_datetime": True,
            **same,
        },
    ]


def test_beams_own_connector_takes_those_arguments():
    for method in ("EXPORT", "DIRECT_READ"):
        pipeline = EventsPipeline(["--temp_location=gs://bucket/t"], store="bigquery://shop")
        rows = pipeline | ReadTable("till.orders", method=method)
        assert isinstance(rows, beam.PCollection)
    with pytest.raises(UsageError, match="EXPORT or DIRECT_READ"):
        ReadTable("till.orders", method="direct")


def test_another_endpoint_is_read_by_queries(server):
    with client_of(server) as client:
        client.create_dataset("till")
        table = client.create_table(bigquery.Table("shop.till.orders", schema=FIELDS))
        assert client.insert_rows_json(table, [{"id": 7, "name": "n"}]) == []
    pipeline = EventsPipeline([], store=f"bigquery://shop?endpoint={server.url}")
    rows = pipeline | ReadTable("till.orders", sql="SELECT id, name FROM till.orders")
    assert run_rows(pipeline, rows=rows)["rows"] == [{"id": 7, "name": "n"}]


COLUMNS = (Column("id", ColumnType.INTEGER), Column("name", ColumnType.STRING))


@pytest.mark.parametrize("fails", [False, True])
def test_the_staging_table_is_handed_over_and_dropped_whatever_becomes_of_it(server, fails):
    address = f"bigquery://shop?endpoint={server.url}"
    staging = BigQueryStaging(address, TableId("local", "till", "out"), "a-job-1", COLUMNS)
    assert str(staging.table) == "shop.till.out__a_job_1"
    handed = []

    def replace(rows):
        handed.append(rows)
        if fails:
            raise OSError("no")

    with client_of(server) as client:
        client.create_dataset("till")
        made = client.create_table(bigquery.Table(str(staging.table), schema=FIELDS))
        assert client.insert_rows_json(made, [{"id": 7, "name": "n"}]) == []
        if fails:
            with pytest.raises(OSError, match="no"):
                staging.swap(replace)
        else:
            staging.swap(replace)
        assert list(client.list_tables("till")) == []
    assert isinstance(handed[0], pa.Table)
    assert handed[0].to_pylist() == [{"id": 7, "name": "n"}]


def test_the_output_goes_through_load_jobs_that_replace_the_staging_table(monkeypatch):
    loads = []

    class Loaded(beam.PTransform):
        Method = beam_bigquery.WriteToBigQuery.Method

        def __init__(self, table, **arguments):
            super().__init__()
            loads.append((table, arguments))

        def expand(self, rows):
            return rows

    monkeypatch.setattr(beam_bigquery, "WriteToBigQuery", Loaded)
    columns = (*COLUMNS, Column("at", ColumnType.TIMESTAMP, Mode.REPEATED))
    staging = BigQueryStaging("bigquery://shop", TableId("local", "till", "out"), "j-1", columns)
    pipeline = EventsPipeline([])
    rows = pipeline | beam.Create([{"id": 1, "at": [NOON]}]) | staging.write()
    assert run_rows(pipeline, rows=rows)["rows"] == [
        {"id": 1, "at": ["2026-01-02T12:00:00.000000Z"]}
    ]
    ((table, arguments),) = loads
    assert table == "shop:till.out__j_1"
    assert arguments["method"] == "FILE_LOADS"
    assert arguments["write_disposition"] == "WRITE_TRUNCATE"
    assert [field["name"] for field in arguments["schema"]["fields"]] == ["id", "name", "at"]


@pytest.mark.parametrize(
    ("sql", "params", "text"),
    [
        ("SELECT @a, '@a', \"@a\" -- @a", {"a": 1}, "SELECT 1, '@a', \"@a\" -- @a"),
        ("SELECT @A + @a_b", {"a": True, "A_B": None}, "SELECT TRUE + NULL"),
        ("SELECT @a", {"a": "it's \\ @b"}, "SELECT 'it\\'s \\\\ @b'"),
        ("SELECT @a", {"a": date(2026, 1, 2)}, "SELECT DATE '2026-01-02'"),
        ("SELECT @a", {"a": datetime(2026, 1, 2)}, "SELECT DATETIME '2026-01-02 00:00:00.000000'"),
        ("SELECT `@a` FROM t", {}, "SELECT `@a` FROM t"),
    ],
)
def test_parameters_become_literals_and_nothing_else_changes(sql, params, text):
    assert with_literals(sql, params) == text


@pytest.mark.parametrize(
    ("params", "named"), [({}, "@a"), ({"a": 1.5}, "float"), ({"a": [1]}, "list")]
)
def test_a_parameter_that_has_no_literal_is_refused(params, named):
    with pytest.raises(UsageError, match=named):
        with_literals("SELECT @a", params)


@pytest.mark.parametrize(
    ("address", "is_google"),
    [
        ("bigquery://shop", True),
        ("bigquery://shop?location=EU&write_endpoint=x:1", True),
        ("bigquery://shop?endpoint=http://127.0.0.1:1", False),
        ("http://127.0.0.1:8484", False),
        ("./data", False),
    ],
)
def test_beams_connector_is_for_googles_bigquery_alone(address, is_google):
    assert StoreSource(address).is_google is is_google
    assert not is_google or StoreSource(address).project == "shop"
