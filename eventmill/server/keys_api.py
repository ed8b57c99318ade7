"""Keys over HTTP: make, list, revoke."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from eventmill.server.access import EVERYTHING, Access, Action, ForbiddenError, principal_in
from eventmill.server.body import BodyBudget, read_body
from eventmill.server.tables import parse_json
from eventmill.wire.keys import KeyWish

KEY_BODY_BYTES_MAX = 1_000_000
"""Bytes of a wish for a key: room for a thousand grants."""
_NO_STORE = {"Cache-Control": "no-store"}


class Keys:
    """The routes of keys; every call of the database runs in a thread."""

    def __init__(self, access: Access, budget: BodyBudget) -> None:
        self._access = access
        self._budget = budget

    async def list(self, request: Request) -> Response:
        """Answer with every key that the caller administers."""
        principal = principal_in(request)
        if not self._access.allows_somewhere(principal, Action.ADMINISTER):
            raise ForbiddenError(principal.name, Action.ADMINISTER, EVERYTHING)
        facts = await run_in_threadpool(self._access.keys(principal).all)
        return _json({"keys": [key.to_json() for key in facts]})

    async def post(self, request: Request) -> Response:
        """Make the key that the body wishes for; an API token is in this answer alone."""
        async with read_body(request, self._budget, bytes_max=KEY_BODY_BYTES_MAX) as body:
            wish = KeyWish.from_json(parse_json(body.content))
        new = await run_in_threadpool(self._access.keys(principal_in(request)).create, wish)
        await run_in_threadpool(self._access.look)
        document: dict[str, Any] = {"key": new.facts.to_json(), "is_first": new.is_first}
        if new.token:
            document["token"] = new.token
        return _json(document, status=201)

    async def delete(self, request: Request) -> Response:
        """Revoke a key: when this is answered, it is refused."""
        name = request.path_params["name"]
        facts = await run_in_threadpool(self._access.keys(principal_in(request)).revoke, name)
        await run_in_threadpool(self._access.look)
        return _json({"key": facts.to_json()})


def _json(document: object, *, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, _NO_STORE, media_type="application/json")
