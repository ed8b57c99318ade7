"""What the server writes down about its keys in the background: audit, last use, quotas."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import EventmillError
from eventmill.base.service import Service
from eventmill.server.access.access import Access
from eventmill.server.access.audit import Act, audit_batch
from eventmill.store.own_tables import OwnTableStore
from eventmill.store.port import Store

AUDIT_SECONDS = 0.5
"""Pause between two rounds: after at most this, and a commit, an act is in ``eventmill.audit``."""
NOTE_SECONDS = 10.0
"""Pause between two notes of last use and daily quotas: what a crash may lose of them."""
_ACTS_MAX = 1_000

_logger = logging.getLogger(__name__)


class AccessUpkeep(Service):
    """Carries on what ``Access`` has gathered, apart from every request."""

    def __init__(self, access: Access, store: Store, clock: Clock = SYSTEM_CLOCK) -> None:
        """Prepare; both stay the caller's, and must outlive the service."""
        super().__init__("eventmill-access")
        self._access = access
        self._store = store if isinstance(store, OwnTableStore) else None
        self._clock = clock
        self._noted_at = float("-inf")

    def run(self, stopping: threading.Event) -> None:
        """Work in rounds until stopped, and once more at the end."""
        while not stopping.wait(AUDIT_SECONDS):
            self.round()
        self.round(is_last=True)

    def round(self, *, is_last: bool = False) -> None:
        """Write down what is due; what cannot be taken now is offered again in the next one."""
        steps: list[Callable[[], None]] = [
            self._carry_acts,
            lambda: self._carry_refusals(is_last=is_last),
        ]
        if is_last or self._clock.monotonic() - self._noted_at >= NOTE_SECONDS:
            steps.append(self._access.note_use)
            self._noted_at = self._clock.monotonic()
        for step in steps:
            try:
                step()
            except EventmillError as error:
                _logger.warning("audit, or use of keys, could not be noted now: %s", error)

    def _carry_acts(self) -> None:
        """Move acts from ``access.db`` into the audit table.

        Stored first and forgotten second: after a crash in between they are put again, under the
        same IDs, and are duplicates.
        """
        if self._store is None:
            return
        while acts := self._access.waiting_acts(_ACTS_MAX):
            self._store.keep_own(audit_batch(acts))
            self._access.forget_acts([act_id for act_id, _ in acts])

    def _carry_refusals(self, *, is_last: bool) -> None:
        tally, now = self._access.refusals, self._clock.now()
        rows = tally.take_all(now) if is_last else tally.take(now)
        if not rows:
            return
        if self._store is None:
            self._log(rows)
            return
        try:
            self._store.keep_own(audit_batch(rows))
        except EventmillError:
            tally.give_back(rows)
            raise

    def _log(self, rows: Sequence[tuple[str, Act]]) -> None:
        for _, row in rows:
            _logger.warning(
                "refused %d times: %s %s %s", row.count, row.principal, row.route, row.reason
            )
