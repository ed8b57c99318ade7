"""Which BigQuery: the address ``bigquery://PROJECT``, and the clients that reach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import google.auth
from google.api_core.client_info import ClientInfo
from google.auth import impersonated_credentials
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
from google.oauth2 import service_account

from eventmill.base.environment import environment
from eventmill.base.errors import UsageError
from eventmill.base.quantity import parse_bytes
from eventmill.schema.table import TableId
from eventmill.store.bigquery.faults import google_errors
from eventmill.store.quarantine import OWN_DATASET

SCOPES = ("https://www.googleapis.com/auth/bigquery",)
BILLED_BYTES_MAX = 100 * 2**30
"""What one query may cost unless told otherwise: about half a dollar at the list price of 2026."""
_WORDS = {
    "location": "where new datasets are made, such as EU",
    "credentials": "path of a service-account key file",
    "impersonate": "e-mail of a service account to act as",
    "endpoint": "URL of another server with BigQuery's REST interface",
    "write_endpoint": "HOST:PORT of another server with its Storage Write API, without TLS",
    "write": "auto, storage or insert_all",
    "billed_bytes_max": "what one query may scan, such as 10GiB",
    "own_dataset": "the dataset of what Eventmill keeps about tables, such as eventmill",
}


@dataclass(frozen=True, slots=True)
class BigQueryPlace:
    """One project, and how it is reached."""

    project: str
    location: str | None = None
    credentials_file: str | None = None
    impersonate: str | None = None
    endpoint: str | None = None
    """None: Google's own."""
    write_endpoint: str | None = None
    write: str = "auto"
    """``storage``: the Storage Write API; ``insert_all``: the older one; ``auto``: the first
    that can be had."""
    billed_bytes_max: int = BILLED_BYTES_MAX
    own_dataset: str = OWN_DATASET
    """Where definitions and rejected events are."""

    @classmethod
    def parse(cls, address: str) -> BigQueryPlace:
        """Read ``bigquery://PROJECT?key=value&...``.

        Raises:
            UsageError: it is not of that form; the message says what is known.
        """
        parts = urlsplit(address)
        project = parts.netloc
        TableId.parse(f"{project}.x.y")  # names what is wrong with a project
        given: dict[str, Any] = dict(parse_qsl(parts.query))
        unknown = sorted(set(given) - set(_WORDS))
        if parts.path.strip("/") or unknown:
            what = f"?{unknown[0]}" if unknown else parts.path
            known = "".join(f"\n  {word}: {meaning}" for word, meaning in _WORDS.items())
            raise UsageError(
                f"{what!r} in {address!r} is not known; write bigquery://PROJECT, and after a ?"
                f" and between & any of:{known}"
            )
        if given.get("write", "auto") not in ("auto", "storage", "insert_all"):
            raise UsageError(f"write={given['write']} in {address!r}: {_WORDS['write']}")
        if "own_dataset" in given:
            TableId.parse(f"{project}.{given['own_dataset']}.x")
        if "billed_bytes_max" in given:
            given["billed_bytes_max"] = parse_bytes(given["billed_bytes_max"])
        if "credentials" in given:
            given["credentials_file"] = given.pop("credentials")
        return cls(project, **given)

    @property
    def is_google(self) -> bool:
        """Whether this is Google's own service."""
        return self.endpoint is None

    def credentials(self) -> Any:  # noqa: ANN401 - google-auth has several classes for it
        """Return the credentials: the key file's, or the ambient ones; then who they act as.

        Raises:
            AccessError: there are none, or they cannot be used.
            UsageError: the key file cannot be read.
        """
        with google_errors("signing in to Google Cloud"):
            if self.credentials_file:
                source = self._from_file(self.credentials_file)
            elif self.is_google:
                source, _ = google.auth.default(scopes=SCOPES)
            else:
                source = self._ambient_or_none()
            if not self.impersonate:
                return source
            return impersonated_credentials.Credentials(
                source_credentials=source,
                target_principal=self.impersonate,
                target_scopes=list(SCOPES),
            )

    def client(self, credentials: Any) -> bigquery.Client:  # noqa: ANN401 - as above
        """Return a client of the REST interface."""
        options = {"api_endpoint": self.endpoint} if self.endpoint else None
        return bigquery.Client(
            project=self.project,
            credentials=credentials,
            location=self.location,
            client_options=options,
            client_info=ClientInfo(user_agent="eventmill"),
        )

    def write_client(self, credentials: Any) -> BigQueryWriteClient:  # noqa: ANN401 - as above
        """Return a client of the Storage Write API."""
        if self.write_endpoint is None:
            return BigQueryWriteClient(credentials=credentials)
        import grpc
        from google.cloud.bigquery_storage_v1.services.big_query_write.transports import (
            BigQueryWriteGrpcTransport,
        )

        channel = grpc.insecure_channel(
            self.write_endpoint,
            options=[("grpc.max_send_message_length", -1), ("grpc.keepalive_time_ms", 60_000)],
        )
        if not isinstance(credentials, AnonymousCredentials):
            from eventmill.store.bigquery.bearer import Bearer

            channel = grpc.intercept_channel(channel, Bearer(credentials))
        return BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))

    def _from_file(self, path: str) -> Any:  # noqa: ANN401 - as above
        try:
            return service_account.Credentials.from_service_account_file(path, scopes=SCOPES)
        except (OSError, ValueError) as error:
            raise UsageError(f"the key file {path} cannot be used: {error}") from error

    def _ambient_or_none(self) -> Any:  # noqa: ANN401 - as above
        """Return those that the environment names, or none: the server says whether it minds."""
        if environment().get("GOOGLE_APPLICATION_CREDENTIALS"):
            return google.auth.default(scopes=SCOPES)[0]
        return AnonymousCredentials()
