"""What is kept of refusals and of administrative acts, for ``eventmill.audit``.

An act is written to ``access.db`` in one transaction with what was done, and carried on from there
(``upkeep``). Refusals are counted here first: whoever knocks a million times makes one row a
minute, and cannot make more by knocking in many ways.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from eventmill.schema.message_type import MessageType
from eventmill.store.own_tables import audit_spec
from eventmill.wire.batch import Batch

REPEAT_SECONDS = 60.0
"""One principal, route and reason makes at most one row in this time."""
KINDS_MAX = 100
"""Different principals, routes and reasons told apart at one time; more are counted together."""
WAITING_MAX = 2_000
"""Rows of refusals that wait while the store cannot take them; then the newest are dropped."""
_TEXT_LENGTH_MAX = 300
_ACT_LENGTH_MAX = 10_000
"""An administrator's own words are kept longer than those of whoever was refused."""
_CALLER_LENGTH_MAX = 100
_OTHERS = ("", "others", "too_many_kinds")


@dataclass(frozen=True, slots=True)
class Act:
    """One row of the audit."""

    act: str
    principal: str
    resource: str
    detail: str
    recorded_at: float
    route: str = ""
    reason: str = ""
    count: int = 1
    peer: str = ""
    client: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a call came from, by its own word and by its connection's."""

    peer: str = ""
    client: str = ""


def act_id(now: float) -> str:
    """Return a new ID for a row; those of later rows are greater."""
    return f"{int(now * 1e6):017d}-{secrets.token_hex(8)}"


def act_to_json(act: Act) -> dict[str, Any]:
    """Return ``act`` in JSON's types."""
    return asdict(act)


def act_from_json(document: Mapping[str, Any]) -> Act:
    """Read what ``act_to_json`` made."""
    return Act(**document)


def audit_batch(acts: Sequence[tuple[str, Act]]) -> Batch:
    """Return rows of the audit, each with its ID, as a batch of its table."""
    spec = audit_spec()
    message_type = MessageType.load(spec.descriptor_set, spec.message)
    rows = []
    for _, act in acts:
        row: Any = message_type.cls(
            act=act.act,
            principal=act.principal,
            resource=_cut(act.resource),
            route=_cut(act.route),
            reason=act.reason,
            count=act.count,
            detail=_cut(act.detail, _TEXT_LENGTH_MAX if act.reason else _ACT_LENGTH_MAX),
            peer=_cut(act.peer, _CALLER_LENGTH_MAX),
            client=_cut(act.client, _CALLER_LENGTH_MAX),
        )
        row.recorded_at.FromMicroseconds(int(act.recorded_at * 1e6))
        rows.append(row.SerializeToString())
    ids = [row_id.encode() for row_id, _ in acts]
    return Batch.build(spec.table, spec.fingerprint, ids, rows)


class RefusalTally:
    """Counts refusals into rows. Safe from any thread; never waits for a disk."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: dict[tuple[str, str, str], _Counted] = {}
        self._waiting: list[tuple[str, Act]] = []
        self.dropped = 0
        """Rows that were lost because the store could not take them."""

    def note(self, refusal: Act) -> None:
        """Count one refusal; of several, the last one's words are kept."""
        kind = (refusal.principal, refusal.route, refusal.reason)
        with self._lock:
            counted = self._counted.get(kind)
            if counted is None and len(self._counted) >= KINDS_MAX:
                kind = _OTHERS
                refusal = replace(refusal, principal="", route="others", reason="too_many_kinds")
                counted = self._counted.get(kind)
            if counted is None:
                counted = self._counted[kind] = _Counted()
            counted.last = refusal
            counted.count += 1

    def take(self, now: float) -> list[tuple[str, Act]]:
        """Return the rows that are due: the first of a kind at once, then one a minute."""
        with self._lock:
            rows, self._waiting = self._waiting, []
            for kind, counted in list(self._counted.items()):
                if counted.written_at is not None and now - counted.written_at < REPEAT_SECONDS:
                    continue
                if not counted.count or counted.last is None:
                    del self._counted[kind]
                    continue
                rows.append((act_id(now), replace(counted.last, count=counted.count)))
                counted.count, counted.written_at = 0, now
        return rows

    def take_all(self, now: float) -> list[tuple[str, Act]]:
        """Return every row that is left, at the end."""
        with self._lock:
            for counted in self._counted.values():
                counted.written_at = None
        return self.take(now)

    def give_back(self, rows: Sequence[tuple[str, Act]]) -> None:
        """Keep rows that the store could not take, for the next ``take``."""
        with self._lock:
            self._waiting = [*rows, *self._waiting]
            self.dropped += max(0, len(self._waiting) - WAITING_MAX)
            del self._waiting[WAITING_MAX:]


class _Counted:
    __slots__ = ("count", "last", "written_at")

    def __init__(self) -> None:
        self.count = 0
        self.last: Act | None = None
        self.written_at: float | None = None


def read_acts(rows: Sequence[tuple[str, str]]) -> list[tuple[str, Act]]:
    """Return the acts that ``access.db`` holds for the audit table."""
    return [(row_id, act_from_json(json.loads(document))) for row_id, document in rows]


def _cut(text: str, length_max: int = _TEXT_LENGTH_MAX) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= length_max else text[: length_max - 1] + "…"
