"""Runs the Beam body of a workflow over one slot, in the Python that has Beam."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from eventmill.base.environment import environment
from eventmill.base.errors import UsageError
from eventmill.schema.table import TableId
from eventmill.wire.columns_arrow import arrow_schema_of
from eventmill.workflow.beam.dead_letters import keep_dead_letters, read_dead_letters
from eventmill.workflow.beam.faults import (
    PipelineCancelledError,
    PipelineError,
    PipelineTimeoutError,
)
from eventmill.workflow.beam.job import (
    RESULT_FILE,
    ROWS_PREFIX,
    BeamJob,
    JobInput,
    JobResult,
    schema_text,
)
from eventmill.workflow.beam.job_name import beam_job_name
from eventmill.workflow.beam.options import BeamOptions, find_beam_python
from eventmill.workflow.beam.parquet_rows import read_parquet_rows
from eventmill.workflow.beam.process import ChildEnd, run_child
from eventmill.workflow.beam.rows import BeamRows
from eventmill.workflow.definition import WorkflowDefinition
from eventmill.workflow.input_marks import partition_filter, slot_expression
from eventmill.workflow.sql_body import SLOT_END, SLOT_START
from eventmill.workflow.timetable import Slot

if TYPE_CHECKING:
    from eventmill.store.port import Store

ENTRY = "eventmill.beam.run"
_LAST_LINES = 20


def run_beam_slot(
    definition: WorkflowDefinition,
    store: Store,
    slot: Slot,
    *,
    generation: int,
    log: Callable[[str], None],
    cancel: threading.Event | None = None,
    timeout_seconds: float | None = None,
    options: BeamOptions | None = None,
) -> BeamRows:
    """Run ``pipeline.py`` over one slot and return its rows; the store is only read.

    Promise: returns after the job's final state was DONE, with every row of its output. On return
    or error no process of it runs on this machine.

    Args:
        definition: the workflow; it has a ``pipeline_path``.
        store: which holds the inputs.
        slot: whose output is made.
        generation: of the attempt, also part of the job's name.
        log: told each line of the pipeline's log, in this thread.
        cancel: when set, the job is cancelled.
        timeout_seconds: None: that of the workflow.
        options: None: the defaults.

    Raises:
        PipelineError: the pipeline failed; the message has the innermost cause.
        PipelineTimeoutError: it took too long.
        PipelineCancelledError: ``cancel`` was set.
        UsageError: there is no Python with Beam, or the store cannot be reached from it.
    """
    options = options or BeamOptions()
    address = options.store or _address_of(store)
    inputs = []
    for entry in definition.inputs:
        spec = store.describe(entry.table).spec
        condition = f"{_within(slot_expression(entry, spec))} AND {partition_filter(spec)}"
        inputs.append(JobInput(str(entry.table), condition))
    limit = definition.timeout_seconds if timeout_seconds is None else timeout_seconds
    with tempfile.TemporaryDirectory(prefix="eventmill-beam-") as folder:
        job = _job(definition, slot, generation, tuple(inputs), folder, options, store=address)
        outcome = _run(job, options, log, cancel, limit)
    keep_dead_letters(options.dead_letters, job, outcome)
    return outcome


def run_beam_on_rows(
    definition: WorkflowDefinition,
    inputs: Mapping[str, pa.Table],
    slot: Slot,
    *,
    log: Callable[[str], None],
    cancel: threading.Event | None = None,
    timeout_seconds: float | None = None,
    options: BeamOptions | None = None,
) -> BeamRows:
    """Run ``pipeline.py`` on given rows, touching no store: for trying and testing a workflow.

    Of an input with ``slot_by`` the pipeline gets the rows of the slot, as it would from a store;
    of one without it, all rows.

    Args:
        definition: the workflow; it has a ``pipeline_path``.
        inputs: rows by table; an input that is not named has none, and must not be read.
        slot: as for ``run_beam_slot``, and so are the other arguments and errors.
    """
    options = options or BeamOptions()
    project = definition.output.table.project
    given = {str(TableId.parse(name, project)): rows for name, rows in inputs.items()}
    known = {str(entry.table): entry for entry in definition.inputs}
    if unknown := sorted(set(given) - set(known)):
        raise UsageError(
            f"{unknown[0]} is no input of the workflow {definition.name}; its inputs are"
            f" {', '.join(known)}"
        )
    limit = definition.timeout_seconds if timeout_seconds is None else timeout_seconds
    with tempfile.TemporaryDirectory(prefix="eventmill-beam-") as folder:
        files = {}
        for number, (name, rows) in enumerate(given.items()):
            files[name] = os.path.join(folder, f"input-{number}.arrow")
            with pa.OSFile(files[name], "wb") as file, pa.ipc.new_file(file, rows.schema) as out:
                out.write_table(rows)
        wanted = tuple(
            JobInput(name, _within(f"(\n{entry.slot_by}\n)") if entry.slot_by else "TRUE")
            for name, entry in known.items()
        )
        job = _job(definition, slot, 0, wanted, folder, options, files=files)
        return _run(job, options, log, cancel, limit)


def _job(
    definition: WorkflowDefinition,
    slot: Slot,
    generation: int,
    inputs: tuple[JobInput, ...],
    folder: str,
    options: BeamOptions,
    *,
    store: str | None = None,
    files: Mapping[str, str] | None = None,
) -> BeamJob:
    if definition.pipeline_path is None:
        raise UsageError(
            f"the workflow {definition.name} has no Beam body: put a pipeline.py into"
            f" {definition.folder}"
        )
    name = beam_job_name(definition.name, *slot, generation)
    return BeamJob(
        version=version("eventmill"),
        workflow=definition.name,
        job_name=name,
        pipeline_path=os.path.abspath(definition.pipeline_path),
        start_seconds=slot[0],
        end_seconds=slot[1],
        inputs=inputs,
        output=str(definition.output.table),
        output_schema=schema_text(arrow_schema_of(definition.output.columns)),
        folder=folder,
        staging=f"{options.staging.rstrip('/')}/{name}" if options.staging else None,
        store=store,
        files=files or {},
        pipeline_options=options.pipeline_options,
    )


def _run(
    job: BeamJob,
    options: BeamOptions,
    log: Callable[[str], None],
    cancel: threading.Event | None,
    timeout_seconds: float | None,
) -> BeamRows:
    last_lines: list[str] = []

    def tell(line: str) -> None:
        log(line)
        last_lines[: len(last_lines) - _LAST_LINES + 1] = []
        last_lines.append(line)

    end = run_child(
        [find_beam_python(options), "-m", ENTRY],
        job.to_json(),
        environ=environ_of(job, options),
        log=tell,
        cancel=cancel,
        timeout_seconds=timeout_seconds,
    )
    result = _result(job, end, timeout_seconds, last_lines)
    return BeamRows(
        rows=read_parquet_rows(Path(job.folder).glob(f"{ROWS_PREFIX}*.parquet"), job.schema),
        job_name=job.job_name,
        counters=result.counters,
        dead_letters=read_dead_letters(job.folder),
    )


def environ_of(job: BeamJob, options: BeamOptions) -> dict[str, str]:
    """Return the environment of the child: ours, in which its workers find the workflow's folder.

    The key goes this way, so that it is in no document and travels with no pipeline.
    """
    environ = dict(environment())
    places = [os.path.dirname(job.pipeline_path), environ.get("PYTHONPATH", "")]
    environ["PYTHONPATH"] = os.pathsep.join(place for place in places if place)
    if options.key is not None:
        environ["EVENTMILL_KEY"] = options.key
    return environ


def _result(
    job: BeamJob, end: ChildEnd, timeout_seconds: float | None, last_lines: list[str]
) -> JobResult:
    """Return the job's result; raise unless its final state is DONE."""
    what = f"the Beam body of {job.workflow} (job {job.job_name})"
    try:
        result = JobResult.from_json(Path(job.folder, RESULT_FILE).read_text("utf-8"))
    except FileNotFoundError:
        result = None
    if result is not None and result.state == "DONE":  # also when it was told to end too late
        return result
    if end.why == "timeout":
        raise PipelineTimeoutError(
            f"{what} took longer than {timeout_seconds:g} s and was ended; give it more by"
            " timeout in workflow.toml"
        )
    if end.why == "cancel":
        raise PipelineCancelledError(f"{what} was cancelled")
    if result is not None:
        told = f": {result.error}" if result.error else ""
        raise PipelineError(f"{what} ended in the state {result.state}{told}")
    how = f"by signal {signal.Signals(-end.code).name}" if end.code < 0 else f"with {end.code}"
    told = "\n  ".join(line for line in last_lines if line.strip())
    raise PipelineError(f"{what} ended {how} without a result; its last lines:\n  {told}")


def _address_of(store: Store) -> str:
    """Return the address under which another process reaches ``store``."""
    address: str = getattr(store, "address", "")
    # The address of a BigQuery store says its project alone, not how it is reached.
    if not address or address.startswith("bigquery:"):
        raise UsageError(
            f"a Beam body runs in another process, which cannot tell how to reach {store!r}:"
            " give its address as BeamOptions(store=...)"
        )
    return address


def _within(when: str) -> str:
    return f"{when} >= @{SLOT_START} AND {when} < @{SLOT_END}"
