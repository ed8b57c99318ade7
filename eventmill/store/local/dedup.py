"""The deduplication window: which insert IDs were stored lately. Exact, in memory.

An insert ID is kept as a 16-byte hash (XXH3-128 with a seed of the store's own, so that nobody
outside can choose two IDs that collide). One set answers the question; beside it the hashes lie in
buckets by the hour they came in, so that those older than the window are dropped an hour at a time
without looking at each. About 100 bytes an ID: 10 million events a day are 1 GB.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import xxhash

BUCKET_SECONDS = 3600.0


class DedupWindow:
    """Insert IDs of one table that were stored within the window. Owned by one thread."""

    def __init__(self, window_seconds: float) -> None:
        """Make an empty window of at least ``window_seconds``; 0 keeps nothing."""
        self.window_seconds = window_seconds
        self._seen: set[bytes] = set()
        self._buckets: dict[int, list[Sequence[bytes]]] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def admit(self, keys: Sequence[bytes], now: float) -> Sequence[int]:
        """Take in the hashes of one batch; return the places of those seen before, ascending.

        Of equal hashes within ``keys`` the first is new and the others are duplicates. A caller
        whose write then fails must call ``forget`` with the same arguments and that answer.
        """
        if not self.window_seconds:
            return self._repeats_within(keys)
        distinct = set(keys)
        if len(distinct) == len(keys) and self._seen.isdisjoint(distinct):
            self._seen |= distinct
            self._bucket(now).append(keys)
            return ()
        duplicates: list[int] = []
        new: list[bytes] = []
        for index, key in enumerate(keys):
            if key in self._seen:
                duplicates.append(index)
            else:
                self._seen.add(key)
                new.append(key)
        if new:
            self._bucket(now).append(new)
        return duplicates

    def forget(self, keys: Sequence[bytes], duplicates: Sequence[int], now: float) -> None:
        """Undo the latest ``admit``: the events were not stored after all.

        Several are undone in reverse order, with the ``now`` they were admitted with.
        """
        if self.window_seconds and len(duplicates) < len(keys):
            self._seen.difference_update(self._bucket(now).pop())

    def restore(self, keys: Iterable[bytes], stored_at: float, now: float) -> None:
        """Take in hashes that a reopened store holds, with the time they were stored.

        Those from before the window are passed over, by the very rule that ``expire`` goes by: an
        ID that was stored again since then is known by its later time.
        """
        if stored_at // BUCKET_SECONDS < self._oldest_bucket(now):
            return
        part = [key for key in keys if key not in self._seen]
        self._seen.update(part)
        self._bucket(stored_at).append(part)

    def expire(self, now: float) -> int:
        """Drop the buckets that lie wholly before the window; return how many IDs went."""
        oldest = self._oldest_bucket(now)
        gone = 0
        for bucket in [b for b in self._buckets if b < oldest]:
            for keys in self._buckets.pop(bucket):
                self._seen.difference_update(keys)
                gone += len(keys)
        return gone

    def _oldest_bucket(self, now: float) -> int:
        return int((now - self.window_seconds) // BUCKET_SECONDS)

    def _bucket(self, now: float) -> list[Sequence[bytes]]:
        return self._buckets.setdefault(int(now // BUCKET_SECONDS), [])

    @staticmethod
    def _repeats_within(keys: Sequence[bytes]) -> Sequence[int]:
        seen: set[bytes] = set()
        repeats = []
        for index, key in enumerate(keys):
            if key in seen:
                repeats.append(index)
            seen.add(key)
        return repeats


def hash_ids(insert_ids: Iterable[bytes], seed: int) -> list[bytes]:
    """Return the 16-byte hash of each insert ID under the store's ``seed`` (64 bits)."""
    digest = xxhash.xxh3_128_digest
    return [digest(insert_id, seed) for insert_id in insert_ids]
