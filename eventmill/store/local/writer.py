"""The way of a batch into one table: judged, its rejects quarantined, the rest committed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from eventmill.base.clock import Clock
from eventmill.base.errors import BackPressureError, EventmillError
from eventmill.store.admission import Admission, Judgement
from eventmill.store.local.catalog import LiveTable
from eventmill.store.local.committer import Submission, TableCommitter
from eventmill.store.local.dedup import hash_ids
from eventmill.store.quarantine import rejected_events
from eventmill.wire.batch import Batch
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.verdict import Verdict

QuarantineCall = Callable[[Sequence[QuarantinedEvent]], Sequence["Future[Verdict]"]]

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
        self._admission = Admission(live.table.spec, live.fingerprints)
        self._committer.version = live.table.version
        self.live = live

    def submit(self, batch: Batch) -> Future[Verdict]:
        """Begin to store ``batch``; see ``wire.sink.SubmittingSink``.

        Raises:
            BackPressureError: compaction is behind, or too much waits to be synced.
        """
        self._check_back_pressure()
        judgement = self._admission.judge(batch)
        future: Future[Verdict] = Future()
        if judgement.rejected:
            self._submit_parts(batch, judgement, future)
            return future

        def answer(duplicates: Sequence[int], error: EventmillError | None) -> None:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(Verdict(batch.count, tuple(duplicates)))

        self._commit(batch, answer)
        return future

    def seal(self) -> Future[bool]:
        """Hand the open segment over to compaction; the future says whether there was one."""
        return self._committer.seal()

    def close(self) -> None:
        """Commit what waits and stop."""
        self._committer.close()

    def _commit(
        self, batch: Batch, answer: Callable[[Sequence[int], EventmillError | None], None]
    ) -> None:
        self._committer.submit(Submission(batch, hash_ids(batch.insert_ids, self._seed), answer))

    def _submit_parts(self, batch: Batch, judgement: Judgement, future: Future[Verdict]) -> None:
        """Answer when both the good events and the rejected ones are synced."""
        parts = list(self._quarantine(rejected_events(batch, judgement.rejected)))
        gathered = _Gathered(batch.count, judgement, future, 1 + len(parts))
        for part in parts:
            part.add_done_callback(lambda done: gathered.finish((), done.exception()))
        if judgement.kept is None:
            gathered.finish((), None)
            return
        try:
            self._commit(judgement.kept, gathered.finish)
        except EventmillError as error:
            gathered.finish((), error)

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


class _Gathered:
    """The verdict of a batch whose parts are committed separately."""

    def __init__(
        self, count: int, judgement: Judgement, future: Future[Verdict], waiting: int
    ) -> None:
        self._count = count
        self._judgement = judgement
        self._future = future
        self._waiting = waiting
        self._duplicates: Sequence[int] = ()
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def finish(self, duplicates: Sequence[int], error: BaseException | None) -> None:
        """Note that one part is done; the last one answers."""
        with self._lock:
            self._waiting -= 1
            self._error = self._error or error
            self._duplicates = self._duplicates or duplicates
            if self._waiting:
                return
        if self._error is not None:
            self._future.set_exception(self._error)
            return
        places = self._judgement.kept_indexes
        duplicates = self._duplicates
        if places is not None:
            duplicates = [places[index] for index in duplicates]
        self._future.set_result(Verdict(self._count, tuple(duplicates), self._judgement.rejected))
