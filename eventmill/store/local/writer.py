"""The way of a batch into one table: judged, its rejects quarantined, the rest committed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from eventmill.base.clock import Clock
from eventmill.base.errors import BackPressureError, EventmillError
from eventmill.store.admission import Admission, Judgement
from eventmill.store.local.catalog import LiveTable
from eventmill.store.local.committer import Submission, TableCommitter
from eventmill.store.local.dedup import hash_ids
from eventmill.store.local.gathering import Done, Gathering
from eventmill.store.local.ingest_times import IngestTimes
from eventmill.store.quarantine import rejected_events
from eventmill.wire.batch import Batch
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.sink import Answer
from eventmill.wire.verdict import Verdict

QuarantineCall = Callable[[Sequence[QuarantinedEvent], Done], None]
"""Keeps rejected events and tells when they are synced; never raises."""

_LOOK_SECONDS = 0.25
"""How often the manifest is asked how much waits for compaction."""


class TableWriter:
    """Takes batches of one table. Safe from any thread."""

    def __init__(
        self,
        live: LiveTable,
        committer: TableCommitter,
        quarantine: QuarantineCall,
        sealed_bytes: Callable[[], int],
        clock: Clock,
        *,
        seed: int,
        sealed_bytes_max: int,
    ) -> None:
        self._committer = committer
        self._quarantine = quarantine
        self._count_sealed_bytes = sealed_bytes
        self._clock = clock
        self._seed = seed
        self._sealed_bytes_max = sealed_bytes_max
        self._sealed_bytes = 0
        self._looked_at = float("-inf")
        self.adopt(live)

    def adopt(self, live: LiveTable) -> None:
        """Judge by the table's newest definition from now on."""
        # One assignment: a batch must be written with the version that it was judged by.
        self._judge = (Admission(live.table.spec, live.fingerprints), live.table.version)
        self.live = live

    def submit(self, batch: Batch, answer: Answer) -> None:
        """Begin to store ``batch``; ``answer`` is called once, with its verdict or error.

        Raises:
            BackPressureError: compaction is behind, or too much waits to be synced.
        """
        self._check_back_pressure()
        admission, version = self._judge
        judgement = admission.judge(batch)
        if judgement is not None:
            self._submit_parts(batch, judgement, version, answer)
            return
        self._commit(batch, version, answer)

    def submit_own(self, batch: Batch, done: Done) -> None:
        """Begin to store events that the store itself made: they are not judged.

        A rejected event may be larger than an event may be, and is kept all the same.

        Raises:
            BackPressureError: as in ``submit``.
        """
        self._check_back_pressure()
        self._commit(batch, self.live.table.version, lambda _, error: done(error))

    @property
    def times(self) -> IngestTimes:
        """Gives whoever else adds rows to the table their time of ingestion."""
        return self._committer.times

    def seal(self) -> Future[bool]:
        """Hand the open segment over to compaction; the future says whether there was one."""
        return self._committer.seal()

    def close(self) -> None:
        """Commit what waits and stop."""
        self._committer.close()

    def _commit(self, batch: Batch, version: int, answer: Answer) -> None:
        payload = batch.payload
        keys = hash_ids(batch.insert_ids, self._seed)
        checksum = zlib.crc32(payload)
        self._committer.submit(Submission(payload, batch.count, keys, checksum, version, answer))

    def _submit_parts(
        self, batch: Batch, judgement: Judgement, version: int, answer: Answer
    ) -> None:
        """Answer when both the good events and the rejected ones are synced."""
        kept_verdict = Verdict(0)

        def done(error: EventmillError | None) -> None:
            if error is not None:
                answer(None, error)
                return
            indexes, rejected = judgement.kept_indexes, judgement.rejected
            answer(kept_verdict.placed(batch.count, indexes, rejected), None)

        parts = Gathering(done)
        self._quarantine(rejected_events(batch, judgement.rejected), parts.part())
        if judgement.kept is not None:
            part = parts.part()

            def keep(verdict: Verdict | None, error: EventmillError | None) -> None:
                nonlocal kept_verdict
                kept_verdict = verdict or kept_verdict
                part(error)

            try:
                self._commit(judgement.kept, version, keep)
            except EventmillError as error:
                part(error)
        parts.all_begun()

    def _check_back_pressure(self) -> None:
        now = self._clock.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._sealed_bytes = self._count_sealed_bytes()
        if self._sealed_bytes > self._sealed_bytes_max:
            raise BackPressureError(
                f"{self._sealed_bytes:,} bytes of {self.live.table.id} wait for compaction, the"
                f" limit is {self._sealed_bytes_max:,}",
                retry_after_seconds=1.0,
            )
