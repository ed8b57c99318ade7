"""Projects: those that have something which the caller may know of."""

from __future__ import annotations

import zlib
from typing import Any

from eventmill.server.access import Resource
from eventmill.server.bigquery.calls import Answer, Call
from eventmill.server.bigquery.documents import page
from eventmill.server.bigquery.rooms import Rooms


class Projects:
    """The call about projects."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def list_projects(self, call: Call) -> Answer:
        """Answer with the projects that have a dataset which the caller may know of."""
        rooms = self._rooms
        names = {table.id.project for table in rooms.store.tables()}
        names |= {entry.project for entry in rooms.catalog.datasets()}
        seen = [n for n in sorted(names) if rooms.guard.sees(call.principal, Resource.project(n))]
        return {
            "kind": "bigquery#projectList",
            "totalItems": len(seen),
            **page(call, seen, _entry, "projects"),
        }


def _entry(project: str) -> dict[str, Any]:
    return {
        "kind": "bigquery#project",
        "id": project,
        "projectReference": {"projectId": project},
        "friendlyName": project,
        # Clients read it, and nobody here counts projects.
        "numericId": str(zlib.crc32(project.encode())),
    }
