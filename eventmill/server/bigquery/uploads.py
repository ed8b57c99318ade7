"""Files on their way to load jobs: whole in one multipart request, or piece by piece, resumable.

A resumable upload is a file beside a note of what it is for; both survive the process, so that a
client goes on where its last piece was kept.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import orjson

from eventmill.base.clock import Clock
from eventmill.server.bigquery.errors import ApiError, invalid, not_found

UPLOAD_BYTES_MAX = 1_000_000_000
"""Bytes of one uploaded file: what a load job of one machine should take at once."""
KEPT_SECONDS = 86_400.0
"""How long an upload that does not go on is kept (a resumable URI of Google's: a week)."""
_ID = re.compile(r"[0-9a-f]{32}")
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload."""

    upload_id: str
    project: str
    principal: str
    """Name of the key that began it."""
    document: dict[str, Any]
    """The job that it is for."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What a request carries of an upload."""

    start: int | None
    """Where its bytes belong; None: it has none and asks how far the upload is."""
    end: int
    """One past its last byte."""
    total: int | None
    """Bytes of the whole file; None: not known yet."""


class Uploads:
    """The uploads of one folder. Safe from any thread; each upload is one client's."""

    def __init__(self, folder: str, clock: Clock) -> None:
        """Keep uploads in ``folder``, made when it is missing."""
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._folder = folder
        self._clock = clock

    def begin(self, project: str, principal: str, document: dict[str, Any]) -> Upload:
        """Begin an upload for the job in ``document``."""
        upload = Upload(secrets.token_hex(16), project, principal, document)
        note = {"project": project, "principal": principal, "document": document}
        with open(self._note(upload.upload_id), "xb") as file:
            file.write(orjson.dumps(note))
        with open(self.path(upload.upload_id), "xb"):
            pass
        return upload

    def find(self, upload_id: str, project: str, principal: str) -> Upload:
        """Return an upload of ``principal``; anybody else's does not exist."""
        if not _ID.fullmatch(upload_id):
            raise not_found("Upload", upload_id[:40])
        try:
            with open(self._note(upload_id), "rb") as file:
                note = orjson.loads(file.read())
        except FileNotFoundError:
            raise not_found("Upload", upload_id) from None
        if (note["project"], note["principal"]) != (project, principal):
            raise not_found("Upload", upload_id)
        return Upload(upload_id, project, principal, note["document"])

    def path(self, upload_id: str) -> str:
        """Return the path of the file as far as it is there."""
        return os.path.join(self._folder, f"{upload_id}.part")

    def size(self, upload: Upload) -> int:
        """Return how many bytes are there."""
        return os.path.getsize(self.path(upload.upload_id))

    def close(self, upload: Upload) -> None:
        """Forget what the upload is for; its file stays, for the job that takes it over."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._note(upload.upload_id))

    def forget(self, upload_id: str) -> None:
        """Remove an upload with its file."""
        for path in (self._note(upload_id), self.path(upload_id)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def prune(self, *, spared: frozenset[str]) -> int:
        """Remove uploads that do not go on, but for those that a job will read; return how many."""
        count = 0
        for entry in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):
                upload_id = entry.name.partition(".")[0]
                age = self._clock.now() - entry.stat().st_mtime
                if age > KEPT_SECONDS and upload_id not in spared:
                    os.unlink(entry.path)
                    count += 1
        return count

    def _note(self, upload_id: str) -> str:
        return os.path.join(self._folder, f"{upload_id}.json")


def piece_of(content_range: str | None, length: int | None) -> Piece:
    """Return what a request's headers say that it carries.

    Args:
        content_range: ``bytes 0-99/1000``, ``bytes 0-99/*``, ``bytes */1000``; None: the body is
            the whole file.
        length: the Content-Length; None: not given.
    """
    if content_range is None:
        return Piece(0, -1 if length is None else length, length)
    match = _RANGE.fullmatch(content_range.strip())
    if match is None:
        raise invalid(f"Content-Range {content_range!r} is not bytes FIRST-LAST/TOTAL")
    total = None if match[3] == "*" else int(match[3])
    if match[1] is None:
        return Piece(None, 0, total)
    first, last = int(match[1]), int(match[2])
    if last < first or (total is not None and last >= total):
        raise invalid(f"Content-Range {content_range!r} makes no sense")
    return Piece(first, last + 1, total)


def check_size(size: int) -> None:
    """Refuse a file that is too large."""
    if size > UPLOAD_BYTES_MAX:
        raise ApiError(
            413,
            "invalid",
            f"the file has over {UPLOAD_BYTES_MAX:,} bytes, the limit of one load job: load it in"
            " parts",
        )


def split_multipart(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the job and the file of a ``multipart/related`` body.

    The parts may have any media type, ``*/*`` too: the first one is JSON, the second the file.
    """
    head, marks = _boundary(content_type)
    if head != "multipart/related" or not marks:
        raise invalid("uploadType=multipart wants a body of multipart/related with a boundary")
    parts = body.split(b"--" + marks)
    if len(parts) != 4 or not parts[3].startswith(b"--"):
        raise invalid("the multipart body must have two parts: the job as JSON, and the file")
    contents = [_content(part) for part in parts[1:3]]
    try:
        document = orjson.loads(contents[0])
    except orjson.JSONDecodeError as error:
        raise invalid(f"the first part is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise invalid("the first part must be a JSON object: the job")
    return document, contents[1]


def _boundary(content_type: str) -> tuple[str, bytes]:
    message = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n"
    )
    return message.get_content_type(), str(message.get_boundary("")).encode("latin-1")


def _content(part: bytes) -> bytes:
    for line_end in (b"\r\n", b"\n"):
        head, found, content = part.partition(line_end * 2)
        if found:
            break
    else:
        raise invalid("a part of the multipart body has no empty line after its head")
    del head
    # The line break before the next boundary belongs to the boundary (RFC 2046, 5.1.1).
    return content.removesuffix(b"\n").removesuffix(b"\r")
