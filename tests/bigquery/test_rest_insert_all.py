"""Streaming rows into tables, through Google's client."""

import gzip
import json
import threading
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from bigquery_world import EVENT_FIELDS, NOON, PROJECT, F, error_of, path_of
from google.api_core import exceptions
from google.cloud import bigquery

from eventmill.base.metrics import Metric
from eventmill.schema.table import TableId

EVERY_TYPE = [
    F("an_integer", "INTEGER"),
    F("a_float", "FLOAT"),
    F("a_boolean", "BOOLEAN"),
    F("a_string", "STRING"),
    F("some_bytes", "BYTES"),
    F("a_timestamp", "TIMESTAMP"),
    F("a_date", "DATE"),
    F("a_time", "TIME"),
    F("a_datetime", "DATETIME"),
    F("a_numeric", "NUMERIC"),
    F("a_json", "JSON"),
    F("a_place", "GEOGRAPHY"),
    F("a_record", "RECORD", fields=[F("x", "INTEGER"), F("y", "STRING", "REPEATED")]),
    F("many", "RECORD", "REPEATED", fields=[F("z", "TIMESTAMP")]),
]
FULL = {
    "an_integer": -(2**63),
    "a_float": 1.5,
    "a_boolean": False,
    "a_string": "häß\n",
    "some_bytes": b"\x00\xff",
    "a_timestamp": NOON,
    "a_date": date(2026, 1, 31),
    "a_time": time(12, 30, 0, 5),
    "a_datetime": datetime(2026, 1, 31, 12, 30),
    "a_numeric": Decimal("-12345678901234567890.123456789"),
    "a_json": {"a": [1, None, "x"]},
    "a_place": "POINT(1 2)",
    "a_record": {"x": 1, "y": ["a", "b"]},
    "many": [{"z": NOON}, {"z": None}],
}


def insert(place, table, rows, **more):
    """Send entries as they are; return (status, document)."""
    status, _, document = place.raw(
        "POST", f"/bigquery/v2{path_of(table)}/insertAll", {"rows": rows, **more}
    )
    return status, document


def count(place, table):
    return place.client.get_table(table).num_rows


@pytest.mark.filterwarnings("ignore:Unknown type 'GEOGRAPHY'")
def test_every_type_comes_back_as_it_went(place):
    table = place.table(EVERY_TYPE)
    empty = dict.fromkeys(FULL)
    assert place.client.insert_rows(table, [FULL, {}]) == []
    (full,) = place.rows(f"SELECT * FROM {table.dataset_id}.events WHERE a_string IS NOT NULL")
    assert full == FULL
    (bare,) = place.rows(f"SELECT * FROM {table.dataset_id}.events WHERE a_string IS NULL")
    assert bare == {**empty, "many": []}
    listed = [dict(row) for row in place.client.list_rows(table)]
    assert sorted(listed, key=lambda row: row["an_integer"] is None) == [full, bare]
    types = [f.field_type for f in place.client.list_rows(table).schema]
    assert types == [f.field_type for f in EVERY_TYPE]


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("2026-01-02T12:00:00.123456Z", NOON),
        ("2026-01-02 12:00:00.123456 UTC", NOON),
        ("2026-01-02 12:00:00.123456", NOON),
        ("2026-01-02T14:00:00.123456+02:00", NOON),
        ("2026-01-02 14:00:00.123456+02", NOON),
        (NOON.timestamp(), NOON),
        (str(NOON.timestamp()), NOON),
        (1_767_355_200, datetime(2026, 1, 2, 12, tzinfo=UTC)),
        ("2026-1-2", datetime(2026, 1, 2, tzinfo=UTC)),
        (-62_135_596_800, datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_moments_are_written_in_many_ways(place, value, meant):
    table = place.table()
    assert place.client.insert_rows_json(table, [{"id": 1, "at": value}]) == []
    assert place.rows(f"SELECT at FROM {table.dataset_id}.events") == [{"at": meant}]


@pytest.mark.parametrize("value", [1_767_355_200_000, 1e18, "noon", "2026-13-01", True, {}, "nan"])
def test_a_number_of_milliseconds_is_no_moment(place, value):
    table = place.table()
    (error,) = place.client.insert_rows_json(table, [{"id": 1, "at": value}])
    assert (error["index"], error["errors"][0]["location"]) == (0, "at")
    assert count(place, table) == 0


def test_texts_that_bigquery_takes_for_numbers_and_truths(place):
    table = place.table([F("i", "INTEGER"), F("f", "FLOAT"), F("b", "BOOLEAN"), F("n", "NUMERIC")])
    rows = [
        {"i": "5", "f": "1.5", "b": "TRUE", "n": 1.25},
        {"i": 6.0, "f": "NaN", "b": "false", "n": "1e3"},
        {"i": None, "f": "-inf", "b": True, "n": 7},
    ]
    assert place.client.insert_rows_json(table, rows) == []
    found = place.rows(f"SELECT i, f, b, n FROM {table.dataset_id}.events ORDER BY n")
    assert [(r["i"], r["b"], r["n"]) for r in found] == [
        (5, True, Decimal("1.25")),
        (None, True, Decimal(7)),
        (6, False, Decimal(1000)),
    ]
    assert [str(r["f"]) for r in found] == ["1.5", "-inf", "nan"]


BAD = [
    ({"id": 1, "nmae": "x"}, "nmae", "no such field: nmae"),
    ({"id": 1, "ctx": {"lat": "north"}}, "ctx.lat", "number"),
    ({"id": 1, "ctx": {"lon": 1}}, "ctx.lon", "no such field: lon"),
    ({"id": 1, "steps": [{"name": "a"}, {"ok": "maybe"}]}, "steps[1].ok", "true or false"),
    ({"id": 1, "steps": {"name": "a"}}, "steps", "list"),
    ({"id": 1, "ctx": []}, "ctx", "object"),
    ({"id": 1, "ctx": {"tags": [None]}}, "ctx.tags[0]", "null"),
    ({"name": "x"}, "id", "required"),
    ({"id": 1, "name": 5}, "name", "string"),
    ({"id": 2**63}, "id", "outside"),
    ({"id": 1.5}, "id", "integer"),
]


@pytest.mark.parametrize(("row", "location", "word"), BAD, ids=[str(b[1]) for b in BAD])
def test_a_bad_row_is_named_and_stops_its_neighbours(place, row, location, word):
    table = place.table()
    errors = place.client.insert_rows_json(table, [{"id": 1}, row, {"id": 3}])
    assert [error["index"] for error in errors] == [0, 1, 2]
    assert [error["errors"][0]["reason"] for error in errors] == ["stopped", "invalid", "stopped"]
    assert errors[1]["errors"][0]["location"] == location
    assert word in errors[1]["errors"][0]["message"]
    assert count(place, table) == 0


def test_with_skip_invalid_rows_the_good_ones_go_in(place):
    table = place.table()
    rows = [{"id": 1}, {"id": "x"}, {"id": 3}]
    errors = place.client.insert_rows_json(table, rows, skip_invalid_rows=True)
    assert [(e["index"], e["errors"][0]["reason"]) for e in errors] == [(1, "invalid")]
    ids = place.rows(f"SELECT id FROM {table.dataset_id}.events ORDER BY id")
    assert [row["id"] for row in ids] == [1, 3]


def test_a_refused_row_is_handed_back_and_not_kept(place):
    table = place.table()
    place.client.insert_rows_json(table, [{"id": "x"}])
    kept = place.store.query(
        f"SELECT COUNT(*) AS n FROM eventmill.quarantine WHERE table_name = '{table.project}."
        f"{table.dataset_id}.events'"
    )
    assert [row["n"] for row in kept] == [0]
    name = f"{PROJECT}.{table.dataset_id}.events"
    assert place.server.app.state.metrics.value(Metric.EVENTS, name, "rejected") == 1


def test_with_ignore_unknown_values_unknown_names_are_left_out(place):
    table = place.table()
    row = {"id": 1, "x": 1, "ctx": {"lat": 1.0, "y": 2}, "steps": [{"name": "a", "z": 3}]}
    assert place.client.insert_rows_json(table, [row], ignore_unknown_values=True) == []
    errors = place.client.insert_rows_json(table, [{"id": "x"}], ignore_unknown_values=True)
    assert errors[0]["errors"][0]["location"] == "id"
    (found,) = place.rows(f"SELECT ctx, steps FROM {table.dataset_id}.events")
    assert found == {"ctx": {"lat": 1.0, "tags": []}, "steps": [{"name": "a", "ok": None}]}


def test_an_insert_id_is_stored_once_within_and_across_requests(place):
    table = place.table()
    rows, ids = [{"id": n} for n in range(4)], ["a", "b", "a", "c"]
    assert place.client.insert_rows_json(table, rows, row_ids=ids) == []
    assert count(place, table) == 3
    assert place.client.insert_rows_json(table, rows, row_ids=ids) == []
    assert count(place, table) == 3


def test_an_insert_id_is_remembered_over_a_restart(own_place):
    table = own_place.table()
    assert own_place.client.insert_rows_json(table, [{"id": 1}], row_ids=["a"]) == []
    folder = own_place.folder
    own_place.close()
    own_place.__init__(folder)
    assert own_place.client.insert_rows_json(table, [{"id": 1}], row_ids=["a"]) == []
    assert own_place.client.insert_rows_json(table, [{"id": 1}], row_ids=["b"]) == []
    assert count(own_place, table) == 2


def test_rows_without_an_insert_id_are_all_stored(place):
    table = place.table()
    rows = [{"id": 1}, {"id": 1}]
    disabled = bigquery.AutoRowIDs.DISABLED
    assert place.client.insert_rows_json(table, rows, row_ids=disabled) == []
    assert (
        insert(place, table, [{"json": {"id": 1}}, {"insertId": "", "json": {"id": 1}}])[0] == 200
    )
    assert count(place, table) == 4


def test_bad_insert_ids_and_entries_are_faults_of_their_row(place):
    table = place.table()
    entries = [
        {"insertId": "x" * 129, "json": {"id": 1}},
        {"insertId": 5, "json": {"id": 1}},
        {"insertId": "no row"},
        "no object",
        {"insertId": "row is a list", "json": []},
        {"insertId": "x" * 128, "json": {"id": 1}},
    ]
    status, document = insert(place, table, entries, skipInvalidRows=True)
    assert status == 200
    assert [error["index"] for error in document["insertErrors"]] == [0, 1, 2, 3, 4]
    assert count(place, table) == 1


def test_a_template_makes_the_table_that_its_suffix_names(place):
    table = place.table(clustering_fields=["name"])
    errors = place.client.insert_rows_json(table, [{"id": 1}], template_suffix="_20260102")
    assert errors == []
    made = place.client.get_table(f"{PROJECT}.{table.dataset_id}.events_20260102")
    assert [f.name for f in made.schema] == [f.name for f in EVENT_FIELDS]
    assert (made.num_rows, made.clustering_fields) == (1, ["name"])
    assert count(place, table) == 0
    assert place.client.insert_rows_json(table, [{"id": 2}], template_suffix="_20260102") == []
    assert count(place, made) == 2


def test_a_missing_table_is_not_found(place):
    dataset = place.table().dataset_id
    missing = bigquery.Table(f"{PROJECT}.{dataset}.missing", schema=EVENT_FIELDS)
    with pytest.raises(exceptions.NotFound, match=f"Table {PROJECT}:{dataset}.missing"):
        place.client.insert_rows_json(missing, [{"id": 1}])


def test_the_limits_of_a_request(place):
    table = place.table()
    status, document = insert(place, table, [])
    assert (status, error_of(document)[2]) == (400, "invalid")
    status, document = insert(place, table, [{"json": {"id": 1}}] * 50_001)
    assert status == 400
    assert "limit: 50000 row count: 50001" in document["error"]["message"]
    status, document = insert(place, table, [{"json": {"id": 1, "name": "x" * 10_485_760}}])
    assert (status, error_of(document)) == (413, (413, "INVALID_ARGUMENT", "invalid"))
    status, document = insert(place, table, [{"json": {"id": n}} for n in range(50_000)])
    assert (status, document) == (200, {"kind": "bigquery#tableDataInsertAllResponse"})
    assert count(place, table) == 50_000


def test_a_row_that_is_too_large_is_a_fault_of_that_row(place):
    table = place.table()
    rows = [{"id": 1}, {"id": 2, "name": "x" * 1_000_001}]
    errors = place.client.insert_rows_json(table, rows, skip_invalid_rows=True)
    assert [error["index"] for error in errors] == [1]
    assert count(place, table) == 1


def test_bodies_are_inflated(place):
    table = place.table()
    body = json.dumps({"rows": [{"json": {"id": 1}}]}).encode()
    for content, headers in [
        (gzip.compress(body), {"Content-Encoding": "gzip"}),
        (body, {}),
    ]:
        status, _, _ = place.raw(
            "POST", f"/bigquery/v2{path_of(table)}/insertAll", content, headers
        )
        assert status == 200
    bomb = gzip.compress(b"[" + b"0," * 20_000_000)
    status, _, document = place.raw(
        "POST", f"/bigquery/v2{path_of(table)}/insertAll", bomb, {"Content-Encoding": "gzip"}
    )
    assert (status, error_of(document)[0]) == (413, 413)
    assert count(place, table) == 2


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"rows": 5}', b'{"rows": [], "skip": 1}', b"null"]
)
def test_a_body_that_makes_no_sense_is_told(place, body):
    table = place.table()
    status, _, document = place.raw("POST", f"/bigquery/v2{path_of(table)}/insertAll", body)
    assert (status, error_of(document)[0]) == (400, 400)


def test_many_clients_at_once_store_each_row_once(place):
    table = place.table()
    found = []

    def send(part):
        with_ids = [f"{part}-{n}" for n in range(50)]
        client = place.new_client()
        for _ in range(2):
            rows = [{"id": n} for n in range(50)]
            found.extend(client.insert_rows_json(table, rows, row_ids=with_ids))

    threads = [threading.Thread(target=send, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == []
    assert count(place, table) == 400


def test_a_column_added_by_one_client_is_known_at_once(place):
    table = place.table()
    changed = place.client.get_table(table)
    changed.schema = [*changed.schema, F("late", "STRING")]
    place.client.update_table(changed, ["schema"])
    assert place.new_client().insert_rows_json(table, [{"id": 1, "late": "x"}]) == []


def test_rows_sent_otherwise_stand_beside_them(place):
    table = place.table()
    name = TableId(PROJECT, table.dataset_id, "events")
    assert place.client.insert_rows_json(table, [{"id": 1, "name": "rest"}]) == []
    status, _, verdict = place.raw(
        "POST",
        f"/api/v1/tables/{name}/events",
        b'{"id": 2, "name": "native", "at": "2026-01-02T12:00:00Z"}',
        {"Content-Type": "application/x-ndjson"},
    )
    assert (status, verdict["accepted"]) == (200, 1)
    found = place.rows(f"SELECT id, name FROM {table.dataset_id}.events ORDER BY id")
    assert [row["name"] for row in found] == ["rest", "native"]


def test_the_servers_own_tables_take_no_rows(place):
    status, _, document = place.raw(
        "POST",
        "/bigquery/v2/projects/local/datasets/eventmill/tables/quarantine/insertAll",
        {"rows": [{"json": {"x": 1}}]},
    )
    assert (status, error_of(document)[2]) == (403, "accessDenied")
