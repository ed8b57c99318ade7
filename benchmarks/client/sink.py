"""A sink that does next to nothing: reads requests, answers as each protocol wants, keeps bodies.

``python -m benchmarks.client.sink PORT TABLE_FILE`` prints its port. What came is counted when
``GET /counts`` asks, not while it comes in, so that the count costs no contender its pace.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import struct
import sys
from pathlib import Path

from benchmarks.client.event import UNCOUNTED

_MARKER = re.compile(rb"EVT-(\d{7})")
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_GZIPPED = re.compile(rb"\r\ncontent-encoding: *gzip", re.IGNORECASE)


class Kept:
    """Bodies that were answered with success."""

    def __init__(self, table):
        self.table = table
        self.bodies = []

    def counts(self):
        """Return how many events came, and how many of them were different ones."""
        numbers = [
            int(found)
            for body, is_gzipped in self.bodies
            for found in _MARKER.findall(gzip.decompress(body) if is_gzipped else body)
        ]
        counted = [number for number in numbers if number < UNCOUNTED]
        return {
            "requests": len(self.bodies),
            "bytes": sum(len(body) for body, _ in self.bodies),
            "events": len(counted),
            "different": len(set(counted)),
        }


def answer(path, body):
    """Return what a service of the path's protocol answers to ``body`` when all is well."""
    if path.startswith(b"/api/v1/tables/"):
        count = struct.unpack_from("<I", body)[0]
        return b'{"count":%d,"accepted":%d,"duplicates":0,"rejected":[],"duplicate_indexes":[]}' % (
            count,
            count,
        )
    if b"/insertAll" in path:
        return b'{"kind":"bigquery#tableDataInsertAllResponse"}'
    if path.startswith(b"/v1/logs"):
        return b""
    return b'{"status":1}'


class Connection(asyncio.Protocol):
    """One connection that is kept alive."""

    def __init__(self, kept):
        self._kept = kept
        self._waiting = bytearray()
        self._wanted = 0
        """Bytes that must be there before it is of use to look again."""

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._waiting += data
        while len(self._waiting) >= self._wanted:
            end = self._waiting.find(_HEAD_END)
            if end < 0:
                return
            head = bytes(self._waiting[:end])
            length = _LENGTH.search(head)
            begin = end + len(_HEAD_END)
            self._wanted = begin + (int(length[1]) if length else 0)
            if len(self._waiting) < self._wanted:
                return
            body = bytes(self._waiting[begin : self._wanted])
            del self._waiting[: self._wanted]
            self._wanted = 0
            self._take(head, body)

    def _take(self, head, body):
        method, path, _ = head.split(b" ", 2)
        if method == b"POST":
            self._kept.bodies.append((body, bool(_GZIPPED.search(head))))
            told = answer(path, body)
        elif path == b"/counts":
            told = json.dumps(self._kept.counts()).encode()
        else:
            told = self._kept.table
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(told), told)
        )


async def main(port, table):
    """Serve on ``port``, 0 for a free one, until the process is ended."""
    kept = Kept(Path(table).read_bytes())
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(kept), "127.0.0.1", port, reuse_address=True
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
