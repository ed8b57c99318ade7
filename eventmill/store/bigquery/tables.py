"""Tables of a BigQuery project: found, made, changed under their ETag, removed."""

from __future__ import annotations

from collections.abc import Sequence

from google.api_core import exceptions as api
from google.cloud import bigquery

from eventmill.base.clock import Clock
from eventmill.base.errors import (
    CorruptStoreError,
    SchemaConflictError,
    TableNotFoundError,
    UnavailableError,
)
from eventmill.schema.table import Table, TableId, TableSpec
from eventmill.store.bigquery.catalog import Definition, Definitions
from eventmill.store.bigquery.definition import (
    DEFINITION_LABEL,
    fields_of,
    new_table,
    reference,
    set_changeable,
    spec_of_foreign,
)
from eventmill.store.bigquery.faults import google_errors
from eventmill.store.change import changed_spec
from eventmill.store.own_columns import INGESTED_AT, INSERT_ID

VIEW_SUFFIX = "_deduplicated"
"""Ends the name of the view of a table that shows each event once."""
_APPLY_TRIES = 5


class BigQueryTables:
    """The tables of one project that have a definition. Safe from any thread."""

    def __init__(
        self,
        client: bigquery.Client,
        project: str,
        own_dataset: str,
        definitions: Definitions,
        clock: Clock,
    ) -> None:
        self._client = client
        self._project = project
        self._own_dataset = own_dataset
        self._definitions = definitions
        self._clock = clock

    def find(self, table: TableId) -> Definition:
        """Return the definition in force; TableNotFoundError when there is no such table."""
        return self._definition_of(self.live(table), table)

    def all(self) -> Sequence[Table]:
        """Return every table with a definition but the store's own, ascending by name."""
        keys: dict[str, TableId] = {}
        with google_errors(f"listing the tables of {self._project}"):
            for dataset in self._client.list_datasets():
                if dataset.dataset_id == self._own_dataset:
                    continue
                for item in self._client.list_tables(dataset.reference):
                    key = item.labels.get(DEFINITION_LABEL)
                    if key:
                        keys[key] = TableId(self._project, item.dataset_id, item.table_id)
        found = self._definitions.find(list(keys))
        return sorted((each.table for each in found.values()), key=lambda table: table.id)

    def apply(self, spec: TableSpec, expected_version: int | None) -> Definition:
        """Create or extend a table (see ``Store.apply``)."""
        for _ in range(_APPLY_TRIES):
            live = self._get(spec.table)
            before = None if live is None else self._before(live, spec.table)
            changed = changed_spec(before.table if before else None, spec, expected_version)
            if before is not None and changed is None and before.key:
                self._make_view(before.table.spec, only_when_missing=True)
                return before
            now = self._clock.now()
            table = Table(
                changed or spec,
                before.table.version + 1 if before and before.key else 1,
                before.table.created_at if before else now,
                now,
            )
            after = self._definitions.add(table, before.fingerprints if before else ())
            with google_errors(f"applying {spec.table}"):
                if self._write(live, before, after):
                    self._make_view(table.spec)
                    return after
        raise SchemaConflictError(
            f"{spec.table} was changed by others {_APPLY_TRIES} times meanwhile: plan it again"
        )

    def drop(self, table: TableId) -> None:
        """Remove a table with its rows and its view; TableNotFoundError when there is none."""
        self.live(table)
        view = self._get(_view_of(table))
        with google_errors(f"removing {table}"):
            if view is not None and view.table_type == "VIEW":
                self._client.delete_table(view, not_found_ok=True)
            self._client.delete_table(reference(table), not_found_ok=True)

    def live(self, table: TableId) -> bigquery.Table:
        """Return BigQuery's own description of a table; TableNotFoundError when there is none."""
        live = self._get(table)
        if live is None:
            raise TableNotFoundError(
                f"there is no table {table} in BigQuery (`eventmill table list` shows those that"
                " there are, `eventmill table apply` makes one)"
            )
        return live

    def _get(self, table: TableId) -> bigquery.Table | None:
        with google_errors(f"looking up {table}"):
            try:
                return self._client.get_table(reference(table))
            except api.NotFound:
                return None

    def _definition_of(self, live: bigquery.Table, table: TableId) -> Definition:
        key = live.labels.get(DEFINITION_LABEL)
        if key:
            return self._definitions.find([key])[key]
        return self._adopted(live, table)

    def _before(self, live: bigquery.Table, table: TableId) -> Definition:
        """Return the definition in force; where it is lost, what the table's columns say."""
        try:
            return self._definition_of(live, table)
        except CorruptStoreError:
            return self._adopted(live, table)

    @staticmethod
    def _adopted(live: bigquery.Table, table: TableId) -> Definition:
        created_at = live.created.timestamp() if live.created else 0.0
        made = Table(spec_of_foreign(live, table), 1, created_at, created_at)
        return Definition("", made, frozenset((made.spec.fingerprint,)))

    def _write(
        self, live: bigquery.Table | None, before: Definition | None, after: Definition
    ) -> bool:
        """Create or change the table; False when somebody else was quicker."""
        spec = after.table.spec
        if live is None:
            return self._create(new_table(spec, after.key))
        changed = set_changeable(live, spec, after.key)
        if before is not None and before.key:
            # Labels that the definition had and has no more are taken away.
            gone = set(before.table.spec.labels) - set(spec.labels)
            live.labels = {**live.labels, **dict.fromkeys(gone)}
        live.schema = fields_of(spec, live)
        try:
            # The table carries its ETag, so a change by others since it was read is refused.
            self._client.update_table(live, ["schema", *changed])
        except (api.PreconditionFailed, api.NotFound):
            return False
        except api.BadRequest as error:
            raise SchemaConflictError(
                f"BigQuery does not change {spec.table}: {error.message}"
            ) from (error)
        return True

    def _create(self, table: bigquery.Table) -> bool:
        try:
            self._client.create_table(table)
        except api.Conflict:
            return False
        except api.NotFound:
            dataset = bigquery.Dataset(f"{table.project}.{table.dataset_id}")
            if self._client.location:
                dataset.location = self._client.location
            self._client.create_dataset(dataset, exists_ok=True)
            return False  # the caller looks again, and finds the dataset
        return True

    def _make_view(self, spec: TableSpec, *, only_when_missing: bool = False) -> None:
        live = self._get(_view_of(spec.table))
        if live is not None and live.table_type != "VIEW":
            raise SchemaConflictError(
                f"{spec.table} is applied, and its view cannot be made: there is a table"
                f" {_view_of(spec.table)}; rename or remove it, and apply again"
            )
        if live is not None and only_when_missing:
            return
        view = bigquery.Table(reference(_view_of(spec.table)))
        view.view_query = view_sql(spec)
        view.description = f"Each event of {spec.table} once, by its insert ID."
        with google_errors(f"making the view {_view_of(spec.table)}"):
            try:
                if live is None:
                    self._client.create_table(view)
                    return
            except api.Conflict:
                pass  # another apply was quicker
            except api.NotFound as error:
                raise UnavailableError(f"BigQuery does not know {spec.table} yet") from error
            # It reads all columns, by name: one that came is in it once it is written again.
            self._client.update_table(view, ["view_query", "description"])


def view_sql(spec: TableSpec) -> str:
    """Return the query of the view that shows each event of a table once.

    Rows that other tools have written have no insert ID, and are all shown. Rows of one insert ID
    are one event, so they have one partition: with the partition among
    what they are grouped by, BigQuery reads only the partitions that a query asks for.
    """
    partitioning = spec.partitioning
    groups = [INSERT_ID]
    if partitioning is not None and partitioning.column is not None:
        groups.append(f"`{partitioning.column}`")
    table = spec.table
    return (
        f"SELECT * FROM `{table.project}.{table.dataset}.{table.table}`"  # noqa: S608 - names
        f" WHERE TRUE QUALIFY {INSERT_ID} IS NULL OR ROW_NUMBER() OVER ("
        f"PARTITION BY {', '.join(groups)} ORDER BY {INGESTED_AT}) = 1"
    )


def _view_of(table: TableId) -> TableId:
    return TableId(table.project, table.dataset, table.table + VIEW_SUFFIX)
