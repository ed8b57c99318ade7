"""Answers of queries, kept on disk for as long as clients may page through them."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass

import pyarrow as pa

from eventmill.server.bigquery.errors import ApiError

KEPT_SECONDS = 86_400.0
"""How long an answer can be paged through, as in BigQuery (about 24 hours)."""
KEPT_BYTES_MAX = 4_000_000_000
"""Bytes of all answers; beyond it the oldest ones go first."""
PAGE_BYTES_MAX = 10_000_000
"""Bytes of a page, about, whatever number of rows is asked for (as in BigQuery: 10 MB)."""
_BATCH_ROWS = 4_096


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of an answer."""

    rows: pa.Table
    start: int
    total: int

    @property
    def next_start(self) -> int | None:
        """Where the next page begins; None: this is the last one."""
        end = self.start + self.rows.num_rows
        return end if end < self.total else None


class Results:
    """Files of one folder, one an answer. Safe from any thread."""

    def __init__(self, folder: str) -> None:
        """Keep answers in ``folder``, made when it is missing."""
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()

    def keep(self, key: str, rows: pa.Table, *, durable: bool = False) -> int:
        """Keep an answer; return its bytes.

        Args:
            key: names it: letters and digits.
            rows: all of it.
            durable: whether it must survive a power cut once this returns.
        """
        path = self._path(key)
        unfinished = f"{path}.new"
        with pa.OSFile(unfinished, "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=_BATCH_ROWS)
        if durable:
            _sync(unfinished)
        os.replace(unfinished, path)
        if durable:
            _sync(self._folder)
        return os.path.getsize(path)

    def has(self, key: str) -> bool:
        """Tell whether the answer is kept."""
        return os.path.exists(self._path(key))

    def page(self, key: str, start: int, count: int) -> Page:
        """Return at most ``count`` rows from ``start`` on, and no more than a page has.

        Raises:
            ApiError: the answer is not kept any more.
        """
        try:
            source = pa.memory_map(self._path(key), "r")
        except FileNotFoundError:
            raise ApiError(
                404, "notFound", "the rows of this job are not kept any more: run it again"
            ) from None
        with source, pa.ipc.open_file(source) as reader:
            return _page(reader, start, count)

    def read(self, key: str) -> pa.Table:
        """Return a whole answer."""
        with pa.memory_map(self._path(key), "r") as source, pa.ipc.open_file(source) as reader:
            return reader.read_all()

    def forget(self, key: str) -> None:
        """Remove an answer, if it is kept."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(key))

    def prune(self, now: float, *, spared: frozenset[str] = frozenset()) -> int:
        """Remove answers that are too old or too many; return how many.

        Args:
            now: seconds since 1970.
            spared: keys that must stay, of jobs that are not done.
        """
        with self._lock:
            found = []
            for entry in os.scandir(self._folder):
                with contextlib.suppress(FileNotFoundError):
                    stat = entry.stat()
                    found.append((stat.st_mtime, stat.st_size, entry.path))
            total = sum(size for _, size, _ in found)
            count = 0
            for written_at, size, path in sorted(found):
                if now - written_at < KEPT_SECONDS and total <= KEPT_BYTES_MAX:
                    break
                if os.path.basename(path).partition(".")[0] in spared:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                total -= size
                count += 1
            return count

    def _path(self, key: str) -> str:
        return os.path.join(self._folder, f"{key}.arrow")


def _page(reader: pa.ipc.RecordBatchFileReader, start: int, count: int) -> Page:
    # Mapped, not read: a batch costs microseconds as long as nobody looks at its values.
    batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
    picked: list[pa.RecordBatch] = []
    at = size = 0
    left = count
    for batch in batches:
        begin = max(0, start - at)
        at += batch.num_rows
        if begin >= batch.num_rows or left <= 0:
            continue
        part = batch.slice(begin, left)
        if size + part.nbytes > PAGE_BYTES_MAX:
            # At least one row, however large: a page that ends where it began never ends.
            fits = int(part.num_rows * (PAGE_BYTES_MAX - size) / part.nbytes)
            part = part.slice(0, fits or (0 if picked else 1))
            left = part.num_rows
        picked.append(part)
        left -= part.num_rows
        size += part.nbytes
    return Page(pa.Table.from_batches(picked, schema=reader.schema), start, at)


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
