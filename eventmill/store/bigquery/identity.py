"""Who a BigQuery store acts as, and which of the permissions that it needs it lacks."""

from __future__ import annotations

from google.api_core import exceptions as api
from google.auth.credentials import AnonymousCredentials

from eventmill.base.errors import UsageError
from eventmill.schema.table import TableId
from eventmill.store.bigquery.definition import reference
from eventmill.store.bigquery.faults import google_errors
from eventmill.store.bigquery.store import BigQueryStore
from eventmill.store.port import Store

NEEDED = {
    "bigquery.tables.get": "to look a table up",
    "bigquery.tables.update": "to add columns",
    "bigquery.tables.updateData": "to write events",
    "bigquery.tables.getData": "to answer queries",
    "bigquery.tables.delete": "to remove a table",
}
"""Permissions on a table, and what each is for; all are in the role BigQuery Data Editor
(cloud.google.com/bigquery/docs/access-control, looked up 2026-11-24)."""


def identity_of(store: Store) -> str:
    """Return whose credentials the store uses, in words."""
    credentials = _own(store).credentials
    email = getattr(credentials, "service_account_email", None) or getattr(
        credentials, "_target_principal", None
    )
    if email:
        return f"service account {email}"
    if isinstance(credentials, AnonymousCredentials):
        return "nobody: no credentials were found, and the server may not ask for any"
    return "a person's own login (`gcloud auth application-default login`)"


def missing_permissions(store: Store, table: TableId) -> str:
    """Return what is missing on ``table``, and how to get it; empty when nothing is."""
    client = _own(store).client
    with google_errors(f"asking for permissions on {table}"):
        try:
            answer = client.test_iam_permissions(reference(table), list(NEEDED))
        except api.NotFound:
            return (
                f"{identity_of(store)} cannot be told what it lacks before {table} is there: making"
                " it takes bigquery.tables.create, which is in roles/bigquery.dataEditor"
            )
    held = answer.get("permissions", [])
    missing = [f"{name} ({why})" for name, why in NEEDED.items() if name not in held]
    if not missing:
        return ""
    return (
        f"{identity_of(store)} lacks {', '.join(missing)}: give it roles/bigquery.dataEditor on"
        f" dataset {table.dataset} or project {table.project}"
    )


def _own(store: Store) -> BigQueryStore:
    if not isinstance(store, BigQueryStore):
        raise UsageError(f"{store!r} is no BigQuery store")
    return store
