"""The book of jobs: what was asked for, how far it is, how it ended. SQLite in the data folder."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from eventmill.server.bigquery.catalog import open_database
from eventmill.server.bigquery.errors import Fault

KEPT_SECONDS = 7 * 86_400.0
"""How long a job that is done can be asked for (in BigQuery: six months)."""
KEPT_MAX = 10_000
"""Jobs that are kept; beyond it those that ended first go first."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, job_id TEXT NOT NULL,
    key TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, principal TEXT NOT NULL,
    created_ms INTEGER NOT NULL, started_ms INTEGER, ended_ms INTEGER, begun INTEGER NOT NULL,
    configuration TEXT NOT NULL, statistics TEXT NOT NULL, faults TEXT NOT NULL, said TEXT NOT NULL,
    UNIQUE (project, job_id)) STRICT;
CREATE INDEX IF NOT EXISTS jobs_by_key ON jobs (key);
"""
_COLUMNS = (
    "project, job_id, key, kind, state, principal, created_ms, started_ms, ended_ms, begun,"
    " configuration, statistics, faults, said"
)


class JobState(StrEnum):
    """How far a job is, as BigQuery's API writes it."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    DONE = "DONE"


@dataclass(frozen=True, slots=True)
class Job:
    """One job at one moment."""

    project: str
    job_id: str
    key: str
    """Names the job's files and the insert IDs of the rows that it writes; unguessable."""
    kind: str
    """``query``, ``load`` or ``copy``."""
    principal: str
    """Name of the key that asked for it."""
    created_ms: int
    configuration: Mapping[str, Any]
    state: JobState = JobState.PENDING
    started_ms: int | None = None
    ended_ms: int | None = None
    begun: int = 0
    """How often it was begun: again when the server ended while it ran."""
    statistics: Mapping[str, Any] = field(default_factory=dict)
    """Of its kind, in the words of the API."""
    faults: tuple[Fault, ...] = ()
    """Why it failed, the first one foremost; with ``is_failed`` False: warnings."""
    is_failed: bool = False
    said: Mapping[str, Any] = field(default_factory=dict)
    """What this server has to remember of it."""

    @property
    def is_done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state is JobState.DONE


def new_key() -> str:
    """Return a key for a new job: 128 random bits."""
    return secrets.token_hex(16)


class JobBook:
    """All jobs that are kept. Safe from any thread.

    An entry survives the process, not always a power cut: a client that then does not find its
    job asks for it again.
    """

    def __init__(self, path: str) -> None:
        """Open the database at ``path``, made when it is missing."""
        self._lock = threading.Lock()
        self._db = open_database(path, _SCHEMA, synchronous="NORMAL")

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            self._db.close()

    def add(self, job: Job) -> bool:
        """Enter a new job; return False when the project has one of that ID."""
        marks = ", ".join("?" * 14)
        with self._lock:
            try:
                with self._db:
                    self._db.execute(
                        f"INSERT INTO jobs ({_COLUMNS}) VALUES ({marks})",  # noqa: S608
                        _values(job),
                    )
            except sqlite3.IntegrityError:
                return False
        return True

    def write(self, job: Job) -> None:
        """Write how far a job is."""
        with self._lock, self._db:
            self._db.execute(
                "UPDATE jobs SET state = ?, started_ms = ?, ended_ms = ?, begun = ?,"
                " configuration = ?, statistics = ?, faults = ?, said = ? WHERE project = ? AND"
                " job_id = ?",
                (
                    job.state.value,
                    job.started_ms,
                    job.ended_ms,
                    job.begun,
                    json.dumps(dict(job.configuration)),
                    json.dumps(dict(job.statistics)),
                    _faults_text(job),
                    json.dumps(dict(job.said)),
                    job.project,
                    job.job_id,
                ),
            )

    def find(self, project: str, job_id: str) -> Job | None:
        """Return a job; None: there is none."""
        found = self._select("WHERE project = ? AND job_id = ?", (project, job_id))
        return found[0] if found else None

    def find_key(self, key: str) -> Job | None:
        """Return the job of a key; None: there is none."""
        found = self._select("WHERE key = ?", (key,))
        return found[0] if found else None

    def find_upload(self, project: str, principal: str, upload_id: str) -> Job | None:
        """Return the job that a file was sent for by ``principal``; None: there is none."""
        found = self._select(
            "WHERE project = ? AND principal = ? AND json_extract(said, '$.upload') = ?",
            (project, principal, upload_id),
        )
        return found[0] if found else None

    def unfinished(self) -> list[Job]:
        """Return the jobs that have not ended, in the order in which they were asked for."""
        return self._select("WHERE state != 'DONE' ORDER BY seq", ())

    def of_project(self, project: str) -> list[Job]:
        """Return the jobs of a project, the newest first."""
        return self._select("WHERE project = ? ORDER BY seq DESC", (project,))

    def forget(self, job: Job) -> None:
        """Remove a job."""
        with self._lock, self._db:
            self._db.execute(
                "DELETE FROM jobs WHERE project = ? AND job_id = ?", (job.project, job.job_id)
            )

    def prune(self, now_ms: int) -> list[Job]:
        """Remove jobs that are done and too old or too many; return them."""
        oldest_ms = now_ms - int(KEPT_SECONDS * 1000)
        gone = self._select(
            "WHERE state = 'DONE' AND (ended_ms < ? OR seq <= (SELECT max(seq) FROM jobs) - ?)",
            (oldest_ms, KEPT_MAX),
        )
        for job in gone:
            self.forget(job)
        return gone

    def _select(self, where: str, values: Sequence[object]) -> list[Job]:
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM jobs {where}",  # noqa: S608 - text of this module
                values,
            ).fetchall()
        return [_job(row) for row in rows]


def _values(job: Job) -> tuple[object, ...]:
    return (
        job.project,
        job.job_id,
        job.key,
        job.kind,
        job.state.value,
        job.principal,
        job.created_ms,
        job.started_ms,
        job.ended_ms,
        job.begun,
        json.dumps(dict(job.configuration)),
        json.dumps(dict(job.statistics)),
        _faults_text(job),
        json.dumps(dict(job.said)),
    )


def _faults_text(job: Job) -> str:
    faults = [[fault.reason, fault.message, fault.location] for fault in job.faults]
    return json.dumps({"failed": job.is_failed, "faults": faults})


def _job(row: Sequence[Any]) -> Job:
    told = json.loads(row[12])
    return Job(
        project=row[0],
        job_id=row[1],
        key=row[2],
        kind=row[3],
        state=JobState(row[4]),
        principal=row[5],
        created_ms=row[6],
        started_ms=row[7],
        ended_ms=row[8],
        begun=row[9],
        configuration=json.loads(row[10]),
        statistics=json.loads(row[11]),
        faults=tuple(Fault(*parts) for parts in told["faults"]),
        is_failed=told["failed"],
        said=json.loads(row[13]),
    )


def failed(job: Job, faults: Sequence[Fault], now_ms: int) -> Job:
    """Return the job as it is once it has failed."""
    return replace(job, state=JobState.DONE, ended_ms=now_ms, faults=tuple(faults), is_failed=True)
