"""Jobs: insert, get, list, cancel, delete."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from eventmill.base.errors import QueryError
from eventmill.server.access import Action, Principal, Resource
from eventmill.server.bigquery.calls import Answer, Call, Reply, table_of
from eventmill.server.bigquery.datasets import DEFAULT_LOCATION
from eventmill.server.bigquery.destinations import Destinations, wish_of
from eventmill.server.bigquery.documents import check_keys, labels_of, number_of, page
from eventmill.server.bigquery.errors import (
    api_error_of,
    duplicate,
    invalid,
    not_found,
    unsupported,
)
from eventmill.server.bigquery.job_book import Job, JobBook, failed, new_key
from eventmill.server.bigquery.job_documents import job_document, job_reference, list_entry
from eventmill.server.bigquery.job_runner import JobRunner
from eventmill.server.bigquery.load_work import check_load
from eventmill.server.bigquery.query_settings import (
    QuerySettings,
    check_query_keys,
    query_settings,
)
from eventmill.server.bigquery.query_work import QueryWork, copied_tables
from eventmill.server.bigquery.results import Results
from eventmill.server.bigquery.rooms import Rooms
from eventmill.server.bigquery.slot_work import slot_script_of

_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,1024}")
_KINDS = ("query", "load", "copy")
_CONFIGURATION_TAKEN = (*_KINDS, "dryRun", "jobTimeoutMs", "labels")
_CONFIGURATION_IGNORED = ("jobType", "reservation", "maxSlots")
_COPY_TAKEN = (
    "sourceTable",
    "sourceTables",
    "destinationTable",
    "createDisposition",
    "writeDisposition",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A job that is asked for, and nothing of it done yet."""

    job: Job
    settings: QuerySettings | None = None
    """Of a query whose SQL makes sense."""
    is_dry: bool = False


class Jobs:
    """The calls about jobs, and the way into the book for the calls about queries."""

    def __init__(
        self,
        rooms: Rooms,
        book: JobBook,
        runner: JobRunner,
        work: QueryWork,
        destinations: Destinations,
        results: Results,
    ) -> None:
        self._rooms = rooms
        self._book = book
        self._runner = runner
        self._work = work
        self._destinations = destinations
        self._results = results

    def insert(self, call: Call) -> Answer:
        """Begin a job that needs no file."""
        document = call.document()
        asked = self.asked(call, document)
        if asked.job.kind == "load":
            raise invalid("A load job needs a file: send it by an upload, with the job")
        if asked.is_dry:
            return self._dry(call, asked)
        self.begin(call.principal, asked)
        return job_document(asked.job, call.base_url)

    def get(self, call: Call) -> Answer:
        """Answer with one job."""
        return job_document(self.required(call), call.base_url)

    def list_jobs(self, call: Call) -> Answer:
        """Answer with the jobs of a project, the newest first: the caller's, or all of them."""
        place = Resource.project(call.project)
        every = call.flag("allUsers")
        if every:
            self._rooms.guard.require(call.principal, Action.ADMINISTER, place)
        states = {word.upper() for word in call.query.get("stateFilter", "").split(",") if word}
        since, until = call.number("minCreationTime", 0), call.number("maxCreationTime", 2**62)
        jobs = [
            job
            for job in self._book.of_project(call.project)
            if (every or job.principal == call.principal.name)
            and (not states or job.state.value in states)
            and since <= job.created_ms <= until
        ]
        return {"kind": "bigquery#jobList", **page(call, jobs, list_entry, "jobs")}

    async def cancel(self, call: Call) -> Answer:
        """Stop a job; answer with it, as it is once it has stopped or a second has passed."""
        job = self.required(call)
        self._runner.cancel(job)
        job = await self._runner.wait(job, 1.0)
        return {
            "kind": "bigquery#jobCancelResponse",
            "job": job_document(job, call.base_url),
        }

    def delete(self, call: Call) -> Answer:
        """Forget a job that is done, with its answer."""
        job = self.required(call)
        if not job.is_done:
            raise invalid(f"Job {job.job_id} is not done: cancel it first")
        self._book.forget(job)
        self._results.forget(job.key)
        return Reply(None, 204)

    # -- for the other rooms ---------------------------------------------------------------

    def of_upload(self, call: Call, upload_id: str) -> Job | None:
        """Return the job that the caller has sent a file for; None: it was not begun."""
        return self._book.find_upload(call.project, call.principal.name, upload_id)

    def required(self, call: Call) -> Job:
        """Return the job of the address, or refuse the call."""
        job = self._book.find(call.project, call.path["job"])
        if job is None:
            raise not_found("Job", f"{call.project}:{call.path['job'][:100]}")
        self.require_own(call.principal, job)
        return job

    def require_own(self, principal: Principal, job: Job) -> None:
        """Refuse whoever neither asked for the job nor administers its project."""
        if job.principal != principal.name:
            self._rooms.guard.require(principal, Action.ADMINISTER, Resource.project(job.project))

    def of_key(self, key: str) -> Job | None:
        """Return the job of a key; None: there is none."""
        return self._book.find_key(key)

    def begin(self, principal: Principal, asked: Asked) -> None:
        """Enter a job and run it when its turn comes; refuse an ID that is taken."""
        if not self._runner.begin(asked.job, principal, asked.settings):
            raise duplicate("Job", f"{asked.job.project}:{asked.job.job_id}")

    async def wait(self, job: Job, seconds: float) -> Job:
        """Return the job once it is done, or as it is after ``seconds``."""
        return await self._runner.wait(job, seconds)

    def dry_statistics(self, settings: QuerySettings) -> dict[str, Any]:
        """Return the statistics of a query that is not run."""
        return self._work.dry_run(settings)

    def asked(self, call: Call, document: Mapping[str, Any]) -> Asked:
        """Read a job resource, check it, and check that the caller may do what it takes.

        Args:
            call: who asks, and of which project.
            document: the job resource.
        """
        configuration = document.get("configuration")
        if not isinstance(configuration, Mapping):
            raise invalid("Required parameter is missing: configuration", "configuration")
        kinds = [kind for kind in _KINDS if configuration.get(kind)]
        if "extract" in configuration:
            raise unsupported("an extract job", "read the table by a query, or its Parquet files")
        if len(kinds) != 1:
            raise invalid(f"configuration must have exactly one of {', '.join(_KINDS)}")
        kind = kinds[0]
        check_keys(configuration, _CONFIGURATION_TAKEN, _CONFIGURATION_IGNORED, "job")
        labels_of(configuration)
        number_of(configuration, "jobTimeoutMs")
        job = self._new_job(call, document, kind, configuration)
        part = configuration[kind]
        if not isinstance(part, Mapping):
            raise invalid(f"configuration.{kind} must be an object")
        if kind == "query":
            return self._asked_query(call.principal, job, part)
        if configuration.get("dryRun"):
            raise unsupported(f"dryRun of a {kind} job")
        if kind == "load":
            check_load(part)
            self._destinations.require(call.principal, wish_of(part, "WRITE_APPEND"))
        else:
            check_keys(part, _COPY_TAKEN, (), "copy job")
            self._rooms.guard.require_query(call.principal, copied_tables(part))
            self._destinations.require(call.principal, wish_of(part, "WRITE_EMPTY"))
        return Asked(job)

    def _asked_query(self, principal: Principal, job: Job, part: Mapping[str, Any]) -> Asked:
        check_query_keys(part)
        script = slot_script_of(part)
        if script is not None:
            self._rooms.guard.require(principal, Action.REPLACE, script.output)
            if script.staging is not None:
                self._rooms.guard.require_query(principal, [script.staging])
            return Asked(job)
        is_dry = bool(job.configuration.get("dryRun"))
        if part.get("destinationTable"):
            self._destinations.require(principal, wish_of(part, "WRITE_EMPTY"))
            job = replace(job, said={**job.said, "writes": True})
        elif part.get("timePartitioning") or part.get("clustering"):
            raise invalid("timePartitioning and clustering need a destinationTable")
        self._rooms.drop_expired()
        try:
            settings = query_settings(job.project, part, self._rooms.views.query_of)
        except QueryError as error:
            if is_dry:
                raise
            return Asked(failed(job, [api_error_of(error).fault], self._rooms.now_ms()))
        self._rooms.guard.require_query(principal, settings.tables)
        return Asked(job, settings, is_dry)

    def _new_job(
        self,
        call: Call,
        document: Mapping[str, Any],
        kind: str,
        configuration: Mapping[str, Any],
    ) -> Job:
        named = document.get("jobReference")
        named = named if isinstance(named, Mapping) else {}
        job_id = named.get("jobId") or f"job_{secrets.token_urlsafe(18)}"
        if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id):
            raise invalid("Invalid job ID: use 1-1024 letters, digits, _ and -", "jobId")
        if named.get("projectId", call.project) != call.project:
            raise invalid("the job's project is not that of the address", "projectId")
        table_of(call.project, "d", "t")
        said = {"location": str(named.get("location") or DEFAULT_LOCATION)}
        return Job(
            project=call.project,
            job_id=job_id,
            key=new_key(),
            kind=kind,
            principal=call.principal.name,
            created_ms=self._rooms.now_ms(),
            configuration=dict(configuration),
            said=said,
        )

    def _dry(self, call: Call, asked: Asked) -> Answer:
        if asked.settings is None:
            raise invalid("only a query can be asked for its dry run")
        statistics = self.dry_statistics(asked.settings)
        named = job_reference(asked.job)
        del named["jobId"]
        return {
            "kind": "bigquery#job",
            "jobReference": named,
            "configuration": {**asked.job.configuration, "jobType": "QUERY"},
            "status": {"state": "DONE"},
            "statistics": {
                "creationTime": str(asked.job.created_ms),
                "totalBytesProcessed": statistics["totalBytesProcessed"],
                "query": statistics,
            },
        }
