"""The deduplication window: which insert IDs were stored lately. Exact, in memory.

An insert ID is kept as a 16-byte hash (XXH3-128 with a seed of the store's own, so that nobody
outside can choose two IDs that collide). One set answers the question; beside it the hashes lie in
buckets by the hour they came in, so that those older than the window are dropped an hour at a time
without looking at each. About 100 bytes an ID: 10 million events a day are 1 GB.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain

import xxhash

BUCKET_SECONDS = 3600.0


class DedupWindow:
    """Insert IDs of one table that were stored within the window. Owned by one thread."""

    def __init__(self, window_seconds: float) -> None:
        """Make an empty window of at least ``window_seconds``; 0 keeps nothing."""
        self.window_seconds = window_seconds
        self._seen: set[bytes] = set()
        self._buckets: dict[int, list[bytes]] = {}
        self._latest: tuple[list[bytes], int] = ([], 0)

    def __len__(self) -> int:
        return len(self._seen)

    def admit(self, batches: Sequence[Sequence[bytes]], now: float) -> Sequence[Sequence[int]]:
        """Take in the hashes of a group of batches; return for each the places of those repeated.

        Places ascend. Repeated is what was seen before, and of equal hashes within the group all
        but the first. A caller whose write then fails must call ``forget``.
        """
        if not self.window_seconds:
            return [_repeats(keys, (), set()) for keys in batches]
        seen = self._seen
        hashes = list(chain.from_iterable(batches))
        new = set(hashes)
        repeated: Sequence[Sequence[int]] = [()] * len(batches)
        if len(new) < len(hashes) or not seen.isdisjoint(new):
            new = set()
            repeated = [_repeats(keys, seen, new) for keys in batches]
        bucket = self._bucket(now)
        self._latest = bucket, len(bucket)
        bucket.extend(new)
        seen |= new
        return repeated

    def forget(self) -> None:
        """Undo the latest ``admit``: the events were not stored after all."""
        bucket, start = self._latest
        self._seen.difference_update(bucket[start:])
        del bucket[start:]

    def restore(self, keys: Iterable[bytes], stored_at: float, now: float) -> None:
        """Take in hashes that a reopened store holds, with the time they were stored.

        Those from before the window are passed over, by the very rule that ``expire`` goes by: an
        ID that was stored again since then is known by its later time.
        """
        if stored_at // BUCKET_SECONDS < self._oldest_bucket(now):
            return
        part = [key for key in keys if key not in self._seen]
        self._seen.update(part)
        self._bucket(stored_at).extend(part)

    def expire(self, now: float) -> int:
        """Drop the buckets that lie wholly before the window; return how many IDs went."""
        oldest = self._oldest_bucket(now)
        gone = 0
        for bucket in [b for b in self._buckets if b < oldest]:
            keys = self._buckets.pop(bucket)
            self._seen.difference_update(keys)
            gone += len(keys)
        return gone

    def _oldest_bucket(self, now: float) -> int:
        return int((now - self.window_seconds) // BUCKET_SECONDS)

    def _bucket(self, now: float) -> list[bytes]:
        return self._buckets.setdefault(int(now // BUCKET_SECONDS), [])


def hash_ids(insert_ids: Sequence[bytes], seed: int) -> list[bytes]:
    """Return the 16-byte hash of each insert ID under the store's ``seed`` (64 bits)."""
    digest = xxhash.xxh3_128_digest
    if len(insert_ids) == 1:
        return [digest(insert_ids[0], seed)]
    return [digest(insert_id, seed) for insert_id in insert_ids]


def _repeats(keys: Sequence[bytes], seen: Collection[bytes], new: set[bytes]) -> Sequence[int]:
    """Return the places of those in ``seen`` or ``new``; put the others into ``new``."""
    places = []
    for index, key in enumerate(keys):
        if key in seen or key in new:
            places.append(index)
        else:
            new.add(key)
    return places
