"""The process that runs a pipeline for a launcher: ``python -m eventmill.beam.run``.

Its stdin has the job, one line of JSON; the end of stdin means that the launcher is gone. The
result is a file in the job's folder, written last; everything else it prints is log.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import FrameType, ModuleType
from typing import NoReturn

import apache_beam as beam
from apache_beam.internal import cloudpickle

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import UsageError
from eventmill.beam.events_pipeline import EventsPipeline
from eventmill.beam.failure import describe_failure
from eventmill.beam.inputs import Inputs
from eventmill.beam.slot import BeamSlot
from eventmill.beam.sources import FileSource
from eventmill.beam.staging import fetch_files
from eventmill.beam.write_rows import WriteDeadLetters, WriteRows
from eventmill.workflow.beam.job import DEAD_PREFIX, RESULT_FILE, ROWS_PREFIX, BeamJob, JobResult

_logger = logging.getLogger("eventmill.beam")
_LINGER_SECONDS = 5.0
"""What cancelling a job may take after which this process ends come what may."""
_FRAMES = 5
"""Innermost frames of a failure that are printed; those of a runner are of no use."""


def run_job(job: BeamJob) -> JobResult:
    """Run the pipeline of one job to its final state.

    Raises:
        UsageError: ``pipeline.py`` is not as it should be.
        Exception: whatever the pipeline or its runner raises.
    """
    if job.version != (own := version("eventmill")):
        raise UsageError(
            f"workflows are run by Eventmill {job.version}, and {sys.executable} has {own}: install"
            " the same version in both"
        )
    module = _load(job.pipeline_path)
    slot = BeamSlot.of_seconds(job.start_seconds, job.end_seconds)
    pipeline = EventsPipeline(
        job.pipeline_options,
        store=job.store,
        source=None if job.store else FileSource(job.files),
        job_name=job.job_name,
    )
    rows, dead = _outputs(module.build(pipeline, Inputs(pipeline, job.inputs, slot), slot), job)
    place = job.staging or job.folder
    _ = rows | WriteRows(os.path.join(place, ROWS_PREFIX + "out"), job.schema, job.output)
    if dead:
        letters = dead | "All dead letters" >> beam.Flatten()
        _ = letters | WriteDeadLetters(os.path.join(place, DEAD_PREFIX + "out"))
    _logger.info("job %s begins", pipeline.job_name)
    began = SYSTEM_CLOCK.monotonic()
    pipeline.run()
    _logger.info("job %s is done in %.1f s", pipeline.job_name, SYSTEM_CLOCK.monotonic() - began)
    if job.staging:
        fetch_files(job.staging, job.folder)
    return JobResult(state="DONE", counters=pipeline.counts)


def _load(path: str) -> ModuleType:
    """Import ``pipeline.py``; workers on other machines are sent its code with the pipeline."""
    sys.path.insert(0, os.path.dirname(path))
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not callable(getattr(module, "build", None)):
        raise UsageError(f"{path} defines no function build(pipeline, inputs, slot)")
    cloudpickle.register_pickle_by_value(module)
    return module


def _outputs(built: object, job: BeamJob) -> tuple[beam.PCollection, list[beam.PCollection]]:
    """Return the rows and the dead letters among what ``build`` returned."""
    rows, dead = built if isinstance(built, (tuple, list)) and len(built) == 2 else (built, [])
    letters = list(dead) if isinstance(dead, (tuple, list)) else [dead]
    for one in (rows, *letters):
        if not isinstance(one, beam.PCollection):
            raise UsageError(
                f"build in {job.pipeline_path} returned {type(one).__name__}: wanted is a"
                " PCollection of rows, or a pair of it and one, or a list, of dead letters"
            )
    return rows, letters


def main() -> int:
    """Run the job that stdin describes; return the exit code."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    job = BeamJob.from_json(sys.stdin.readline())
    signal.signal(signal.SIGTERM, _end)
    _start(_watch_launcher, "launcher watch")
    try:
        _write(job, run_job(job))
    except SystemExit:
        raise  # told to end: there is no result
    except BaseException as error:
        told = describe_failure(error, os.path.dirname(job.pipeline_path))
        _write(job, JobResult(state="FAILED", error=told))
        traceback.print_exception(error, limit=-_FRAMES, file=sys.stdout)
        raise SystemExit(1) from error
    return 0


def _write(job: BeamJob, result: JobResult) -> None:
    path = Path(job.folder, RESULT_FILE)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(result.to_json(), "utf-8")
    unfinished.replace(path)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Leave whatever is going on, so that the job is cancelled, and then this process."""
    _start(_leave, "last word")
    raise SystemExit(128 + number)


def _leave() -> None:
    SYSTEM_CLOCK.sleep(_LINGER_SECONDS)
    os._exit(1)  # threads of a runner may go on for ever


def _watch_launcher() -> None:
    """End this process when the launcher is gone, however it went."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _start(act: Callable[[], None], name: str) -> None:
    threading.Thread(target=act, name=name, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
