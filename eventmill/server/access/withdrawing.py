"""What a table or dataset takes along when it is dropped: the grants that name it.

A later table of the same name is another one, and whoever makes it says anew who may do what.
Grants on what lies above, such as a dataset's on a table, are no part of it and stay.
"""

from __future__ import annotations

import json

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.server.access.audit import Act, act_id, act_to_json
from eventmill.server.access.database import AccessDatabase, GrantRow
from eventmill.server.access.roles import Place, Resource
from eventmill.server.access.snapshot import read_grant


def withdraw_grants(database: AccessDatabase, clock: Clock, by: str, place: Place) -> int:
    """End the grants on exactly ``place``, and on what lies in it; note it in the audit.

    To be called before the table is dropped: when the drop fails after it, too little is allowed,
    and never too much.

    Args:
        database: where the grants are.
        clock: says when.
        by: name of whoever drops it.
        place: the table or dataset that goes.

    Returns:
        How many grants there were; those of revoked keys are not counted, and stay as history.
    """
    resource, now = Resource.of(place), clock.now()
    with database.writing():
        live = {key.id for key in database.key_rows() if key.revoked_at is None}
        ended = [
            row
            for row in database.grant_rows()
            if (row.key_id is None or row.key_id in live) and _lies_in(row, resource)
        ]
        if not ended:
            return 0
        for name in {row.resource for row in ended}:
            database.delete_grants(name)
        database.count_revision()
        told = "; ".join(f"{row.role} {row.member} on {row.resource}" for row in ended)
        noted = Act("grants_withdrawn", by, str(resource), told, now)
        database.insert_act(act_id(now), json.dumps(act_to_json(noted)))
    return len(ended)


def withdraw_grants_in(path: str, by: str, place: Place) -> int:
    """Do as ``withdraw_grants`` with the ``access.db`` at ``path``, on which no server runs."""
    database = AccessDatabase(path)
    try:
        return withdraw_grants(database, SYSTEM_CLOCK, by, place)
    finally:
        database.close()


def _lies_in(row: GrantRow, resource: Resource) -> bool:
    grant = read_grant(row.role, row.resource, row.expires_at)
    return grant is not None and resource.covers(grant.resource)
