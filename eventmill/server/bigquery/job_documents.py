"""Jobs as BigQuery's API shows them."""

from __future__ import annotations

from typing import Any

from eventmill.schema.table import TableId
from eventmill.server.bigquery.datasets import DEFAULT_LOCATION, RESULTS_DATASET
from eventmill.server.bigquery.job_book import Job
from eventmill.server.bigquery.tables import reference

_ANSWER_PREFIX = "anon"


def answer_table(job: Job) -> TableId:
    """Return the name by which the API knows the answer of a query."""
    return TableId(job.project, RESULTS_DATASET, f"{_ANSWER_PREFIX}{job.key}")


def answer_key(table: TableId) -> str:
    """Return the key of the job whose answer ``table`` names; empty: it names none."""
    if table.dataset != RESULTS_DATASET:
        return ""
    return table.table.removeprefix(_ANSWER_PREFIX)


def job_reference(job: Job) -> dict[str, str]:
    """Return the reference by which the API names a job."""
    return {
        "projectId": job.project,
        "jobId": job.job_id,
        "location": str(job.said.get("location") or DEFAULT_LOCATION),
    }


def job_document(job: Job, base_url: str) -> dict[str, Any]:
    """Return the job resource."""
    link = f"{base_url}/bigquery/v2/projects/{job.project}/jobs/{job.job_id}"
    named = job_reference(job)
    document: dict[str, Any] = {
        "kind": "bigquery#job",
        "id": f"{job.project}:{named['location']}.{job.job_id}",
        "selfLink": link,
        "user_email": job.principal,
        "jobReference": named,
        "configuration": _configuration(job),
        "status": _status(job),
        "statistics": _statistics(job),
    }
    return document


def list_entry(job: Job) -> dict[str, Any]:
    """Return the entry of a job in a list."""
    document = job_document(job, "")
    del document["selfLink"]
    status = document["status"]
    document["state"] = status["state"]
    if "errorResult" in status:
        document["errorResult"] = status["errorResult"]
    return document


def _configuration(job: Job) -> dict[str, Any]:
    document = dict(job.configuration)
    document["jobType"] = job.kind.upper()
    if job.kind == "query":
        query = dict(document["query"])
        query.setdefault("destinationTable", reference(answer_table(job)))
        document["query"] = query
    return document


def _status(job: Job) -> dict[str, Any]:
    status: dict[str, Any] = {"state": job.state.value}
    if job.faults:
        status["errors"] = [fault.to_json() for fault in job.faults]
    if job.is_failed:
        status["errorResult"] = job.faults[0].to_json()
    return status


def _statistics(job: Job) -> dict[str, Any]:
    statistics: dict[str, Any] = {"creationTime": str(job.created_ms)}
    if job.started_ms is not None:
        statistics["startTime"] = str(job.started_ms)
    if job.ended_ms is not None:
        statistics["endTime"] = str(job.ended_ms)
    if job.statistics:
        own = dict(job.statistics)
        if "schema" in job.said:
            own["schema"] = {"fields": job.said["schema"]}
        statistics[job.kind] = own
        for key in ("totalBytesProcessed", "totalSlotMs"):
            if key in own:
                statistics[key] = own[key]
    return statistics
