"""All that one uploader has still to send: its own segments, and those of processes that ended.

Appended to by the threads that stage, read from behind by those that send. Regions of a segment
that were read follow each other without a gap, so *acked* is: every region up to here is settled.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import Counter
from contextlib import suppress

from eventmill.base.clock import Clock
from eventmill.base.errors import UnavailableError, UsageError
from eventmill.client.spool.adopting import opened
from eventmill.client.spool.forking import fork_pause
from eventmill.client.spool.owner import OwnerFolder, orphans, remove_unfinished
from eventmill.client.spool.part import Owner, Part, SpoolFullError, Taken, begin_part
from eventmill.client.spool.place import SpoolPlace
from eventmill.client.spool.reading import read_records, set_aside, unsettled_in
from eventmill.client.spool.record import Records
from eventmill.client.spool.segment import salt_of

_logger = logging.getLogger("eventmill.client")


class Spool:
    """Staged events in order. Methods that say so want the caller to hold ``lock``."""

    def __init__(self, lock: threading.RLock, clock: Clock, place: SpoolPlace) -> None:
        """Prepare; nothing is made before the first event.

        Args:
            lock: guards everything here.
            clock: says when an event was staged.
            place: where, and how much.
        """
        self.lock = lock
        self._clock = clock
        self._folder = place.folder
        self._name = place.name
        self.salt = salt_of(place.name)
        """For ``encode_record``."""
        self._about = place.about
        self._segment_bytes = place.segment_bytes
        self._bytes_max = place.bytes_max
        self._is_synced = place.is_synced
        self._own: Owner | None = None
        self._active: Part | None = None
        self._adopted: list[Owner] = []
        self._next_number = 1
        self._is_rolling = False
        self.is_closed = False
        """Nothing is handed out or noted any more."""
        self._reading = threading.Lock()
        self._in_flight: list[Taken] = []
        self._unsynced: set[Part] = set()
        self._names_made = 0
        self._names_synced = 0
        """Segments made, and those of them whose names survive a power cut."""
        self.staged_count = 0
        self.read_count = 0
        """Own events that were handed out or dropped: those from here on wait."""
        self.synced_count = 0
        self.adopted_count = 0
        self.bytes = self.unstaged_bytes = 0
        """What the files take; of every change of that, those by something else than staging."""
        self.unread_bytes = 0
        self.dropped: Counter[str] = Counter()

    # -- in ---------------------------------------------------------------------------------

    def append(self, record: bytes, fingerprint: str) -> None:
        """Add one record as the newest; the caller holds the lock.

        Args:
            record: of one event.
            fingerprint: of the message type that encoded it; empty for a row.

        Raises:
            SpoolFullError: it was not added, as there is no room.
            UnavailableError: it was not added, as this process may not open one more file.
            UsageError: it was not added, as the folder cannot be made where it was asked for.
        """
        size = len(record)
        if self.bytes + size > self._bytes_max:
            raise SpoolFullError("quota")
        part = self._active
        if (
            part is None
            or part.segment.size >= self._segment_bytes
            or (fingerprint and part.fingerprint != fingerprint)
        ):
            try:
                part = self._roll_once(fingerprint)
            except OSError as error:
                raise SpoolFullError("disk", error) from error
        if self.is_closed:
            raise UsageError("this spool is closed")
        # A signal's function may raise, stage, flush or close wherever something is called. From
        # here to the write nothing is, and after it the event is staged.
        segment = part.segment
        write, memory, begin = segment.write, segment.content, segment.size
        segment.size = begin + size
        part.events += 1
        self.bytes += size
        self.unread_bytes += size
        self.staged_count += 1
        if memory is not None:
            memory += record
            return
        try:
            if write(record, begin) != size:
                raise OSError(errno.ENOSPC, "there was room for a part of an event")
        except OSError as error:
            part.events -= 1
            self.staged_count -= 1
            if segment.size == begin + size:  # else somebody has appended, and a gap is left
                segment.size = begin
                self.bytes -= size
                self.unread_bytes -= size
                segment.cut()
            raise SpoolFullError("disk", error) from error

    def drop_oldest(self) -> int:
        """Drop the oldest segment's waiting events; return how many. The caller holds the lock.

        0 when none waits that could be dropped.
        """
        for part in list(self._own.parts) if self._own else ():
            if part.read_to >= part.segment.size or part.pins:
                continue
            if part is self._active:
                self._active = None
                self._unsynced.add(part)  # for what is on its way
            count = part.events - part.events_read
            self.read_count += count
            part.events_read += count
            self.dropped["oldest"] += count
            self._pass_over(part, part.segment.size)
            return count
        return 0

    def adopt(self) -> int:
        """Take over what processes that ended have left; return how many bytes."""
        if self._folder is None:
            return 0
        with self.lock:
            if self._own and self._own.folder and self._own.folder.is_deleted:
                self._leave_deleted()
            own = self._own.folder.path if self._own and self._own.folder else ""
        held = {owner.folder.path for owner in self._adopted if owner.folder}
        size = 0
        remove_unfinished(self._folder, self._clock.now())
        for path in orphans(self._folder):
            if path == own or path in held:
                continue
            folder = None
            try:
                with fork_pause.lock:
                    folder = OwnerFolder.adopt(path)
                    if folder is not None:
                        size += self._take_over(folder)
            except OSError as error:
                _logger.warning("%s cannot be taken over: %s", path, error)
                if folder is not None:
                    folder.release()
        return size

    # -- out --------------------------------------------------------------------------------

    def take(self, *, bytes_max: int, count_max: int) -> Taken | None:
        """Hand out the oldest events that were not yet; None when there are none.

        Args:
            bytes_max: of all records together; one event is handed out whatever its size.
            count_max: events.
        """
        with self._reading:
            while True:
                with self.lock:
                    part = self._next_part()
                    if part is None:
                        return None
                    part.pins += 1
                    begin, end = part.read_to, part.segment.size
                try:
                    records = read_records(part.segment, begin, end, bytes_max, count_max)
                finally:
                    with self.lock:
                        self._unpin(part)
                if self.is_closed:
                    return None
                if records.damaged:
                    self._keep_damaged(part, begin, records)
                with self.lock:
                    taken = self._note(part, begin, end, records)
                if taken is not None:
                    return taken

    def settle(self, taken: Taken) -> None:
        """Note that something has become of every event of ``taken``."""
        with self.lock:
            if taken in self._in_flight:
                self._in_flight.remove(taken)
            if self.is_closed:
                return  # somebody else may have adopted it by now, and finds it stored
            taken.part.settled[taken.begin] = taken.end
            self._advance(taken.part)

    def left_of_first(self, count: int) -> int:
        """Return how many of the first ``count`` own events are left; the caller holds the lock."""
        left = max(0, count - self.read_count)
        for taken in self._in_flight:
            if taken.first >= 0:
                left += max(0, min(count - taken.first, len(taken.ids)))
        return left

    def oldest_staged_at(self) -> float | None:
        """Return when the oldest event left was staged, seconds since 1970; None: none is left.

        The caller holds the lock.
        """
        times = [taken.staged_at for taken in self._in_flight]
        part = self._next_part()
        if part is not None and not times:
            records = read_records(part.segment, part.read_to, part.segment.size, 1, 1)
            if records.staged_at is not None:
                times.append(records.staged_at)
        return min(times, default=None)

    def left(self) -> list[tuple[bytes, bytes, bool, str]]:
        """Return (insert ID, payload, is row, fingerprint) of own events that are not settled."""
        found: list[tuple[bytes, bytes, bool, str]] = []
        with self.lock:
            parts = list(self._own.parts) if self._own else []
        for part in parts:
            for records in unsettled_in(part):
                found.extend((*event, part.fingerprint) for event in records.events())
        return found

    # -- stable storage ---------------------------------------------------------------------

    def sync(self) -> int:
        """Bring everything staged to stable storage; return how many own events that is.

        Raises:
            OSError: the disk failed.
        """
        with self.lock:
            if self.is_closed:
                raise OSError(errno.EBADF, "the spool is closed")
            target = self.staged_count
            names = self._names_made
            folder = self._own.folder if self._own and names > self._names_synced else None
            # Until they are synced they stay in the set: whoever syncs meanwhile needs them too.
            rolled = list(self._unsynced)
            parts = [*rolled, *([self._active] if self._active else [])]
            ends = [part.segment.size for part in parts]
            for part in parts:
                part.pins += 1
        try:
            for part, end in zip(parts, ends, strict=True):
                part.segment.sync(end)
            if folder is not None:
                folder.sync()
        finally:
            with self.lock:
                for part in parts:
                    self._unpin(part)
                    if not self.is_closed:
                        self._advance(part)
        with self.lock:
            self._unsynced.difference_update(rolled)
            self._names_synced = max(self._names_synced, names)
            self.synced_count = max(self.synced_count, target)
        return target

    # -- the end ----------------------------------------------------------------------------

    def close(self, timeout_seconds: float = -1) -> bool:
        """Let go of everything: what is acked is removed, the rest waits to be adopted.

        What a thread is using, such as one that hangs in a sync, it lets go of itself.

        Args:
            timeout_seconds: wait for the lock at most this long, which a thread may hold whose
                disk hangs; -1: no limit.

        Returns:
            Whether it is closed.
        """
        if not self.lock.acquire(timeout=timeout_seconds):
            return False
        try:
            owners = [*self._adopted, *([self._own] if self._own else [])]
            self._adopted, self._own, self._active = [], None, None
            self.unread_bytes = 0
            self.is_closed = True
            for owner in owners:
                owner.let_go()
        finally:
            self.lock.release()
        return True

    def abandon(self) -> None:
        """Close this process's copies of the files: after a fork they are the parent's."""
        for owner in [*self._adopted, *([self._own] if self._own else [])]:
            for part in owner.parts:
                part.segment.close()
            if owner.folder is not None:
                owner.folder.release()

    # -- inside -----------------------------------------------------------------------------

    def _roll_once(self, fingerprint: str) -> Part:
        """Begin a new segment; within that, for a signal's function, return the old one.

        Raises:
            OSError: there is no room for it.
            UnavailableError: there is no old one, or not one for such events.
        """
        if self.is_closed:
            raise UsageError("this spool is closed")
        if self._is_rolling:
            part = self._active
            if part is None or (fingerprint and part.fingerprint != fingerprint):
                raise UnavailableError(
                    "the event was not taken: this call has interrupted one that makes the file"
                    " for it"
                )
            return part
        self._is_rolling = True
        try:
            return self._roll(fingerprint)
        finally:
            self._is_rolling = False

    def _roll(self, fingerprint: str) -> Part:
        """Begin a new segment; OSError when there is no room for it."""
        try:
            part = self._begin_part(fingerprint)
        except FileNotFoundError:
            self._leave_deleted()
            part = self._begin_part(fingerprint)
        part.owner.parts.append(part)
        old, self._active = self._active, part
        self._names_made += 1
        self.bytes += part.segment.size
        self.unstaged_bytes += part.segment.size
        if old is not None:
            self._unsynced.add(old)
            self._advance(old)
        return part

    def _begin_part(self, fingerprint: str) -> Part:
        own = self._own
        if own is None:
            own = Owner(None)
            with fork_pause.lock:
                own.folder = OwnerFolder.create(self._folder, self._name) if self._folder else None
                self._own = own
        number = self._next_number
        self._next_number += 1  # whatever happens now, another attempt has another file
        now = self._clock.now()
        return begin_part(own, number, self.salt, fingerprint, self._about, now)

    def _leave_deleted(self) -> None:
        """Have the next event begin another folder: somebody has deleted the own one.

        What was staged is sent from the open files. The caller holds the lock.
        """
        gone = self._own
        if gone is None or gone.folder is None:
            return
        said = "somebody has deleted %s: its events are sent as long as this process lives"
        _logger.error(said, gone.folder.path)
        gone.folder.release()
        gone.folder = self._own = self._active = None
        if gone.parts:
            self._adopted.append(gone)
        for part in list(gone.parts):
            self._advance(part)

    def _take_over(self, folder: OwnerFolder) -> int:
        owner = opened(folder, is_synced=self._is_synced)
        size = sum(part.segment.size - part.read_to for part in owner.parts)
        if not owner.parts:
            folder.remove()
            return 0
        with self.lock:
            if self.is_closed:  # meanwhile: somebody else is to send it
                for part in owner.parts:
                    part.segment.close()
                folder.release()
                return 0
            self._adopted.append(owner)
            self.unread_bytes += size
            taken_bytes = sum(part.segment.size for part in owner.parts)
            self.bytes += taken_bytes
            self.unstaged_bytes += taken_bytes
        _logger.info(
            "took over %d bytes of events that a process has left in %s", size, folder.path
        )
        return size

    def _unpin(self, part: Part) -> None:
        """Note that a thread no longer uses the segment; the caller holds the lock."""
        part.pins -= 1
        if self.is_closed:
            part.owner.let_go()

    def _next_part(self) -> Part | None:
        for owner in (*self._adopted, *([self._own] if self._own else [])):
            for part in owner.parts:
                if part.read_to < part.segment.size:
                    return part
        return None

    def _note(self, part: Part, begin: int, end: int, records: Records) -> Taken | None:
        """Take note of what was read from ``begin`` on; the caller holds the lock."""
        if part.read_to != begin or self.is_closed:
            return None
        if not records.ids:
            # Nothing whole: a write that the end of its process broke off, or damage to the end.
            self._pass_over(part, begin + records.end if records.end else end)
            return None
        part.read_to = begin + records.end
        self.unread_bytes -= records.end
        count = len(records.ids)
        first = -1
        if not part.is_own:
            self.adopted_count += count
        else:
            first = self.read_count
            self.read_count += count
            part.events_read += count
        self._count_lost(part)
        taken = Taken(
            records.ids, records.payloads, records.rows, part.fingerprint,
            records.staged_at or 0.0, first, part, begin, part.read_to,
        )  # fmt: skip
        self._in_flight.append(taken)
        return taken

    def _pass_over(self, part: Part, end: int) -> None:
        """Leave out what lies between the read offset and ``end``."""
        self.unread_bytes -= end - part.read_to
        part.settled[part.read_to] = end
        part.read_to = end
        self._count_lost(part)
        self._advance(part)

    def _count_lost(self, part: Part) -> None:
        """Count own events that were to be in the part, once it is read to its end, and were not.

        The caller holds the lock.
        """
        if part.is_own and part.read_to >= part.segment.size:
            lost = part.events - part.events_read
            part.events_read += lost
            self.read_count += lost
            self.dropped += Counter(damaged=lost)

    def _advance(self, part: Part) -> None:
        """Move the acked offset on, and remove what is done with; the caller holds the lock."""
        while part.acked_to in part.settled:
            part.acked_to = part.settled.pop(part.acked_to)
        owner = part.owner
        is_done = part.acked_to >= part.segment.size and part is not self._active
        if is_done and not part.pins and part in owner.parts:
            owner.parts.remove(part)
            self._end_part(part)
        if owner.parts:
            if owner.folder is not None:
                with suppress(OSError):  # a checkpoint behind the truth costs repeats, no more
                    first = owner.parts[0]
                    owner.folder.write_checkpoint(first.segment.number, first.acked_to)
        elif owner is not self._own and owner in self._adopted:
            self._adopted.remove(owner)
            if owner.folder is not None:
                owner.folder.remove()

    def _end_part(self, part: Part) -> None:
        self._unsynced.discard(part)
        self.bytes -= part.segment.size
        self.unstaged_bytes -= part.segment.size
        with suppress(OSError):  # what cannot be removed is skipped by the checkpoint
            part.segment.remove()

    def _keep_damaged(self, part: Part, begin: int, records: Records) -> None:
        """Copy stretches that are no record aside, before their segment goes."""
        for start, stop in records.damaged:
            set_aside(part, begin + start, stop - start)
            if not part.is_own and begin + start:  # what begins at 0 is the header
                with self.lock:
                    self.adopted_count += 1
                    self.dropped["damaged"] += 1
