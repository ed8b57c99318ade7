"""What a workflow is, as a value: ``workflow.reading`` makes it of a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from eventmill.schema.table import TableId, TableSpec
from eventmill.workflow.timetable import Timetable

Body = Literal["sql", "beam"]
Missed = Literal["all", "latest", "none"]
Overlap = Literal["queue", "skip", "cancel"]


@dataclass(frozen=True, slots=True)
class WorkflowInput:
    """A table that a workflow reads."""

    table: TableId
    slot_by: str | None = None
    """GoogleSQL expression over the table's columns, of type TIMESTAMP: which slot a row of it
    touches. None: the time of the table's rows (partition column, else ``_ingested_at``)."""
    required: bool = True
    """Whether the workflow waits until the table exists; otherwise it fails its run."""
    spec: TableSpec | None = None
    """What the table is, where the folder has its .proto: for cases and trials, which make it;
    a run takes the table as it is."""


@dataclass(frozen=True, slots=True)
class WorkflowDefinition:
    """One workflow, as its folder says."""

    name: str
    """``[a-z]([-a-z0-9_]{0,38}[a-z0-9])``, also the name of its folder."""
    folder: str
    """Absolute path."""
    owner: str
    description: str
    inputs: tuple[WorkflowInput, ...]
    output: TableSpec
    """The output's definition, made from the .proto file in the folder."""
    timetable: Timetable
    """Its slots: of a fixed length, or from one time of a cron expression to the next."""
    bodies: tuple[Body, ...]
    """Which bodies the folder has; at least one, the first is run unless another is asked for."""
    sql: str | None
    """Text of ``query.sql``; None: there is none."""
    pipeline_path: str | None
    """Path of ``pipeline.py``; None: there is none."""
    start_at_seconds: int | None
    """First slot's start, seconds since 1970; None: the one in which the scheduler first saw it."""
    delay_seconds: float = 60.0
    """Pause between a slot's end and its first run, for events on their way."""
    lateness_seconds: float = 86_400.0 * 2
    """How long after a slot's end new rows of it make it run again by itself."""
    freshness_seconds: float | None = None
    """Promise: a slot is done this long after its end; None: ``delay_seconds`` + 300."""
    retries: int = 3
    """Attempts after the first that failed."""
    retry_base_seconds: float = 10.0
    """Bound of the pause before the first retry; doubles, up to 10 minutes, with full jitter."""
    timeout_seconds: float = 3_600.0
    missed: Missed = "all"
    """Slots that came due while no scheduler ran: all of them (within ``missed_slots_max``), the
    latest alone, or none."""
    missed_slots_max: int = 1_000
    overlap: Overlap = "queue"
    """What becomes of a due slot while another slot of the workflow runs: it waits, is skipped
    (and shown as skipped), or the running one is cancelled."""
    parallel_slots: int = 1
    """Slots of this workflow that may run at one time."""
    labels: dict[str, str] = field(default_factory=dict)
    counts_sql: str | None = None
    """Text of ``counts.sql``, which gives one row of named counts for the log of each run of the
    SQL body; None: there is none."""

    @property
    def job_name(self) -> str:
        """The name that alert routes match beside its own: ``dataflow-workflow-NAME``."""
        return f"dataflow-workflow-{self.name}"

    @property
    def done_within_seconds(self) -> float:
        """How long after its end a slot must be done; later is an alert."""
        if self.freshness_seconds is not None:
            return self.freshness_seconds
        return self.delay_seconds + 300.0
