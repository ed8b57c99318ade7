"""What tests of keys share: two tables, wishes for keys, and the words of a refusal."""

from eventmill.schema.table import TableId
from eventmill.wire.keys import GrantText, KeyWish

OPEN = TableId("local", "ops", "builds")
SECRET = TableId("local", "pay", "wages")
BATCH = {"Content-Type": "application/vnd.eventmill.batch"}


def grant_text(text, expires_at=None):
    role, _, resource = text.partition(":")
    return GrantText(role, resource, expires_at)


def wish(name, *grants, **more):
    return KeyWish(name=name, grants=tuple(grant_text(grant) for grant in grants), **more)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def reason(answer):
    """Return why a request was refused, having seen that the answer has its form."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    return document["type"].removeprefix("urn:eventmill:problem:"), document.get("reason")
