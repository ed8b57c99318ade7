"""The raw log floor: the same frames to the same disk with the same syncs, and nothing else.

No validation, no deduplication, no verdicts: what is left is what the machine charges for an ack.
"""

import asyncio
import os
import threading

from eventmill.store.local.frame import encode_head


class FloorLog:
    """Appends payloads as frames and syncs each write."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def append(self, payloads):
        """Write one frame a payload in one write, and sync."""
        parts = []
        for payload in payloads:
            parts.append(encode_head(payload, sequence=1, received_us=0, version=1, count=1))
            parts.append(payload)
        os.write(self._fd, b"".join(parts))
        os.fdatasync(self._fd)

    def close(self):
        """Let go of the file."""
        os.close(self._fd)


class FloorGroup:
    """Group commit of single payloads for asyncio writers, in one thread."""

    def __init__(self, path):
        self._log = FloorLog(path)
        self._waiting = []
        self._wake = threading.Condition()
        self._stop = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def submit(self, payload):
        """Queue ``payload``; return an asyncio future that ends when it is synced."""
        future = self._loop.create_future()
        with self._wake:
            self._waiting.append((payload, future))
            if len(self._waiting) == 1:
                self._wake.notify()
        return future

    def close(self):
        """Stop the thread."""
        with self._wake:
            self._stop = True
            self._wake.notify()
        self._thread.join()
        self._log.close()

    def _run(self):
        while True:
            with self._wake:
                while not self._waiting and not self._stop:
                    self._wake.wait()
                if self._stop:
                    return
                group, self._waiting = self._waiting, []
            self._log.append([payload for payload, _ in group])
            self._loop.call_soon_threadsafe(_finish, [future for _, future in group])


def _finish(futures):
    for future in futures:
        if not future.done():
            future.set_result(None)
