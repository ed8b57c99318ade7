"""The part of the manifest that says which files hold rows of which slot, and who wrote it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from eventmill.wire.slot import SlotKey

_WITHIN = "uid = ? AND workflow = ? AND start_seconds >= ? AND end_seconds <= ?"


@dataclass(frozen=True, slots=True)
class SlotRow:
    """One slot that was ever written, as the manifest lists it."""

    slot: SlotKey
    generation: int
    rows: int
    """Rows in the lake now; 0 also when they have expired."""


class SlotList:
    """Slots of all tables, over the connection of the manifest that it is a part of."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def overlapping(self, uid: int, slot: SlotKey) -> list[SlotRow]:
        """Return the slots of the workflow that share a moment with ``slot``, ascending."""
        found = self._db.execute(
            "SELECT start_seconds, end_seconds, generation,"
            " (SELECT COALESCE(SUM(f.rows), 0) FROM slot_files f JOIN files ON files.id = f.file"
            "  WHERE f.uid = s.uid AND f.workflow = s.workflow AND removed_at IS NULL"
            "  AND f.start_seconds = s.start_seconds AND f.end_seconds = s.end_seconds)"
            " FROM slots s"
            " WHERE uid = ? AND workflow = ? AND start_seconds < ? AND end_seconds > ?"
            " ORDER BY start_seconds, end_seconds",
            (uid, slot.workflow, slot.end_seconds, slot.start_seconds),
        )
        return [
            SlotRow(SlotKey(slot.workflow, start, end), generation, rows)
            for start, end, generation, rows in found
        ]

    def files_within(self, uid: int, slot: SlotKey) -> dict[str, int]:
        """Return the live files with rows of slots within ``slot``, and how many each has."""
        found = self._db.execute(
            "SELECT name, SUM(s.rows)"  # noqa: S608 - words of ours alone
            " FROM slot_files s JOIN files ON files.id = s.file"
            f" WHERE s.{_WITHIN} AND removed_at IS NULL GROUP BY name ORDER BY name",
            _key(uid, slot),
        )
        return {str(name): int(rows) for name, rows in found}

    def note(self, uid: int, slot: SlotKey, generation: int) -> None:
        """List ``slot`` as written by ``generation``, in the place of slots that lie within it."""
        self._db.execute(f"DELETE FROM slots WHERE {_WITHIN}", _key(uid, slot))  # noqa: S608
        self._db.execute("INSERT INTO slots VALUES (?, ?, ?, ?, ?)", (*_key(uid, slot), generation))

    def add(self, uid: int, name: str, slot: SlotKey, rows: int) -> None:
        """Say that the file ``name``, which is listed, has ``rows`` rows of ``slot``."""
        self._db.execute(
            "INSERT INTO slot_files SELECT id, uid, ?, ?, ?, ? FROM files"
            " WHERE uid = ? AND name = ?",
            (slot.workflow, slot.start_seconds, slot.end_seconds, rows, uid, name),
        )

    def inherit(
        self, uid: int, names: Sequence[str], heir: str, *, without: SlotKey | None = None
    ) -> None:
        """Say that the file ``heir``, which is listed, has the rows of all of ``names``.

        Those of slots within ``without`` are left out.
        """
        marks = ", ".join("?" * len(names))
        left_out = f"AND NOT (s.{_WITHIN})" if without else ""
        self._db.execute(
            "INSERT INTO slot_files"  # noqa: S608 - words of ours alone
            " SELECT (SELECT id FROM files WHERE uid = ? AND name = ?), s.uid, s.workflow,"
            " s.start_seconds, s.end_seconds, SUM(s.rows)"
            " FROM slot_files s JOIN files ON files.id = s.file"
            f" WHERE files.uid = ? AND files.name IN ({marks}) {left_out}"
            " GROUP BY s.uid, s.workflow, s.start_seconds, s.end_seconds",
            (uid, heir, uid, *names, *(_key(uid, without) if without else ())),
        )


def _key(uid: int, slot: SlotKey) -> tuple[int, str, int, int]:
    return uid, slot.workflow, slot.start_seconds, slot.end_seconds
