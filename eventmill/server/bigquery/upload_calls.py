"""Load jobs with their file: ``uploadType=multipart`` and ``uploadType=resumable``."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from eventmill.server.bigquery.calls import REQUEST_BYTES_MAX, Answer, Call, Reply
from eventmill.server.bigquery.errors import ApiError, invalid
from eventmill.server.bigquery.job_documents import job_document
from eventmill.server.bigquery.jobs import Asked, Jobs
from eventmill.server.bigquery.uploads import (
    Upload,
    Uploads,
    check_size,
    piece_of,
    split_multipart,
)
from eventmill.server.body import BodyBudget, read_body

MULTIPART_BYTES_MAX = 32_000_000
"""Bytes of a multipart body, which is held in memory whole; larger files are sent resumable."""


class UploadCalls:
    """The calls that bring a file."""

    def __init__(self, jobs: Jobs, uploads: Uploads, budget: BodyBudget) -> None:
        self._jobs = jobs
        self._uploads = uploads
        self._budget = budget
        self._starting = threading.Lock()

    async def post(self, call: Call, request: Request) -> Answer:
        """Take a whole file, or begin a resumable upload."""
        kind = call.query.get("uploadType", "")
        if kind == "multipart":
            async with read_body(request, self._budget, bytes_max=MULTIPART_BYTES_MAX) as body:
                content_type = call.headers.get("content-type", "")
                return await run_in_threadpool(self._whole, call, content_type, body.content)
        if kind != "resumable":
            raise invalid(f"uploadType {kind!r} is neither multipart nor resumable", "uploadType")
        if call.query.get("upload_id"):
            return await self.put(call, request)
        async with read_body(request, self._budget, bytes_max=REQUEST_BYTES_MAX) as body:
            begun = Call(
                call.path, call.query, call.headers, call.principal, call.base_url, body.content
            )
            return await run_in_threadpool(self._begin, begun)

    async def put(self, call: Call, request: Request) -> Answer:
        """Take a piece of a resumable upload, or tell how far it is."""
        upload_id = call.query.get("upload_id", "")
        try:
            upload = await run_in_threadpool(
                self._uploads.find, upload_id, call.project, call.principal.name
            )
        except ApiError:
            job = await run_in_threadpool(self._jobs.of_upload, call, upload_id)
            if job is None:
                raise
            async for _ in request.stream():
                pass  # the answer to the last piece was lost, and so it came again
            return job_document(job, call.base_url)
        length = call.headers.get("content-length", "")
        piece = piece_of(
            call.headers.get("content-range"), int(length) if length.isdigit() else None
        )
        size = await run_in_threadpool(self._uploads.size, upload)
        if piece.start is not None:
            check_size(max(piece.end, piece.total or 0))
            size = await self._append(upload, piece.start, size, request)
        if piece.total is None or size < piece.total:
            headers = {"Range": f"bytes=0-{size - 1}"} if size else {}
            return Reply(None, 308, {**headers, "Content-Length": "0"})
        return await run_in_threadpool(self._start, call, upload)

    async def _append(self, upload: Upload, start: int, size: int, request: Request) -> int:
        """Write a piece behind what is there; return how much that is now."""
        if start > size:
            raise invalid(f"the piece begins at byte {start}, and {size} are there")
        # A piece that is sent again, because its answer was lost, begins within what is there.
        skip = size - start
        with open(self._uploads.path(upload.upload_id), "ab") as file:
            async for chunk in request.stream():
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                part = chunk[skip:]
                skip = 0
                check_size(size + len(part))
                await run_in_threadpool(file.write, part)
                size += len(part)
        return size

    async def cancel(self, call: Call, request: Request) -> Answer:
        """Give up a resumable upload."""
        del request
        name = call.principal.name
        upload = await run_in_threadpool(
            self._uploads.find, call.query.get("upload_id", ""), call.project, name
        )
        await run_in_threadpool(self._uploads.forget, upload.upload_id)
        return Reply(None, 499)

    def _whole(self, call: Call, content_type: str, body: bytes) -> Answer:
        document, content = split_multipart(content_type, body)
        asked = self._load(call, document)
        upload = self._uploads.begin(call.project, call.principal.name, document)
        with open(self._uploads.path(upload.upload_id), "wb") as file:
            file.write(content)
        return self._start(call, upload, asked)

    def _begin(self, call: Call) -> Answer:
        document = call.document()
        self._load(call, document)
        announced = call.headers.get("x-upload-content-length", "")
        if announced.isdigit():
            check_size(int(announced))
        upload = self._uploads.begin(call.project, call.principal.name, document)
        location = (
            f"{call.base_url}/upload/bigquery/v2/projects/{call.project}/jobs"
            f"?uploadType=resumable&upload_id={upload.upload_id}"
        )
        return Reply(None, 200, {"Location": location, "X-GUploader-UploadID": upload.upload_id})

    def _start(self, call: Call, upload: Upload, asked: Asked | None = None) -> Answer:
        """Begin the job of a file that is there whole; once, however often its end comes."""
        with self._starting:
            job = self._jobs.of_upload(call, upload.upload_id)
            return job_document(job, call.base_url) if job else self._begun(call, upload, asked)

    def _begun(self, call: Call, upload: Upload, asked: Asked | None) -> Answer:
        asked = asked or self._load(call, upload.document)
        job = asked.job
        asked = Asked(replace(job, said={**job.said, "upload": upload.upload_id}))
        try:
            self._jobs.begin(call.principal, asked)
        except ApiError:
            self._uploads.forget(upload.upload_id)
            raise
        self._uploads.close(upload)
        return job_document(asked.job, call.base_url)

    def _load(self, call: Call, document: Mapping[str, Any]) -> Asked:
        asked = self._jobs.asked(call, document)
        if asked.job.kind != "load":
            raise invalid("only a load job comes with a file")
        return asked
