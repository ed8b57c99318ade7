"""What Google's libraries raise, as this project's errors: what is wrong, will time mend it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from eventmill.base.errors import (
    AccessError,
    BackPressureError,
    BatchTooLargeError,
    EventmillError,
    PermanentError,
    UnavailableError,
)

_QUOTA_REASONS = frozenset(("quotaExceeded", "rateLimitExceeded", "jobRateLimitExceeded"))
"""Reasons of a 403 that time mends (cloud.google.com/bigquery/docs/error-messages, looked up
2026-11-24); of any other it is permission that is missing."""
QUOTA_PAUSE_SECONDS = 10.0
"""A quota counts by minutes or more: asking again at once would be refused as well."""
PERMISSION_HINT = (
    "give the account the role BigQuery Data Editor (roles/bigquery.dataEditor) on the dataset or"
    " project, and BigQuery Job User (roles/bigquery.jobUser) on the project; `eventmill doctor"
    " --store bigquery://PROJECT` says which permission is missing"
)


@contextmanager
def google_errors(what: str) -> Iterator[None]:
    """Raise this project's errors in place of Google's.

    Args:
        what: the work at hand, as a message begins: ``creating local.ci.builds``.
    """
    try:
        yield
    except (api.GoogleAPIError, auth.GoogleAuthError, requests.RequestException) as error:
        raise translated(error, what) from error


def translated(error: Exception, what: str) -> EventmillError:
    """Return the error of this project that ``error`` means."""
    text = f"{what}: {_message(error)}"
    if isinstance(error, auth.TransportError) or getattr(error, "retryable", False):
        # The second: the token's server did not answer well, which says nothing of the account.
        return UnavailableError(text)
    if isinstance(error, auth.GoogleAuthError):
        return AccessError(
            f"{text}: set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run `gcloud auth"
            " application-default login`"
        )
    if isinstance(error, api.Forbidden) and not _QUOTA_REASONS.intersection(_reasons(error)):
        return AccessError(f"{text}: {PERMISSION_HINT}")
    if isinstance(error, (api.Forbidden, api.TooManyRequests)):
        return BackPressureError(text, retry_after_seconds=QUOTA_PAUSE_SECONDS)
    if isinstance(error, api.Unauthorized):
        return AccessError(f"{text}: the credentials are not valid, or not any more")
    if isinstance(error, api.GoogleAPICallError) and error.code == 413:
        return BatchTooLargeError(text)
    # Not a call's answer: no connection, no answer in time, retries used up.
    is_answer = isinstance(error, api.GoogleAPICallError)
    if isinstance(error, api.MethodNotImplemented):
        return PermanentError(text)
    if not is_answer or isinstance(error, (api.ServerError, api.Conflict, api.Cancelled)):
        return UnavailableError(text)
    return PermanentError(text)


def _reasons(error: api.GoogleAPICallError) -> set[str]:
    return {str(each.get("reason")) for each in error.errors if isinstance(each, dict)}


def _message(error: Exception) -> str:
    return str(getattr(error, "message", None) or error or repr(error)).strip().rstrip(".")
