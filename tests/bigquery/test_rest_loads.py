"""Load jobs: JSON, Parquet and data frames, whole and piece by piece."""

import gzip
import io
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bigquery_world import EVENT_FIELDS, PROJECT, F, error_of
from google.api_core import exceptions
from google.cloud import bigquery

from eventmill.server.bigquery import load_sources, uploads

JSON_LINES = bigquery.SourceFormat.NEWLINE_DELIMITED_JSON
PARQUET = bigquery.SourceFormat.PARQUET
_count = iter(range(10_000))


@pytest.fixture
def target(place):
    """The name of a table that is not there, in a dataset that is."""
    dataset = f"loads{next(_count)}"
    place.client.create_dataset(dataset)
    return f"{PROJECT}.{dataset}.t"


def config(source_format=JSON_LINES, **options):
    return bigquery.LoadJobConfig(source_format=source_format, **options)


def lines(rows):
    return io.BytesIO(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def all_rows(place, name):
    return place.rows(f"SELECT * FROM `{name}`")


def test_json_rows_with_a_schema(place, target):
    rows = [{"id": n, "ctx": {"lat": n / 2, "tags": ["a"]}, "at": 1_767_355_200} for n in range(5)]
    job = place.client.load_table_from_json(
        rows,
        target,
        job_config=config(
            schema=EVENT_FIELDS,
            clustering_fields=["name"],
            time_partitioning=bigquery.TimePartitioning(field="at"),
            destination_table_description="loaded",
            labels={"team": "ci"},
        ),
    )
    job.result()
    assert (job.output_rows, job.input_files, job.state) == (5, 1, "DONE")
    made = place.client.get_table(target)
    assert (made.num_rows, made.description, made.clustering_fields) == (5, "loaded", ["name"])
    assert [f.to_api_repr() for f in made.schema] == [f.to_api_repr() for f in EVENT_FIELDS]
    assert sorted(row["id"] for row in all_rows(place, target)) == list(range(5))


def test_json_rows_whose_columns_are_told_by_themselves(place, target):
    rows = [
        {"n": 1, "f": 1.5, "b": True, "s": "x", "t": "2026-01-02T12:00:00Z", "e": None},
        {"n": 2, "f": 2, "r": {"x": [1, 2]}, "many": [{"y": "z"}]},
    ]
    place.client.load_table_from_json(rows, target).result()
    made = place.client.get_table(target)
    assert {f.name: (f.field_type, f.mode) for f in made.schema} == {
        "n": ("INTEGER", "NULLABLE"),
        "f": ("FLOAT", "NULLABLE"),
        "b": ("BOOLEAN", "NULLABLE"),
        "s": ("STRING", "NULLABLE"),
        "t": ("TIMESTAMP", "NULLABLE"),
        "e": ("STRING", "NULLABLE"),
        "r": ("RECORD", "NULLABLE"),
        "many": ("RECORD", "REPEATED"),
    }
    found = sorted(all_rows(place, target), key=lambda row: row["n"])
    assert found[0]["t"] == datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert found[1]["r"] == {"x": [1, 2]}
    # The table is there now, and its columns are what they are.
    place.client.load_table_from_json([{"n": 3}], target).result()
    assert place.client.get_table(target).num_rows == 3
    with pytest.raises(exceptions.BadRequest, match="no such field: other"):
        place.client.load_table_from_json([{"n": 4, "other": 1}], target).result()


def test_a_bad_row_stops_the_job_with_nothing_stored(place, target):
    rows = [{"id": 1}, {"id": "x"}, {"id": 3, "nmae": 1}]
    job = place.client.load_table_from_json(rows, target, job_config=config(schema=EVENT_FIELDS))
    with pytest.raises(exceptions.BadRequest, match=r"row 2, field id.*nothing was stored"):
        job.result()
    assert job.error_result["reason"] == "invalid"
    assert job.error_result["location"] == "id"
    assert place.client.get_table(target).num_rows == 0


def test_some_bad_rows_may_be_allowed_and_are_told(place, target):
    rows = [{"id": 1}, {"id": "x"}, {"id": 3, "nmae": 1}]
    job = place.client.load_table_from_json(
        rows, target, job_config=config(schema=EVENT_FIELDS, max_bad_records=2)
    )
    job.result()
    assert job.output_rows == 1
    assert [error["location"] for error in job.errors] == ["id", "nmae"]
    ignoring = config(schema=EVENT_FIELDS, ignore_unknown_values=True)
    place.client.load_table_from_json(rows[2:], target, job_config=ignoring).result()
    assert sorted(row["id"] for row in all_rows(place, target)) == [1, 3]


def test_lines_that_are_no_json(place, target):
    for content, word in [(b'{"id": 1}\n{', "not JSON"), (b"[1]\n", "JSON object")]:
        job = place.client.load_table_from_file(
            io.BytesIO(content), target, job_config=config(schema=EVENT_FIELDS)
        )
        with pytest.raises(exceptions.BadRequest, match=word):
            job.result()
    with pytest.raises(exceptions.BadRequest, match="no rows"):
        place.client.load_table_from_file(
            io.BytesIO(b"\n\n"), f"{target}2", job_config=config(autodetect=True)
        ).result()


def test_write_dispositions(place, target):
    rows = [{"id": 1}]
    place.client.load_table_from_json(rows, target, job_config=config(schema=EVENT_FIELDS)).result()
    empty = config(schema=EVENT_FIELDS, write_disposition="WRITE_EMPTY")
    with pytest.raises(exceptions.Conflict, match="WRITE_EMPTY"):
        place.client.load_table_from_json(rows, target, job_config=empty).result()
    truncate = config(schema=EVENT_FIELDS, write_disposition="WRITE_TRUNCATE")
    with pytest.raises(exceptions.GoogleAPICallError, match="WRITE_TRUNCATE"):
        place.client.load_table_from_json(rows, target, job_config=truncate).result()
    never = config(schema=EVENT_FIELDS, create_disposition="CREATE_NEVER")
    with pytest.raises(exceptions.NotFound):
        place.client.load_table_from_json(rows, f"{target}2", job_config=never).result()
    assert place.client.get_table(target).num_rows == 1


def test_columns_are_added_where_the_job_says_so(place, target):
    place.client.load_table_from_json(
        [{"id": 1}], target, job_config=config(schema=EVENT_FIELDS)
    ).result()
    wider = [F("id", "INTEGER"), *EVENT_FIELDS[1:], F("added", "STRING")]
    plain = config(schema=wider)
    with pytest.raises(exceptions.BadRequest, match=r"Cannot add fields \(field: added\)"):
        place.client.load_table_from_json([{"id": 2}], target, job_config=plain).result()
    adding = config(schema=wider, schema_update_options=["ALLOW_FIELD_ADDITION"])
    place.client.load_table_from_json([{"id": 2, "added": "x"}], target, job_config=adding).result()
    schema = place.client.get_table(target).schema
    assert (schema[-1].name, schema[0].mode) == ("added", "REQUIRED")
    relaxing = config(
        schema=wider, schema_update_options=["ALLOW_FIELD_ADDITION", "ALLOW_FIELD_RELAXATION"]
    )
    place.client.load_table_from_json([{"added": "y"}], target, job_config=relaxing).result()
    assert place.client.get_table(target).schema[0].mode == "NULLABLE"
    assert place.client.get_table(target).num_rows == 3


PARQUET_TABLE = pa.table(
    {
        "i": pa.array([1, None], pa.int32()),
        "f": pa.array([1.5, None], pa.float32()),
        "b": [True, None],
        "s": ["x", None],
        "y": [b"\x00", None],
        "t": pa.array([datetime(2026, 1, 2, 12, tzinfo=UTC), None], pa.timestamp("ns", tz="UTC")),
        "dt": pa.array([datetime(2026, 1, 2, 12), None], pa.timestamp("ms")),
        "d": [date(2026, 1, 2), None],
        "tm": pa.array([time(12, 0, 0, 5), None], pa.time64("us")),
        "n": pa.array([Decimal("1.25"), None], pa.decimal128(38, 9)),
        "l": [[1, 2], None],
        "r": [{"x": "a", "z": [{"w": 1}]}, None],
        "c": pa.array(["red", None]).dictionary_encode(),
    }
)


def parquet(table):
    file = io.BytesIO()
    pq.write_table(table, file)
    file.seek(0)
    return file


def test_parquet_makes_its_table(place, target):
    job = place.client.load_table_from_file(
        parquet(PARQUET_TABLE), target, job_config=config(PARQUET)
    )
    job.result()
    assert job.output_rows == 2
    types = [(f.name, f.field_type, f.mode) for f in place.client.get_table(target).schema]
    assert types == [
        ("i", "INTEGER", "NULLABLE"),
        ("f", "FLOAT", "NULLABLE"),
        ("b", "BOOLEAN", "NULLABLE"),
        ("s", "STRING", "NULLABLE"),
        ("y", "BYTES", "NULLABLE"),
        ("t", "TIMESTAMP", "NULLABLE"),
        ("dt", "DATETIME", "NULLABLE"),
        ("d", "DATE", "NULLABLE"),
        ("tm", "TIME", "NULLABLE"),
        ("n", "NUMERIC", "NULLABLE"),
        ("l", "INTEGER", "REPEATED"),
        ("r", "RECORD", "NULLABLE"),
        ("c", "STRING", "NULLABLE"),
    ]
    full, bare = sorted(all_rows(place, target), key=lambda row: row["i"] is None)
    assert full == {
        "i": 1,
        "f": 1.5,
        "b": True,
        "s": "x",
        "y": b"\x00",
        "t": datetime(2026, 1, 2, 12, tzinfo=UTC),
        "dt": datetime(2026, 1, 2, 12),
        "d": date(2026, 1, 2),
        "tm": time(12, 0, 0, 5),
        "n": Decimal("1.25"),
        "l": [1, 2],
        "r": {"x": "a", "z": [{"w": 1}]},
        "c": "red",
    }
    assert bare == {**dict.fromkeys(full), "l": []}


def test_what_is_no_parquet(place, target):
    job = place.client.load_table_from_file(
        io.BytesIO(b"PAR1 not"), target, job_config=config(PARQUET)
    )
    with pytest.raises(exceptions.BadRequest, match="not Parquet"):
        job.result()


@pytest.mark.filterwarnings("ignore:Loading DataFrames via:PendingDeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_data_frames(place, target):
    frame = pandas.DataFrame(
        {
            "id": [1, 2],
            "name": ["a", None],
            "at": pandas.to_datetime(["2026-01-02T12:00:00Z", None], utc=True),
        }
    )
    place.client.load_table_from_dataframe(frame, target).result()
    place.client.load_table_from_dataframe(frame, target).result()
    found = sorted(all_rows(place, target), key=lambda row: row["id"])
    assert found[0] == {"id": 1, "name": "a", "at": datetime(2026, 1, 2, 12, tzinfo=UTC)}
    assert found[3] == {"id": 2, "name": None, "at": None}


def test_compressed_json(place, target):
    content = gzip.compress(lines([{"id": 1}, {"id": 2}]).read())
    options = config(schema=EVENT_FIELDS)
    place.client.load_table_from_file(io.BytesIO(content), target, job_config=options).result()
    assert place.client.get_table(target).num_rows == 2
    with pytest.raises(exceptions.BadRequest, match="cannot be read"):
        place.client.load_table_from_file(
            io.BytesIO(content[:-6]), target, job_config=options
        ).result()


def test_a_resumable_upload_in_pieces(place, target, monkeypatch):
    monkeypatch.setattr("google.cloud.bigquery.client._DEFAULT_CHUNKSIZE", 256 * 1024)
    rows = [{"id": n, "name": "x" * 1000} for n in range(2_000)]
    options = config(schema=EVENT_FIELDS)
    job = place.client.load_table_from_file(lines(rows), target, job_config=options, size=None)
    job.result()
    assert job.output_rows == 2_000
    assert place.client.get_table(target).num_rows == 2_000


# -- the protocol of uploads, piece by piece -----------------------------------------------


def begin(place, target, **more):
    project, dataset, table = target.split(".")
    document = {
        "configuration": {
            "load": {
                "sourceFormat": "NEWLINE_DELIMITED_JSON",
                "schema": {"fields": [{"name": "id", "type": "INTEGER"}]},
                "destinationTable": {
                    "projectId": project,
                    "datasetId": dataset,
                    "tableId": table,
                },
                **more,
            }
        }
    }
    path = f"/upload/bigquery/v2/projects/{PROJECT}/jobs?uploadType=resumable"
    status, headers, answer = place.raw("POST", path, document)
    assert status == 200, answer
    return headers["location"].removeprefix(place.url)


def put(place, path, content, content_range):
    status, headers, document = place.raw("PUT", path, content, {"Content-Range": content_range})
    return status, headers.get("range"), document


def finish(place, document):
    job = place.client.get_job(document["jobReference"]["jobId"])
    job.result()
    return job


def test_an_upload_goes_on_where_it_stopped(own_place):
    own_place.client.create_dataset("d")
    content = b'{"id": 1}\n{"id": 2}\n{"id": 3}\n'
    path = begin(own_place, f"{PROJECT}.d.t")
    assert put(own_place, path, b"", "bytes */30") == (308, None, "")
    assert put(own_place, path, content[:10], "bytes 0-9/*") == (308, "bytes=0-9", "")
    folder = own_place.folder
    own_place.close()
    own_place.__init__(folder)  # the upload outlives the server
    assert put(own_place, path, b"", "bytes */30")[:2] == (308, "bytes=0-9")
    # A piece whose answer was lost is sent again, with more behind it.
    assert put(own_place, path, content[5:20], "bytes 5-19/30")[:2] == (308, "bytes=0-19")
    status, _, document = put(own_place, path, content[25:], "bytes 25-29/30")
    assert (status, error_of(document)[2]) == (400, "invalid")
    status, _, document = put(own_place, path, content[20:], "bytes 20-29/30")
    assert status == 200
    assert finish(own_place, document).output_rows == 3
    # So the last one is, when its answer was lost: the job is told again, and not begun again.
    for again, span in ((content[20:], "bytes 20-29/30"), (b"", "bytes */30")):
        status, _, told = put(own_place, path, again, span)
        assert (status, told["jobReference"]) == (200, document["jobReference"])
    assert len(list(own_place.client.list_jobs())) == 1
    assert put(own_place, path.replace("upload_id=", "upload_id=0"), b"", "bytes */30")[0] == 404


def test_an_upload_is_given_up(place, target):
    path = begin(place, target)
    assert place.raw("DELETE", path)[0] == 499
    assert put(place, path, b"{}", "bytes 0-1/2")[0] == 404
    for wrong in ("0" * 32, "../../surface", ""):
        name = path.split("upload_id=")[0] + f"upload_id={wrong}"
        assert put(place, name, b"{}", "bytes 0-1/2")[0] == 404


def test_a_file_that_is_too_large_is_refused_before_it_is_read(place, target, monkeypatch):
    monkeypatch.setattr(uploads, "UPLOAD_BYTES_MAX", 100)
    path = begin(place, target)
    status, _, document = put(place, path, b"x" * 50, "bytes 0-49/500")
    assert (status, error_of(document)[0]) == (413, 413)
    status, _, document = put(place, path, b"x" * 150, "bytes 0-149/*")
    assert (status, error_of(document)[0]) == (413, 413)
    monkeypatch.setattr(load_sources, "_LINE_BYTES_MAX", 20)
    status, _, document = put(place, path, b'{"id": 1,           }', "bytes 0-20/21")
    with pytest.raises(exceptions.BadRequest, match="line of the file"):
        finish(place, document)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/related", b"{}"),
        ("multipart/related; boundary=b", b"--b\r\n\r\n{}\r\n--b--"),
        ("multipart/related; boundary=b", b"--b\r\n\r\nno json\r\n--b\r\n\r\nx\r\n--b--"),
        ("multipart/related; boundary=b", b"--b\r\n\r\n[]\r\n--b\r\n\r\nx\r\n--b--"),
        ("multipart/related; boundary=b", b"--b no end of head --b --b--"),
        ("multipart/related; boundary=b", b'--b\r\n\r\n{"a": 1}\r\n--b\r\n\r\nx\r\n--b--'),
    ],
)
def test_a_multipart_body_that_makes_no_sense_is_told(place, content_type, body):
    path = f"/upload/bigquery/v2/projects/{PROJECT}/jobs?uploadType=multipart"
    status, _, document = place.raw("POST", path, body, {"Content-Type": content_type})
    assert (status, error_of(document)[2]) == (400, "invalid")


WRONG = [
    ({"sourceFormat": "CSV"}, "CSV"),
    ({"sourceFormat": "AVRO"}, "AVRO"),
    ({"sourceFormat": "PARQUET", "hivePartitioningOptions": {"mode": "AUTO"}}, "hivePart"),
    ({"sourceFormat": "PARQUET", "projectionFields": ["x"]}, "projectionFields"),
    ({"sourceFormat": "PARQUET", "writeDisposition": "WRITE_SOMEHOW"}, "WRITE_SOMEHOW"),
]


@pytest.mark.parametrize(("options", "word"), WRONG)
def test_what_no_load_here_does_is_refused_by_name(place, target, options, word):
    project, dataset, table = target.split(".")
    load = {
        "destinationTable": {"projectId": project, "datasetId": dataset, "tableId": table},
        **options,
    }
    path = f"/upload/bigquery/v2/projects/{PROJECT}/jobs?uploadType=resumable"
    status, _, document = place.raw("POST", path, {"configuration": {"load": load}})
    assert (status, error_of(document)[2]) == (400, "notImplemented")
    assert word in document["error"]["message"]
