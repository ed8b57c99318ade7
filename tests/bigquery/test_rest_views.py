"""Views, through Google's client."""

import pytest
from bigquery_world import PROJECT
from google.api_core import exceptions
from google.cloud import bigquery


@pytest.fixture
def table(place):
    made = place.table()
    rows = [{"id": n, "name": f"n{n}"} for n in range(5)]
    assert place.client.insert_rows_json(made, rows) == []
    return made


def make_view(place, table, name, query):
    view = bigquery.Table(f"{PROJECT}.{table.dataset_id}.{name}")
    view.view_query = query
    return place.client.create_table(view)


def test_a_view_is_read_as_what_it_says(place, table):
    made = make_view(
        place, table, "v", f"SELECT id, name FROM {table.dataset_id}.events WHERE id > 2"
    )
    assert (made.table_type, [f.name for f in made.schema]) == ("VIEW", ["id", "name"])
    found = place.rows(f"SELECT v.id FROM {table.dataset_id}.v ORDER BY id")
    assert [row["id"] for row in found] == [3, 4]
    make_view(place, table, "vv", f"SELECT COUNT(*) AS n FROM {table.dataset_id}.v")
    assert place.rows(f"SELECT * FROM `{PROJECT}.{table.dataset_id}.vv`") == [{"n": 2}]
    listed = {t.table_id: t.table_type for t in place.client.list_tables(table.dataset_id)}
    assert listed == {"events": "TABLE", "v": "VIEW", "vv": "VIEW"}


def test_a_view_is_changed_and_deleted(place, table):
    view = make_view(place, table, "v", f"SELECT id FROM {table.dataset_id}.events")
    stale = place.client.get_table(view)
    view.view_query = f"SELECT name FROM {table.dataset_id}.events"
    view.description = "names"
    view = place.client.update_table(view, ["view_query", "description"])
    assert (view.description, [f.name for f in view.schema]) == ("names", ["name"])
    stale.description = "stale"
    with pytest.raises(exceptions.PreconditionFailed):
        place.client.update_table(stale, ["description"])
    place.client.delete_table(view)
    with pytest.raises(exceptions.NotFound):
        place.client.get_table(view)
    assert place.client.get_table(table).num_rows == 5


def test_a_view_outlives_the_server(own_place):
    table = own_place.table()
    make_view(own_place, table, "v", f"SELECT id FROM {table.dataset_id}.events")
    folder = own_place.folder
    own_place.close()
    own_place.__init__(folder)
    assert own_place.rows(f"SELECT * FROM {table.dataset_id}.v") == []


def test_a_name_is_of_one_thing(place, table):
    view = make_view(place, table, "v", f"SELECT id FROM {table.dataset_id}.events")
    with pytest.raises(exceptions.Conflict):
        make_view(place, table, "v", "SELECT 1 AS id")
    with pytest.raises(exceptions.Conflict):
        make_view(place, table, "events", "SELECT 1 AS id")
    with pytest.raises(exceptions.Conflict):
        place.client.create_table(bigquery.Table(view.reference, schema=table.schema))
    options = bigquery.QueryJobConfig(destination=view.reference)
    job = place.client.query("SELECT 1 AS id", job_config=options)
    with pytest.raises(exceptions.Conflict):
        job.result()


def test_a_view_holds_no_rows(place, table):
    view = make_view(place, table, "v", f"SELECT id FROM {table.dataset_id}.events")
    with pytest.raises(exceptions.BadRequest, match="is a view"):
        list(place.client.list_rows(view))
    with pytest.raises(exceptions.NotFound):
        place.client.insert_rows_json(view, [{"id": 1}])


def test_a_dataset_with_a_view_is_in_use(place, table):
    make_view(place, table, "v", f"SELECT id FROM {table.dataset_id}.events")
    place.client.delete_table(table)
    with pytest.raises(exceptions.BadRequest, match="0 tables and 1 views"):
        place.client.delete_dataset(table.dataset_id)
    place.client.delete_dataset(table.dataset_id, delete_contents=True)
    place.client.create_dataset(table.dataset_id)
    assert list(place.client.list_tables(table.dataset_id)) == []


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("SELECT nope FROM {d}.events", exceptions.BadRequest),
        ("SELECT * FROM {d}.missing", exceptions.NotFound),
        ("DELETE FROM {d}.events WHERE TRUE", exceptions.BadRequest),
        ("SELECT @p AS x", exceptions.BadRequest),
    ],
)
def test_a_view_that_cannot_be_read_is_not_made(place, table, query, error):
    with pytest.raises(error):
        make_view(place, table, "v", query.format(d=table.dataset_id))
    with pytest.raises(exceptions.NotFound):
        make_view(place, bigquery.Table(f"{PROJECT}.nowhere.t"), "v", "SELECT 1 AS x")
    assert [t.table_id for t in place.client.list_tables(table.dataset_id)] == ["events"]


def test_own_columns_named_in_a_schema_are_those_that_every_table_has(place):
    fields = [
        bigquery.SchemaField("id", "INTEGER"),
        bigquery.SchemaField("_insert_id", "STRING"),
        bigquery.SchemaField("_ingested_at", "TIMESTAMP"),
    ]
    table = place.table(fields)
    assert [f.name for f in table.schema] == ["id"]
    rows = [{"id": 1, "_insert_id": "a", "_ingested_at": "2026-01-02T12:00:00Z"}] * 2
    assert place.client.insert_rows_json(table, rows, row_ids=[None, None]) == []
    found = place.rows(f"SELECT id, _insert_id FROM {table.dataset_id}.events")
    assert found == [{"id": 1, "_insert_id": "a"}]
