"""Datasets: insert, get, list, patch, update, delete."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventmill.schema.table import Table
from eventmill.server.access import Action, Resource
from eventmill.server.bigquery.access_entries import access_entries, set_access
from eventmill.server.bigquery.calls import Answer, Call, Reply, table_of
from eventmill.server.bigquery.catalog import Dataset
from eventmill.server.bigquery.documents import (
    check_etag,
    check_keys,
    etag_of,
    labels_of,
    merged,
    number_of,
    page,
    text_of,
)
from eventmill.server.bigquery.errors import ApiError, duplicate, invalid, not_found
from eventmill.server.bigquery.rooms import Rooms
from eventmill.store.quarantine import OWN_DATASET

_SAID = (
    "friendlyName",
    "description",
    "labels",
    "location",
    "defaultTableExpirationMs",
    "defaultPartitionExpirationMs",
    "storageBillingModel",
    "maxTimeTravelHours",
)
_IGNORED = (
    "kind",
    "etag",
    "id",
    "selfLink",
    "datasetReference",
    "creationTime",
    "lastModifiedTime",
    "type",
    "access",
    "satisfiesPzs",
    "satisfiesPzi",
)
DEFAULT_LOCATION = "US"
"""What the API calls the place of data when nobody says one; here all data is on this machine."""
RESULTS_DATASET = "_results"
"""Dataset under which the API names answers that no client has named a table for."""
_LABEL_FILTER = re.compile(r"labels\.([a-z][a-z0-9_-]*)(?::([a-z0-9_-]*))?")


@dataclass(frozen=True, slots=True)
class _Found:
    """A dataset as it is, whether or not it has an entry of its own."""

    project: str
    dataset: str
    said: Mapping[str, Any]
    created_ms: int
    modified_ms: int
    revision: int

    @property
    def name(self) -> str:
        return f"{self.project}:{self.dataset}"


class Datasets:
    """The calls about datasets."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def insert(self, call: Call) -> Answer:
        """Make a dataset, which stays though it has no table."""
        document = call.document()
        reference = document.get("datasetReference")
        name = reference.get("datasetId") if isinstance(reference, Mapping) else None
        if not isinstance(name, str):
            raise invalid("Required parameter is missing: datasetReference.datasetId")
        table_of(call.project, name, "t")  # the rules of names are those of a table's
        place = Resource.dataset(name, call.project)
        self._rooms.guard.require(call.principal, Action.APPLY, place)
        refuse_reserved(name)
        said = _checked(document)
        if self.find(call.project, name) is not None:
            raise duplicate("Dataset", f"{call.project}:{name}")
        catalog, now = self._rooms.catalog, self._rooms.now_ms()
        if not catalog.put_dataset(call.project, name, said, now_ms=now, expected_revision=0):
            raise duplicate("Dataset", f"{call.project}:{name}")
        set_access(self._rooms.guard, call.principal, place, document)
        self._rooms.guard.record(call.principal, "dataset_created", place)
        return self._document(call, call.project, name)

    def get(self, call: Call) -> Answer:
        """Answer with one dataset."""
        project, name = call.project, call.path["dataset"]
        table_of(project, name, "t")
        if not self._rooms.guard.sees(call.principal, call.dataset):
            self._rooms.guard.require(call.principal, Action.DESCRIBE, call.dataset)
        return self._document(call, project, name)

    def list_datasets(self, call: Call) -> Answer:
        """Answer with the datasets of a project that the caller may know of."""
        found = self._all(call.project)
        if not call.flag("all"):
            found = [one for one in found if not one.dataset.startswith("_")]
        for part in call.query.get("filter", "").split():
            label = _LABEL_FILTER.fullmatch(part)
            if label is None:
                raise invalid(f"filter {part!r} is not labels.NAME or labels.NAME:VALUE", "filter")
            found = [one for one in found if _has_label(one, label[1], label[2])]
        guard = self._rooms.guard
        found = [
            one
            for one in found
            if guard.sees(call.principal, Resource.dataset(one.dataset, one.project))
        ]
        return {"kind": "bigquery#datasetList", **page(call, found, _entry, "datasets")}

    def patch(self, call: Call) -> Answer:
        """Change what the body names, and answer with the dataset."""
        return self._change(call, whole=False)

    def update(self, call: Call) -> Answer:
        """Make the dataset what the body says."""
        return self._change(call, whole=True)

    def _change(self, call: Call, *, whole: bool) -> Answer:
        self._rooms.guard.require(call.principal, Action.APPLY, call.dataset)
        found = self.required(call.project, call.path["dataset"])
        check_etag(call, self._etag(found))
        document = call.document()
        said = _checked(document if whole else merged(found.said, document, _SAID))
        check_keys(document, _SAID, _IGNORED, "dataset")
        location = found.said.get("location")
        if said.setdefault("location", location) != location:
            raise invalid(f"Cannot change the location of dataset {found.name}", "location")
        if location is None:
            del said["location"]
        written = self._rooms.catalog.put_dataset(
            found.project,
            found.dataset,
            said,
            now_ms=self._rooms.now_ms(),
            created_ms=found.created_ms,
            expected_revision=found.revision,
        )
        if not written:
            raise ApiError(412, "conditionNotMet", f"Dataset {found.name} has changed meanwhile")
        set_access(self._rooms.guard, call.principal, call.dataset, document)
        return self._document(call, found.project, found.dataset)

    def delete(self, call: Call) -> Answer:
        """Remove a dataset; with ``deleteContents`` its tables too."""
        self._rooms.guard.require(call.principal, Action.DROP, call.dataset)
        found = self.required(call.project, call.path["dataset"])
        tables = self._tables(found.project, found.dataset)
        views = self._rooms.views.of(found.project, found.dataset)
        if (tables or views) and not call.flag("deleteContents"):
            raise ApiError(
                400,
                "resourceInUse",
                f"Dataset {found.name} is still in use: it has {len(tables)} tables and"
                f" {len(views)} views; delete them first, or say deleteContents",
            )
        for view in views:
            self._rooms.drop_view(call.principal, view.id)
        for table in tables:
            self._rooms.drop(call.principal, table.id)
        # Those of the dataset itself, and those on tables that it was yet to have.
        self._rooms.guard.withdraw(call.principal, call.dataset)
        self._rooms.catalog.forget_dataset(found.project, found.dataset)
        self._rooms.guard.record(call.principal, "dataset_dropped", call.dataset)
        return Reply(None, 204)

    # -- for the other rooms ---------------------------------------------------------------

    def find(self, project: str, name: str) -> _Found | None:
        """Return a dataset; None: there is none."""
        entry = self._rooms.catalog.dataset(project, name)
        if entry is not None:
            return _of_entry(entry)
        return _implied(project, name, self._tables(project, name))

    def required(self, project: str, name: str) -> _Found:
        """Return a dataset, or refuse the call."""
        found = self.find(project, name)
        if found is None:
            raise not_found("Dataset", f"{project}:{name}")
        return found

    def _all(self, project: str) -> list[_Found]:
        tables: dict[str, list[Table]] = {}
        for table in self._rooms.store.tables():
            if table.id.project == project:
                tables.setdefault(table.id.dataset, []).append(table)
        entries = {entry.dataset: entry for entry in self._rooms.catalog.datasets(project)}
        found = []
        for name in sorted({*tables, *entries}):
            entry = entries.get(name)
            one = _of_entry(entry) if entry else _implied(project, name, tables[name])
            if one is not None:
                found.append(one)
        return found

    def _tables(self, project: str, name: str) -> list[Table]:
        return [
            table
            for table in self._rooms.store.tables()
            if (table.id.project, table.id.dataset) == (project, name)
        ]

    def _etag(self, found: _Found) -> str:
        policy = self._rooms.guard.policy_of(Resource.dataset(found.dataset, found.project))
        return etag_of("dataset", found.name, found.created_ms, found.revision, policy.etag)

    def _document(self, call: Call, project: str, name: str) -> dict[str, Any]:
        found = self.required(project, name)
        place = Resource.dataset(name, project)
        document = {
            "kind": "bigquery#dataset",
            "etag": self._etag(found),
            "id": found.name,
            "selfLink": f"{call.base_url}/bigquery/v2/projects/{project}/datasets/{name}",
            "datasetReference": {"projectId": project, "datasetId": name},
            "location": DEFAULT_LOCATION,
            **found.said,
            "creationTime": str(found.created_ms),
            "lastModifiedTime": str(found.modified_ms),
            "type": "DEFAULT",
        }
        if self._rooms.guard.allows(call.principal, Action.ADMINISTER, place):
            document["access"] = access_entries(self._rooms.guard, place)
        return document


def refuse_reserved(dataset: str) -> None:
    """Refuse the names of datasets that mean something else here."""
    if dataset in (OWN_DATASET, RESULTS_DATASET):
        raise ApiError(403, "accessDenied", f"dataset {dataset} is kept by the server itself")


def _checked(document: Mapping[str, Any]) -> dict[str, Any]:
    check_keys(document, _SAID, _IGNORED, "dataset")
    labels_of(document)
    for key in ("friendlyName", "description", "location"):
        text_of(document, key)
    for key in ("defaultTableExpirationMs", "defaultPartitionExpirationMs"):
        number_of(document, key)
    return {key: document[key] for key in _SAID if document.get(key) not in (None, {}, "")}


def _of_entry(entry: Dataset) -> _Found:
    return _Found(
        entry.project,
        entry.dataset,
        entry.said,
        entry.created_ms,
        entry.modified_ms,
        entry.revision,
    )


def _implied(project: str, name: str, tables: list[Table]) -> _Found | None:
    """Return the dataset that exists because it has tables; None where it has none."""
    if not tables:
        return None
    created_ms = int(min(table.created_at for table in tables) * 1000)
    return _Found(project, name, {}, created_ms, created_ms, 0)


def _has_label(found: _Found, name: str, value: str | None) -> bool:
    labels = found.said.get("labels", {})
    return name in labels and (value is None or labels[name] == value)


def _entry(found: _Found) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "kind": "bigquery#dataset",
        "id": found.name,
        "datasetReference": {"projectId": found.project, "datasetId": found.dataset},
        "location": found.said.get("location", DEFAULT_LOCATION),
    }
    for key in ("labels", "friendlyName"):
        if key in found.said:
            entry[key] = found.said[key]
    return entry
