"""Tables and their changes, through Google's client."""

from datetime import UTC, datetime, timedelta

import pytest
from bigquery_world import EVENT_FIELDS, NOON, PROJECT, F, error_of, path_of
from google.api_core import exceptions
from google.cloud import bigquery

from eventmill.schema.export import bigquery_fields
from eventmill.schema.table import TableId


def plain(fields):
    return [field.to_api_repr() for field in fields]


def test_a_table_is_as_it_was_wanted(place):
    table = place.table(
        time_partitioning=bigquery.TimePartitioning(
            type_="HOUR", field="at", expiration_ms=86_400_000
        ),
        clustering_fields=["name", "id"],
        require_partition_filter=True,
        description="Events of a test",
        friendly_name="Events",
        labels={"team": "ci"},
        expires=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1),
    )
    found = place.client.get_table(table)
    assert plain(found.schema) == plain(EVENT_FIELDS)
    assert found.time_partitioning.type_ == "HOUR"
    assert found.time_partitioning.field == "at"
    assert found.time_partitioning.expiration_ms == 86_400_000
    assert found.clustering_fields == ["name", "id"]
    assert found.require_partition_filter is True
    assert found.description == "Events of a test"
    assert found.friendly_name == "Events"
    assert found.labels == {"team": "ci"}
    assert found.expires == table.expires
    assert (found.num_rows, found.table_type) == (0, "TABLE")
    assert found.etag == table.etag


def test_a_table_made_over_rest_is_one_of_the_store(place):
    table = place.table()
    live = place.store.describe(TableId(PROJECT, table.dataset_id, "events"))
    assert bigquery_fields(live.spec.columns)[0]["description"] == "Counts from 1."
    assert live.spec.partitioning is None
    assert live.spec.message == f"eventmill.fields.{table.dataset_id}.events"


@pytest.mark.parametrize("kind", ["HOUR", "DAY", "MONTH", "YEAR"])
def test_partitions_by_ingestion(place, kind):
    table = place.table(time_partitioning=bigquery.TimePartitioning(type_=kind))
    assert place.client.get_table(table).time_partitioning.type_ == kind
    assert place.client.get_table(table).time_partitioning.field is None


def test_a_second_table_of_the_same_name_is_a_conflict(place):
    table = place.table()
    with pytest.raises(exceptions.Conflict, match="Already Exists: Table"):
        place.client.create_table(table)
    assert place.client.create_table(table, exists_ok=True).table_id == "events"


def test_a_table_needs_its_dataset(place):
    with pytest.raises(exceptions.NotFound, match="Dataset my-project:nowhere"):
        place.client.create_table(bigquery.Table(f"{PROJECT}.nowhere.t", schema=EVENT_FIELDS))


def test_columns_are_added_at_every_depth_and_rows_stay(place):
    table = place.table()
    assert place.client.insert_rows_json(table, [{"id": 1, "ctx": {"lat": 1.5}}]) == []
    fields = [f for f in table.schema if f.name != "ctx"]
    ctx = F("ctx", "RECORD", fields=[*EVENT_FIELDS[3].fields, F("lon", "FLOAT")])
    table.schema = [
        *fields,
        ctx,
        F("added", "STRING", description="New."),
        F("more", "RECORD", fields=[F("x", "DATE")]),
    ]
    table = place.client.update_table(table, ["schema"])
    assert [f.name for f in table.schema] == [
        "id", "name", "at", "ctx", "steps", "added", "more",
    ]  # fmt: skip
    assert [f.name for f in table.schema[3].fields] == ["lat", "tags", "lon"]
    row = {"id": 2, "ctx": {"lon": 2.5}, "added": "x", "more": {"x": "2026-01-31"}}
    assert place.client.insert_rows_json(table, [row]) == []
    rows = place.rows(
        f"SELECT id, ctx.lat, ctx.lon, added FROM {table.dataset_id}.events ORDER BY id"
    )
    assert rows == [
        {"id": 1, "lat": 1.5, "lon": None, "added": None},
        {"id": 2, "lat": None, "lon": 2.5, "added": "x"},
    ]


def test_required_is_relaxed(place):
    table = place.table()
    assert place.client.insert_rows_json(table, [{"name": "x"}])[0]["errors"][0]["location"] == "id"
    table.schema = [F("id", "INTEGER", description="Counts from 1."), *table.schema[1:]]
    table = place.client.update_table(table, ["schema"])
    assert table.schema[0].mode == "NULLABLE"
    assert place.client.insert_rows_json(table, [{"name": "x"}]) == []


REFUSED = [
    (EVENT_FIELDS[:-1], "Field steps is missing in new schema"),
    ([*EVENT_FIELDS[:1], F("name", "INTEGER"), *EVENT_FIELDS[2:]], "changed type from STRING to"),
    ([*EVENT_FIELDS[:1], F("name", "STRING", "REQUIRED"), *EVENT_FIELDS[2:]], "changed mode from"),
    ([*EVENT_FIELDS[:1], F("name", "STRING", "REPEATED"), *EVENT_FIELDS[2:]], "changed mode from"),
    ([*EVENT_FIELDS, F("must", "STRING", "REQUIRED")], "Cannot add required fields"),
    (
        [*EVENT_FIELDS[:3], F("ctx", "RECORD", fields=[F("lat", "FLOAT")]), EVENT_FIELDS[4]],
        "Field ctx.tags is missing",
    ),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSED)
def test_a_change_that_would_lose_something_is_refused(place, fields, reason):
    table = place.table()
    table.schema = fields
    with pytest.raises(exceptions.BadRequest, match=reason):
        place.client.update_table(table, ["schema"])
    assert plain(place.client.get_table(table).schema) == plain(EVENT_FIELDS)


def test_partitioning_cannot_change_and_its_expiration_can(place):
    table = place.table(time_partitioning=bigquery.TimePartitioning(field="at"))
    table.time_partitioning = bigquery.TimePartitioning(field="at", expiration_ms=3_600_000)
    table = place.client.update_table(table, ["time_partitioning"])
    assert table.time_partitioning.expiration_ms == 3_600_000
    table.time_partitioning = bigquery.TimePartitioning(type_="MONTH", field="at")
    with pytest.raises(exceptions.BadRequest, match="cannot become"):
        place.client.update_table(table, ["time_partitioning"])


def test_words_about_a_table_change_and_are_cleared(place):
    table = place.table(description="a", friendly_name="b", labels={"x": "1"})
    table.description, table.friendly_name, table.labels = "c", "d", {"x": None, "y": "2"}
    table.expires = NOON.replace(year=2999)
    table = place.client.update_table(table, ["description", "friendly_name", "labels", "expires"])
    assert (table.description, table.friendly_name, table.labels) == ("c", "d", {"y": "2"})
    assert table.expires.year == 2999
    table.description = table.friendly_name = table.expires = None
    table = place.client.update_table(table, ["description", "friendly_name", "expires"])
    assert (table.description, table.friendly_name, table.expires) == (None, None, None)


@pytest.mark.parametrize("changes", [["description"], ["expires"], ["schema"]])
def test_a_stale_etag_is_refused(place, changes):
    first = place.table()
    second = place.client.get_table(first)
    second.description, second.expires = "second", NOON.replace(year=2999)
    second.schema = [*second.schema, F("added", "STRING")]
    place.client.update_table(second, changes)
    first.description, first.expires = "first", NOON.replace(year=2998)
    first.schema = [*first.schema, F("other", "STRING")]
    with pytest.raises(exceptions.PreconditionFailed):
        place.client.update_table(first, changes)


def test_an_unchanged_table_keeps_its_etag(place):
    table = place.table(description="same")
    table.description = "same"
    assert place.client.update_table(table, ["description", "schema"]).etag == table.etag


def test_put_replaces_what_patch_would_keep(place):
    table = place.table(description="a", labels={"x": "1"})
    status, _, document = place.raw(
        "PUT", "/bigquery/v2" + path_of(table), {"labels": {"y": "2"}, "friendlyName": "f"}
    )
    assert status == 200
    assert document["labels"] == {"y": "2"}
    assert "description" not in document
    assert plain(place.client.get_table(table).schema) == plain(EVENT_FIELDS)


def test_the_columns_of_a_proto_are_changed_in_the_proto(own_place):
    from store_world import builds_spec

    own_place.store.apply(builds_spec())
    client = own_place.new_client(project="local")
    table = client.get_table("ci.builds")
    table.schema = [*table.schema, F("added", "STRING")]
    with pytest.raises(exceptions.BadRequest, match=r"ci\.Build of a \.proto"):
        client.update_table(table, ["schema"])
    table = client.get_table("ci.builds")
    table.description = "words may change"
    assert client.update_table(table, ["description", "schema"]).description == "words may change"


def test_an_expired_table_is_gone(own_place):
    table = own_place.table()
    soon = datetime.now(UTC) + timedelta(milliseconds=300)
    table.expires = soon
    own_place.client.update_table(table, ["expires"])
    while datetime.now(UTC) <= soon:
        pass
    with pytest.raises(exceptions.NotFound):
        own_place.client.get_table(table)
    assert list(own_place.client.list_tables(table.dataset_id)) == []
    assert own_place.store.tables() == []
    with pytest.raises(exceptions.BadRequest, match="lies in the past"):
        own_place.table(expires=soon)


def test_a_table_is_deleted_once(place):
    table = place.table()
    place.client.delete_table(table)
    with pytest.raises(exceptions.NotFound):
        place.client.get_table(table)
    with pytest.raises(exceptions.NotFound):
        place.client.delete_table(table)
    place.client.delete_table(table, not_found_ok=True)
    assert place.client.get_dataset(table.dataset_id)


def test_a_table_made_anew_has_nothing_of_the_old_one(place):
    table = place.table(friendly_name="old", expires=NOON.replace(year=2999))
    place.client.insert_rows_json(table, [{"id": 1}], row_ids=["a"])
    name = TableId(PROJECT, table.dataset_id, "events")
    spec = place.store.describe(name).spec
    place.store.drop(name)  # by another way in, which does not tell the surface
    place.store.apply(spec)
    found = place.client.get_table(table)
    assert (found.friendly_name, found.expires, found.num_rows) == (None, None, 0)
    assert place.client.insert_rows_json(table, [{"id": 1}], row_ids=["a"]) == []
    assert place.client.get_table(table).num_rows == 1


def test_the_end_of_an_old_table_is_not_that_of_a_new_one(own_place):
    table = own_place.table()
    soon = datetime.now(UTC) + timedelta(milliseconds=500)
    table.expires = soon
    own_place.client.update_table(table, ["expires"])
    name = TableId(PROJECT, table.dataset_id, "events")
    spec = own_place.store.describe(name).spec
    own_place.store.drop(name)
    own_place.store.apply(spec)
    while datetime.now(UTC) <= soon:
        pass
    assert own_place.client.get_table(table).expires is None
    assert [t.id for t in own_place.store.tables()] == [name]


def test_lists_come_in_pages(place):
    dataset = place.table().dataset_id
    for number in range(4):
        place.client.create_table(
            bigquery.Table(f"{PROJECT}.{dataset}.t{number}", schema=EVENT_FIELDS)
        )
    found = [one.table_id for one in place.client.list_tables(dataset, page_size=2)]
    assert found == ["events", "t0", "t1", "t2", "t3"]


WRONG = [
    ({"schema": {"fields": [{"name": "x", "type": "BIGNUMERIC"}]}}, "BIGNUMERIC"),
    ({"schema": {"fields": [{"name": "x", "type": "RANGE"}]}}, "RANGE"),
    ({"schema": {"fields": [{"name": "no-name", "type": "STRING"}]}}, "no-name"),
    ({"schema": {"fields": [{"name": "x", "type": "RECORD", "fields": []}]}}, "x"),
    ({"schema": {"fields": [{"name": "x", "type": "STRING", "maxLength": "5"}]}}, "maxLength"),
    (
        {"schema": {"fields": [{"name": "x", "type": "STRING", "defaultValueExpression": "'a'"}]}},
        "defaultValueExpression",
    ),
    ({}, "without a schema"),
    ({"materializedView": {"query": "SELECT 1"}}, "materializedView"),
    (
        {
            "schema": {"fields": [{"name": "x", "type": "DATE"}]},
            "encryptionConfiguration": {"k": 1},
        },
        "encryption",
    ),
    (
        {
            "schema": {"fields": [{"name": "x", "type": "INTEGER"}]},
            "rangePartitioning": {"field": "x", "range": {"start": 0, "end": 9, "interval": 1}},
        },
        "rangePartitioning",
    ),
    (
        {
            "schema": {"fields": [{"name": "x", "type": "DATE"}]},
            "timePartitioning": {"type": "DAY", "field": "x"},
        },
        "DATE",
    ),
    (
        {
            "schema": {"fields": [{"name": "x", "type": "FLOAT"}]},
            "clustering": {"fields": ["x"]},
        },
        "FLOAT",
    ),
    ({"schema": {"fields": [{"name": "_whole_event", "type": "STRING"}]}}, "_whole_event"),
]


@pytest.mark.parametrize(("body", "word"), WRONG, ids=[word for _, word in WRONG])
def test_what_no_table_here_can_be_is_refused_by_name(place, body, word):
    dataset = place.table().dataset_id
    status, _, document = place.raw(
        "POST",
        f"/bigquery/v2/projects/{PROJECT}/datasets/{dataset}/tables",
        {"tableReference": {"tableId": "t"}, **body},
    )
    assert status == 400
    assert error_of(document)[2] in ("invalid", "notImplemented")
    assert word in document["error"]["message"]
    assert len(list(place.client.list_tables(dataset))) == 1
