"""Datasets, through Google's client."""

import pytest
from bigquery_world import EVENT_FIELDS, PROJECT, error_of
from google.api_core import exceptions
from google.cloud import bigquery


def test_a_dataset_without_tables_stays(own_place):
    wanted = bigquery.Dataset(f"{PROJECT}.empty")
    wanted.description, wanted.friendly_name = "What CI tells", "CI"
    wanted.labels = {"team": "ci"}
    wanted.location = "EU"
    wanted.default_table_expiration_ms = 3_600_000
    made = own_place.client.create_dataset(wanted)
    assert made.etag
    found = own_place.client.get_dataset("empty")
    assert (found.description, found.friendly_name, found.labels, found.location) == (
        "What CI tells",
        "CI",
        {"team": "ci"},
        "EU",
    )
    assert found.default_table_expiration_ms == 3_600_000
    assert found.created == made.created
    assert [one.dataset_id for one in own_place.client.list_datasets()] == ["empty"]


def test_a_dataset_outlives_the_server(own_place):
    own_place.client.create_dataset("kept")
    own_place.client.close()
    own_place.server.stop()
    own_place.store.close()
    own_place.__init__(own_place.folder)
    assert own_place.client.get_dataset("kept").dataset_id == "kept"


def test_a_second_one_of_the_same_name_is_a_conflict(place):
    place.client.create_dataset("twice")
    with pytest.raises(exceptions.Conflict, match="Already Exists: Dataset my-project:twice"):
        place.client.create_dataset("twice")
    assert place.client.create_dataset("twice", exists_ok=True).dataset_id == "twice"


def test_one_that_is_missing_is_not_found(place):
    with pytest.raises(exceptions.NotFound, match="Not found: Dataset my-project:nowhere"):
        place.client.get_dataset("nowhere")
    with pytest.raises(exceptions.NotFound):
        list(place.client.list_tables("nowhere"))
    place.client.delete_dataset("nowhere", not_found_ok=True)


def test_labels_are_merged_and_null_clears(place):
    dataset = place.client.create_dataset("changing")
    dataset.labels = {"a": "1", "b": "2"}
    dataset.description = "first"
    dataset = place.client.update_dataset(dataset, ["labels", "description"])
    dataset.labels = {"a": None, "c": "3"}
    dataset.description = None
    dataset = place.client.update_dataset(dataset, ["labels", "description"])
    assert dataset.labels == {"b": "2", "c": "3"}
    assert dataset.description is None


def test_a_stale_etag_is_refused(place):
    first = place.client.create_dataset("stale")
    second = place.client.get_dataset("stale")
    second.description = "second"
    place.client.update_dataset(second, ["description"])
    first.description = "first"
    with pytest.raises(exceptions.PreconditionFailed):
        place.client.update_dataset(first, ["description"])
    assert place.client.get_dataset("stale").description == "second"


def test_a_dataset_with_tables_goes_only_with_its_contents(place):
    table = place.table()
    with pytest.raises(exceptions.BadRequest, match="still in use"):
        place.client.delete_dataset(table.dataset_id)
    place.client.delete_dataset(table.dataset_id, delete_contents=True)
    with pytest.raises(exceptions.NotFound):
        place.client.get_dataset(table.dataset_id)
    with pytest.raises(exceptions.NotFound):
        place.client.get_table(table)


def test_a_dataset_of_tables_made_elsewhere_exists(own_place):
    from store_world import builds_spec

    own_place.store.apply(builds_spec())
    client = own_place.new_client(project="local")
    assert client.get_dataset("ci").dataset_id == "ci"
    assert [one.dataset_id for one in client.list_datasets()] == ["ci"]
    dataset = client.get_dataset("ci")
    dataset.description = "now it says something"
    assert client.update_dataset(dataset, ["description"]).description
    assert [project.project_id for project in client.list_projects()] == ["local"]


def test_lists_are_filtered_by_label_and_come_in_pages(own_place):
    for number in range(5):
        dataset = bigquery.Dataset(f"{PROJECT}.p{number}")
        dataset.labels = {"even": "yes"} if number % 2 == 0 else {}
        own_place.client.create_dataset(dataset)
    names = [one.dataset_id for one in own_place.client.list_datasets(page_size=2)]
    assert names == ["p0", "p1", "p2", "p3", "p4"]
    found = own_place.client.list_datasets(filter="labels.even:yes")
    assert [one.dataset_id for one in found] == ["p0", "p2", "p4"]
    assert [one.dataset_id for one in own_place.client.list_datasets(max_results=3)] == names[:3]


def test_what_is_not_kept_to_is_refused_by_name(place):
    status, _, document = place.raw(
        "POST",
        f"/bigquery/v2/projects/{PROJECT}/datasets",
        {
            "datasetReference": {"datasetId": "secret"},
            "defaultEncryptionConfiguration": {"kmsKeyName": "k"},
        },
    )
    assert (status, error_of(document)[2]) == (400, "notImplemented")
    assert "defaultEncryptionConfiguration" in document["error"]["message"]
    with pytest.raises(exceptions.NotFound):
        place.client.get_dataset("secret")


def test_tables_take_over_what_their_dataset_says(place):
    dataset = bigquery.Dataset(f"{PROJECT}.defaults")
    dataset.default_table_expiration_ms = 3_600_000
    dataset.default_partition_expiration_ms = 7_200_000
    place.client.create_dataset(dataset)
    table = bigquery.Table(f"{PROJECT}.defaults.t", schema=EVENT_FIELDS)
    table.time_partitioning = bigquery.TimePartitioning(field="at")
    made = place.client.create_table(table)
    assert made.expires is not None
    assert made.time_partitioning.expiration_ms == 7_200_000


@pytest.mark.parametrize("name", ["eventmill", "_results"])
def test_the_servers_own_names_are_refused(place, name):
    with pytest.raises(exceptions.Forbidden):
        place.client.create_dataset(name)
