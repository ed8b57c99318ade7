"""``jobs.query`` and ``jobs.getQueryResults``: ask, wait, and page through the answer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool

from eventmill.schema.table import TableId
from eventmill.server.bigquery.calls import Answer, Call
from eventmill.server.bigquery.cells import encode_rows
from eventmill.server.bigquery.documents import (
    check_keys,
    etag_of,
    number_of,
    token_number,
    token_of,
)
from eventmill.server.bigquery.errors import error_of_fault, invalid, not_found, unsupported
from eventmill.server.bigquery.job_book import Job
from eventmill.server.bigquery.job_documents import answer_key, answer_table, job_reference
from eventmill.server.bigquery.jobs import Jobs
from eventmill.server.bigquery.results import KEPT_SECONDS, Results
from eventmill.server.bigquery.rooms import shown
from eventmill.server.bigquery.tables import reference

_WAIT_MS_DEFAULT = 10_000
_WAIT_MS_MAX = 200_000
_PAGE_ROWS_MAX = 100_000
_REQUESTS_KEPT = 1_000
_QUERY_KEYS = (
    "query",
    "defaultDataset",
    "useLegacySql",
    "maximumBytesBilled",
    "parameterMode",
    "queryParameters",
)
_TAKEN = (
    *_QUERY_KEYS,
    "maxResults",
    "timeoutMs",
    "jobTimeoutMs",
    "dryRun",
    "location",
    "labels",
    "formatOptions",
    "requestId",
)
_IGNORED = ("kind", "useQueryCache", "preserveNulls", "jobCreationMode", "reservation", "maxSlots")


class QueryCalls:
    """The calls that answer with rows of queries."""

    def __init__(self, jobs: Jobs, results: Results) -> None:
        self._jobs = jobs
        self._results = results
        self._requests: OrderedDict[tuple[str, str, str], Job] = OrderedDict()
        """Jobs by project, caller and request ID: a request that is repeated runs nothing anew."""

    async def query(self, call: Call) -> Answer:
        """Run a query, and answer with its first rows if it is done in time."""
        document = call.document()
        form = document.get("queryResultsFormat") or "STRUCT_ENCODING"
        if form != "STRUCT_ENCODING":
            raise unsupported(f"queryResultsFormat {form}", "leave it out")
        check_keys(document, (*_TAKEN, "queryResultsFormat"), _IGNORED, "query request")
        waits_ms = number_of(document, "timeoutMs")
        wanted = number_of(document, "maxResults")
        name = (call.project, call.principal.name, str(document.get("requestId") or ""))
        job = self._requests.get(name) if name[2] else None
        if job is None:
            asked = await run_in_threadpool(self._jobs.asked, call, _job_of(document))
            if asked.is_dry and asked.settings is not None:
                statistics = await run_in_threadpool(self._jobs.dry_statistics, asked.settings)
                return _dry_answer(asked.job, statistics)
            await run_in_threadpool(self._jobs.begin, call.principal, asked)
            job = asked.job
            if name[2]:
                self._requests[name] = job
                if len(self._requests) > _REQUESTS_KEPT:
                    self._requests.popitem(last=False)
        seconds = min(_WAIT_MS_DEFAULT if waits_ms is None else waits_ms, _WAIT_MS_MAX) / 1000
        job = await self._jobs.wait(job, seconds)
        return await run_in_threadpool(
            self._answer,
            job,
            "bigquery#queryResponse",
            0,
            _PAGE_ROWS_MAX if wanted is None else wanted,
            _wants_int64(document.get("formatOptions")),
        )

    async def results(self, call: Call) -> Answer:
        """Wait for a query's job, and answer with some of its rows."""
        job = await run_in_threadpool(self._jobs.required, call)
        if job.kind != "query":
            raise invalid(f"Cannot get query results of a {job.kind} job")
        wait_ms = min(call.number("timeoutMs", _WAIT_MS_DEFAULT), _WAIT_MS_MAX)
        start = call.number("startIndex", 0)
        if call.query.get("pageToken"):
            start = token_number(call.query["pageToken"])
        count = min(call.number("maxResults", _PAGE_ROWS_MAX), _PAGE_ROWS_MAX)
        if not job.is_done:
            job = await self._jobs.wait(job, wait_ms / 1000)
        kind = "bigquery#getQueryResultsResponse"
        int64 = call.flag("formatOptions.useInt64Timestamp")
        return await run_in_threadpool(self._answer, job, kind, start, count, int64)

    def _answer(self, job: Job, kind: str, start: int, count: int, int64: bool) -> Answer:
        document: dict[str, Any] = {"kind": kind, "jobReference": job_reference(job)}
        if not job.is_done:
            return {**document, "jobComplete": False}
        if job.is_failed:
            raise error_of_fault(job.faults[0])
        page = self._results.page(job.key, start, count)
        document |= {
            "etag": etag_of("rows", job.key, start, count),
            "jobComplete": True,
            "schema": {"fields": job.said["schema"]},
            "totalRows": str(page.total),
            "totalBytesProcessed": job.statistics["totalBytesProcessed"],
            "totalBytesBilled": job.statistics["totalBytesBilled"],
            "cacheHit": False,
            "location": job_reference(job)["location"],
            "creationTime": str(job.created_ms),
            "startTime": str(job.started_ms),
            "endTime": str(job.ended_ms),
        }
        if page.rows.num_rows:
            document["rows"] = encode_rows(page.rows, int64_timestamps=int64)
        if page.next_start is not None and count:
            document["pageToken"] = token_of(page.next_start)
        return document

    # -- answers by the name of their table ------------------------------------------------

    def answer_job(self, call: Call, table: TableId) -> Job:
        """Return the query whose answer ``table`` names, or refuse the call."""
        job = self._jobs.of_key(answer_key(table))
        if job is None or not job.is_done or job.is_failed or job.project != table.project:
            raise not_found("Table", shown(table))
        self._jobs.require_own(call.principal, job)
        return job

    def table(self, call: Call) -> Answer:
        """Answer with the table that an answer is."""
        job = self.answer_job(call, call.table)
        name = answer_table(job)
        page = self._results.page(job.key, 0, 0)
        return {
            "kind": "bigquery#table",
            "etag": etag_of("answer", job.key),
            "id": shown(name),
            "tableReference": reference(name),
            "schema": {"fields": job.said["schema"]},
            "numRows": str(page.total),
            "creationTime": str(job.ended_ms),
            "lastModifiedTime": str(job.ended_ms),
            "expirationTime": str((job.ended_ms or 0) + int(KEPT_SECONDS * 1000)),
            "type": "TABLE",
            "location": job_reference(job)["location"],
        }

    def rows(self, call: Call) -> Answer:
        """Answer with some rows of the table that an answer is."""
        job = self.answer_job(call, call.table)
        if call.query.get("selectedFields"):
            raise unsupported("selectedFields of a query's answer", "select in the query")
        start = token_number(call.query.get("pageToken")) or call.number("startIndex", 0)
        count = min(call.number("maxResults", _PAGE_ROWS_MAX), _PAGE_ROWS_MAX)
        page = self._results.page(job.key, start, count)
        document: dict[str, Any] = {
            "kind": "bigquery#tableDataList",
            "etag": etag_of("rows", job.key, start, count),
            "totalRows": str(page.total),
            "rows": encode_rows(
                page.rows, int64_timestamps=call.flag("formatOptions.useInt64Timestamp")
            ),
        }
        if page.next_start is not None and count:
            document["pageToken"] = token_of(page.next_start)
        return document


def _job_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the job resource that a query request stands for."""
    configuration: dict[str, Any] = {
        "query": {key: document[key] for key in _QUERY_KEYS if key in document}
    }
    for key in ("labels", "dryRun", "jobTimeoutMs"):
        if document.get(key):
            configuration[key] = document[key]
    return {
        "configuration": configuration,
        "jobReference": {"location": document.get("location")},
    }


def _dry_answer(job: Job, statistics: Mapping[str, Any]) -> dict[str, Any]:
    named = job_reference(job)
    del named["jobId"]
    return {
        "kind": "bigquery#queryResponse",
        "jobReference": named,
        "jobComplete": True,
        "schema": statistics["schema"],
        "totalBytesProcessed": statistics["totalBytesProcessed"],
        "totalBytesBilled": statistics["totalBytesBilled"],
        "cacheHit": False,
    }


def _wants_int64(options: object) -> bool:
    if not isinstance(options, Mapping):
        return False
    form = options.get("timestampOutputFormat")
    if form not in (None, "", "INT64", "FLOAT64", "TIMESTAMP_OUTPUT_FORMAT_UNSPECIFIED"):
        raise unsupported(f"timestampOutputFormat {form}", "use INT64")
    return bool(options.get("useInt64Timestamp")) or form == "INT64"
