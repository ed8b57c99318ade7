"""The definitions of a project's tables, kept in a table of the project: ``definitions``.

A BigQuery table knows its columns, but not the .proto that they come from, nor the definitions
that it has had. Each definition is one row here under a random key, never changed; which one is
in force the table itself says, by a label that changes together with its columns.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from google.api_core import exceptions as api
from google.cloud import bigquery

from eventmill.base.clock import Clock
from eventmill.base.errors import CorruptStoreError, UnavailableError
from eventmill.schema.document import spec_from_json, spec_to_json
from eventmill.schema.table import Table, TableSpec
from eventmill.store.bigquery.faults import google_errors

SETTLING_SECONDS = 30.0
"""How long a row that was just streamed may be missing from a query, or a table that was just
made be unknown to the writer."""
_LOOK_SECONDS = 0.5
_TABLE = "definitions"
_FIELDS = (
    ("key", "STRING", "REQUIRED"),
    ("table_name", "STRING", "REQUIRED"),
    ("version", "INTEGER", "REQUIRED"),
    ("document", "STRING", "REQUIRED"),
    ("fingerprints", "STRING", "REPEATED"),
    ("created_at", "FLOAT", "REQUIRED"),
    ("updated_at", "FLOAT", "REQUIRED"),
)


@dataclass(frozen=True, slots=True)
class Definition:
    """One definition of a table, with those before it."""

    key: str
    table: Table
    fingerprints: frozenset[str]
    """Of this definition and all before it."""


class Definitions:
    """Reads and adds definitions. Safe from any thread."""

    def __init__(
        self, client: bigquery.Client, project: str, own_dataset: str, clock: Clock
    ) -> None:
        """Prepare; nothing is made before the first ``add``."""
        self._client = client
        self._clock = clock
        dataset = bigquery.DatasetReference(project, own_dataset)
        self._reference = bigquery.TableReference(dataset, _TABLE)
        self._known: dict[str, Definition] = {}
        """By key: a definition never changes."""

    def add(self, table: Table, fingerprints: Iterable[str]) -> Definition:
        """Keep a definition; it is in force once its table has the label."""
        key = secrets.token_hex(12)
        found = Definition(key, table, frozenset((*fingerprints, table.spec.fingerprint)))
        row = {
            "key": key,
            "table_name": str(table.id),
            "version": table.version,
            "document": json.dumps(spec_to_json(table.spec), separators=(",", ":")),
            "fingerprints": sorted(found.fingerprints),
            "created_at": table.created_at,
            "updated_at": table.updated_at,
        }
        with google_errors(f"keeping the definition of {table.id}"):
            errors = self._insert(row)
        if errors:
            raise CorruptStoreError(f"{self._reference} does not take a definition: {errors}")
        self._known[key] = found
        return found

    def find(self, keys: Sequence[str]) -> dict[str, Definition]:
        """Return definitions by key.

        Raises:
            CorruptStoreError: a table has a key that the catalog lacks.
            UnavailableError: BigQuery cannot be asked.
        """
        deadline = self._clock.monotonic() + SETTLING_SECONDS
        while missing := [key for key in keys if key not in self._known]:
            self._load(missing)
            missing = [key for key in missing if key not in self._known]
            if not missing:
                break
            if self._clock.monotonic() >= deadline:
                raise CorruptStoreError(
                    f"{self._reference} has no definition {missing[0]}, which the label of a table"
                    " names: was a row deleted? Applying the table's .proto again mends it"
                )
            self._clock.sleep(_LOOK_SECONDS)
        return {key: self._known[key] for key in keys}

    def _load(self, keys: Sequence[str]) -> None:
        sql = f"SELECT * FROM `{self._reference}` WHERE key IN UNNEST(@keys)"  # noqa: S608 - ours
        config = bigquery.QueryJobConfig(
            query_parameters=[bigquery.ArrayQueryParameter("keys", "STRING", list(keys))]
        )
        with google_errors("reading definitions"):
            try:
                rows = list(self._client.query_and_wait(sql, job_config=config))
            except api.NotFound:
                return
        for row in rows:
            self._known[row["key"]] = _definition(row)

    def _insert(self, row: dict[str, object]) -> Sequence[object]:
        """Stream one row into the catalog's table, which is made when it is not there."""
        deadline = self._clock.monotonic() + SETTLING_SECONDS
        while True:
            try:
                return list(
                    self._client.insert_rows_json(self._reference, [row], row_ids=[str(row["key"])])
                )
            except api.NotFound as error:
                self._make()
                if self._clock.monotonic() >= deadline:
                    raise UnavailableError(
                        f"{self._reference} was made and is not there"
                    ) from error
                self._clock.sleep(_LOOK_SECONDS)

    def _make(self) -> None:
        dataset = bigquery.Dataset(f"{self._reference.project}.{self._reference.dataset_id}")
        dataset.description = "What Eventmill keeps about the tables of this project."
        if self._client.location:
            dataset.location = self._client.location
        self._client.create_dataset(dataset, exists_ok=True)
        fields = [bigquery.SchemaField(name, kind, mode) for name, kind, mode in _FIELDS]
        self._client.create_table(bigquery.Table(self._reference, schema=fields), exists_ok=True)


def _definition(row: bigquery.Row) -> Definition:
    spec: TableSpec = spec_from_json(json.loads(row["document"]))
    table = Table(spec, row["version"], row["created_at"], row["updated_at"])
    return Definition(row["key"], table, frozenset(row["fingerprints"]))
