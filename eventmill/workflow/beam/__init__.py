"""Beam bodies from outside: a pipeline runs in a process that has Beam, and its rows come back.

Nothing here imports Beam, so that the program that runs workflows need not have it.
"""

from eventmill.workflow.beam.faults import (
    PipelineCancelledError,
    PipelineError,
    PipelineTimeoutError,
)
from eventmill.workflow.beam.job_name import beam_job_name, check_job_name
from eventmill.workflow.beam.launch import run_beam_on_rows, run_beam_slot
from eventmill.workflow.beam.options import BeamOptions
from eventmill.workflow.beam.rows import BeamRows

__all__ = [
    "BeamOptions",
    "BeamRows",
    "PipelineCancelledError",
    "PipelineError",
    "PipelineTimeoutError",
    "beam_job_name",
    "check_job_name",
    "run_beam_on_rows",
    "run_beam_slot",
]
