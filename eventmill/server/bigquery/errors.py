"""Refusals as BigQuery's clients read them: an HTTP status, a reason, a place, a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from eventmill.base.errors import (
    AccessError,
    BackPressureError,
    BatchTooLargeError,
    EventmillError,
    QueryCancelledError,
    QueryError,
    TableNotFoundError,
    TransientError,
    UnauthenticatedError,
)
from eventmill.schema.problem import EventProblem, Reason
from eventmill.server.access import PolicyConflictError
from eventmill.server.bigquery.sql import places_told
from eventmill.server.problems import headers_of

_GLOBAL = "global"
# google.rpc.Code by HTTP status (cloud.google.com/apis/design/errors, looked up 2026-11-24).
_STATUS_WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}
# HTTP status of each reason that a job fails with (cloud.google.com/bigquery/docs/error-messages,
# looked up 2026-11-24).
_REASON_STATUS = {
    "accessDenied": 403,
    "backendError": 503,
    "bytesBilledLimitExceeded": 400,
    "duplicate": 409,
    "invalid": 400,
    "invalidQuery": 400,
    "jobBackendError": 503,
    "notFound": 404,
    "notImplemented": 400,
    "resourcesExceeded": 400,
    "responseTooLarge": 403,
    "stopped": 400,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, as it stands in an error answer, a job or a row's errors."""

    reason: str
    message: str
    location: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the ErrorProto of BigQuery's API."""
        document = {"reason": self.reason, "message": self.message}
        if self.location:
            document["location"] = self.location
        return document


def fault_of(problem: EventProblem) -> Fault:
    """Return why a row is refused, as BigQuery's clients read it."""
    if problem.reason is Reason.UNKNOWN_FIELD:
        name = problem.field.rpartition(".")[2]
        hint = problem.message.partition(" (did you mean ")[2]
        more = f" Did you mean {hint.removesuffix('?)')}?" if hint else ""
        return Fault("invalid", f"no such field: {name}.{more}", problem.field)
    return Fault("invalid", problem.message, problem.field)


class ApiError(Exception):
    """A call that is refused; stays in this room, where every route turns it into an answer."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        location: str = "",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.fault = Fault(reason, message, location)
        self.headers = dict(headers or {})


def not_found(kind: str, name: str) -> ApiError:
    """Return the error for a dataset, table or job that does not exist."""
    return ApiError(404, "notFound", f"Not found: {kind} {name}")


def duplicate(kind: str, name: str) -> ApiError:
    """Return the error for something that is there already."""
    return ApiError(409, "duplicate", f"Already Exists: {kind} {name}")


def invalid(message: str, location: str = "") -> ApiError:
    """Return the error for an argument that makes no sense."""
    return ApiError(400, "invalid", message, location)


def unsupported(what: str, instead: str = "") -> ApiError:
    """Return the error for a part of BigQuery's API that this surface does not have.

    400 and not 501: clients repeat what the server failed at, and this would fail again.
    """
    advice = f"; {instead}" if instead else ""
    return ApiError(400, "notImplemented", f"{what} is not supported by this server{advice}")


def required(document: Mapping[str, Any], key: str, kind: type) -> Any:  # noqa: ANN401 - as said
    """Return ``document[key]``, of type ``kind``, or refuse the call by the key's name."""
    value = document.get(key)
    if not isinstance(value, kind):
        raise invalid(f"Required parameter is missing or of the wrong type: {key}", key)
    return value


def api_error_of(error: EventmillError) -> ApiError:
    """Return the refusal that stands for an error of the tree."""
    message = str(error)
    if isinstance(error, TableNotFoundError):
        # The store names tables that are near; not everybody may know of them.
        message = f"Not found: {message.partition(';')[0]}"
    elif isinstance(error, QueryError):
        message = places_told(message)
    status, reason, location = _kind(error)
    return ApiError(status, reason, message, location, headers=headers_of(error))


def _kind(error: EventmillError) -> tuple[int, str, str]:
    for kind, found in _KINDS:
        if isinstance(error, kind):
            return found
    return 400, "invalid", ""


_KINDS: Sequence[tuple[type[EventmillError], tuple[int, str, str]]] = (
    (BackPressureError, (429, "rateLimitExceeded", "")),
    (TransientError, (503, "backendError", "")),
    (TableNotFoundError, (404, "notFound", "")),
    (BatchTooLargeError, (413, "invalid", "")),
    (QueryCancelledError, (400, "stopped", "")),
    (QueryError, (400, "invalidQuery", "query")),
    (UnauthenticatedError, (401, "authError", "")),
    (AccessError, (403, "accessDenied", "")),
    (PolicyConflictError, (409, "conflict", "")),
)


def error_of_fault(fault: Fault) -> ApiError:
    """Return what a call is refused with that asks for the outcome of a failed job."""
    status = _REASON_STATUS.get(fault.reason, 400)
    return ApiError(status, fault.reason, fault.message, fault.location)


def answer(error: ApiError) -> Response:
    """Return the error document of Google's APIs as an answer."""
    fault = error.fault
    entry = {"domain": _GLOBAL, **fault.to_json()}
    if fault.location:
        entry["locationType"] = "other" if fault.reason == "invalidQuery" else "parameter"
    document = {
        "error": {
            "code": error.status,
            "message": fault.message,
            "errors": [entry],
            "status": _STATUS_WORDS.get(error.status, "UNKNOWN"),
        }
    }
    return Response(
        orjson.dumps(document), error.status, error.headers, media_type="application/json"
    )
