"""``POST /token``: a service account's signature in, an access token out (RFC 7523, RFC 6749).

A key file names this address as its ``token_uri``, so Google's client libraries come here by
themselves. Errors have OAuth's form, not a problem document: those libraries read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from eventmill.base.errors import EventmillError, UnauthenticatedError
from eventmill.server.access import REFUSAL, Access
from eventmill.server.access.access import ACCESS_TOKEN_SECONDS
from eventmill.server.body import BodyBudget, read_body
from eventmill.server.tables import parse_json

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_TOKEN_BODY_BYTES_MAX = 32_768
_FORM = "application/x-www-form-urlencoded"
_HEADERS = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class TokenEndpoint:
    """Gives access tokens to service accounts."""

    def __init__(self, access: Access, budget: BodyBudget) -> None:
        self._access = access
        self._budget = budget

    async def post(self, request: Request) -> Response:
        """Answer with an access token that holds for an hour."""
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        async with read_body(request, self._budget, bytes_max=_TOKEN_BODY_BYTES_MAX) as body:
            try:
                asked = _fields(content_type, body.content)
            except (EventmillError, ValueError):
                return _refusal("invalid_request", "the body is neither a form nor JSON")
        if asked.get("grant_type") != GRANT_TYPE:
            return _refusal("unsupported_grant_type", f"grant_type must be {GRANT_TYPE}")
        assertion = asked.get("assertion", "")
        if not assertion:
            return _refusal("invalid_request", "there is no assertion")
        try:
            token = await run_in_threadpool(self._access.exchange, assertion)
        except UnauthenticatedError as error:
            request.scope[REFUSAL] = error  # OAuth's status for it is 400
            return _refusal("invalid_grant", str(error))
        document = {
            "access_token": token,
            "expires_in": ACCESS_TOKEN_SECONDS,
            "token_type": "Bearer",
        }
        return _json(200, document)


def _fields(content_type: str, body: bytes) -> Mapping[str, str]:
    """Return the fields of a form, or of the JSON object that some libraries send."""
    if content_type == "application/json":
        document = parse_json(body)
        if not isinstance(document, dict):
            raise ValueError("the body is no JSON object")
        return {str(name): value for name, value in document.items() if isinstance(value, str)}
    if content_type != _FORM:
        raise ValueError(f"the body must be {_FORM}")
    given = parse_qs(body.decode("ascii"), strict_parsing=True, max_num_fields=20)
    if any(len(values) > 1 for values in given.values()):
        raise ValueError("a field is given twice")
    return {name: values[0] for name, values in given.items()}


def _refusal(error: str, description: str) -> Response:
    return _json(400, {"error": error, "error_description": description})


def _json(status: int, document: Mapping[str, object]) -> Response:
    return Response(orjson.dumps(document), status, _HEADERS, media_type="application/json")
