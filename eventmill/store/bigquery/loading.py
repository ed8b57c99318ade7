"""Parquet files into a table by load jobs, each file once however often it is tried.

A job's ID is chosen here: BigQuery runs a job of one ID once, so a job that is there already is
waited for instead of being made again, whoever made it and whatever broke off meanwhile. A job
that has failed has loaded nothing, and is tried again under the next ID.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from google.api_core import exceptions as api
from google.cloud import bigquery

from eventmill.base.clock import Clock
from eventmill.base.errors import PermanentError, UnavailableError
from eventmill.schema.table import TableSpec
from eventmill.store.bigquery.definition import reference
from eventmill.store.bigquery.faults import google_errors, translated
from eventmill.store.bigquery.json_file import needs_json, write_json

JOBS_MAX = 100
"""Jobs of one file, failed ones of earlier runs included."""
_NEW_JOBS_MAX = 3
_PAUSE_SECONDS = 2.0
_WAIT_SECONDS = 600.0


class FileLoader:
    """Loads files into one table. For one thread."""

    def __init__(self, client: bigquery.Client, spec: TableSpec, clock: Clock) -> None:
        """Look the table up, which has to be there."""
        self._client = client
        self._clock = clock
        self._spec = spec
        self._table = spec.table
        with google_errors(f"looking up {self._table}"):
            self._live = client.get_table(reference(self._table))

    @property
    def made_at(self) -> str:
        """When the table was made: another one of the same name has another time."""
        return str(self._live.created)

    def load(self, path: str, stem: str) -> None:
        """Load the file at ``path``, all of it or nothing.

        Promise: on return its rows are in the table once, however often this was tried before
        with the same stem.

        Args:
            path: of a Parquet file.
            stem: what the IDs of its jobs begin with; of this file alone.

        Raises:
            TransientError: nobody knows; calling again with the same stem finds out.
            PermanentError: BigQuery does not take the file; nothing of it was stored.
        """
        with self._readable(path) as path:
            self._load(path, stem)

    @contextmanager
    def _readable(self, path: str) -> Iterator[str]:
        """Give the path of a file that a load job takes."""
        if not needs_json(self._spec.columns):
            yield path
            return
        lines = f"{path}.ndjson.gz"
        try:
            write_json(self._spec, path, lines)
            yield lines
        finally:
            if os.path.exists(lines):
                os.unlink(lines)

    def _load(self, path: str, stem: str) -> None:
        new = 0
        for number in range(JOBS_MAX):
            job_id = f"{stem}_{number}"
            job = self._find(job_id)
            if job is None:
                if new:
                    self._clock.sleep(_PAUSE_SECONDS)
                new += 1
                job = self._begin(path, job_id)
            failure = self._failure(job)
            if failure is None:
                return
            if new == _NEW_JOBS_MAX or (new and isinstance(failure, PermanentError)):
                raise failure
        raise PermanentError(f"{JOBS_MAX} jobs that load {path} into {self._table} have failed")

    def _find(self, job_id: str) -> bigquery.LoadJob | None:
        with google_errors(f"asking for job {job_id}"):
            try:
                found = self._client.get_job(job_id, location=self._live.location)
            except api.NotFound:
                return None
        if not isinstance(found, bigquery.LoadJob):
            raise PermanentError(f"job {job_id} is there and loads nothing")
        return found

    def _begin(self, path: str, job_id: str) -> bigquery.LoadJob:
        is_json = path.endswith(".ndjson.gz")
        formats = bigquery.SourceFormat
        config = bigquery.LoadJobConfig(
            source_format=formats.NEWLINE_DELIMITED_JSON if is_json else formats.PARQUET,
            create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
            write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
            # Without it the file's columns, which are all NULLABLE, would not be the table's.
            schema=self._live.schema,
        )
        if not is_json:
            lists = bigquery.ParquetOptions()
            lists.enable_list_inference = True
            config.parquet_options = lists
        what = f"loading {os.path.basename(path)} into {self._table}"
        with google_errors(what), open(path, "rb") as file:
            try:
                return self._client.load_table_from_file(
                    file,
                    self._live.reference,
                    size=os.path.getsize(path),
                    job_id=job_id,
                    location=self._live.location,
                    job_config=config,
                )
            except api.Conflict:
                pass  # the answer to an earlier try was lost
        job = self._find(job_id)
        if job is None:
            raise UnavailableError(f"job {job_id} is said to be there and is not found")
        return job

    def _failure(self, job: bigquery.LoadJob) -> Exception | None:
        """Wait for the end of a job; return why it failed, None when it did not."""
        what = f"loading into {self._table} by job {job.job_id}"
        with google_errors(what):
            try:
                job.result(timeout=_WAIT_SECONDS)
            except api.GoogleAPICallError as error:
                if job.state != "DONE" or not job.error_result:
                    raise  # of a request about the job, not of the job
                return translated(error, what)
            except TimeoutError as error:
                raise UnavailableError(f"{what}: it is not done, and goes on by itself") from error
        return None
