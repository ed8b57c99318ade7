"""A local server and Google's own client of it, unmodified, over real HTTP."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import urllib.parse
from datetime import UTC, datetime

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from eventmill.base.settings import ServerSettings
from eventmill.server.run import Server
from eventmill.store.local.store import LocalStore

PROJECT = "my-project"
NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)
F = bigquery.SchemaField
EVENT_FIELDS = [
    F("id", "INTEGER", "REQUIRED", description="Counts from 1."),
    F("name", "STRING"),
    F("at", "TIMESTAMP"),
    F("ctx", "RECORD", fields=[F("lat", "FLOAT"), F("tags", "STRING", "REPEATED")]),
    F("steps", "RECORD", "REPEATED", fields=[F("name", "STRING"), F("ok", "BOOLEAN")]),
]
_names = itertools.count(1)


class Place:
    """A running server on a data folder, and clients of it."""

    def __init__(self, folder, **settings):
        self.folder = str(folder)
        self.store = LocalStore.open(self.folder)
        self.server = Server(self.store, ServerSettings(port=0, **settings))
        self.server.start()
        self.url = self.server.url
        self._clients = []
        self.client = self.new_client()

    def new_client(self, credentials=None, project=PROJECT):
        client = bigquery.Client(
            project=project,
            credentials=credentials or AnonymousCredentials(),
            client_options={"api_endpoint": self.url},
        )
        self._clients.append(client)
        return client

    def close(self):
        for client in self._clients:
            client.close()
        self.server.stop()
        self.store.close()

    def table(self, fields=None, **more):
        """Make a table in a dataset of its own and return it."""
        dataset = f"d{next(_names)}"
        self.client.create_dataset(dataset)
        table = bigquery.Table(f"{PROJECT}.{dataset}.events", schema=fields or EVENT_FIELDS)
        for key, value in more.items():
            setattr(table, key, value)
        return self.client.create_table(table)

    def rows(self, sql, **options):
        """Return the rows of a query as dicts."""
        config = bigquery.QueryJobConfig(**options) if options else None
        return [dict(row) for row in self.client.query(sql, job_config=config).result()]

    def raw(self, method, path, body=None, headers=None):
        """Return (status, headers, JSON or text) of one request without any client."""
        host = urllib.parse.urlsplit(self.url)
        with contextlib.closing(http.client.HTTPConnection(host.hostname, host.port)) as line:
            content = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
            headers = {"Content-Type": "application/json", **(headers or {})}
            line.request(method, path, content, headers)
            answer = line.getresponse()
            text = answer.read()
            try:
                document = json.loads(text)
            except ValueError:
                document = text.decode()
            return answer.status, dict(answer.getheaders()), document


def path_of(table):
    """Return the address of a table, below the prefix."""
    return f"/projects/{table.project}/datasets/{table.dataset_id}/tables/{table.table_id}"


def error_of(document):
    """Return (code, status, reason) of an error answer, having seen that it has its form."""
    error = document["error"]
    assert set(error) == {"code", "message", "errors", "status"}
    assert error["errors"][0]["domain"] == "global"
    assert error["errors"][0]["message"] == error["message"]
    return error["code"], error["status"], error["errors"][0]["reason"]
