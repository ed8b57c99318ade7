"""A Beam pipeline whose end is awaited, on a runner that is named."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.runners.runner import PipelineState

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import UsageError
from eventmill.beam.counters import counts_of
from eventmill.beam.sources import RowSource, StoreSource
from eventmill.workflow.beam.faults import PipelineError
from eventmill.workflow.beam.job_name import beam_job_name, check_job_name

RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""Runs a pipeline in this process. Beam's default looks for a program on the network first."""
_DOWNLOADING = {"directrunner", "switchingdirectrunner", "prismrunner"}


class EventsOptions(PipelineOptions):
    """Options of ours beside those of Beam and its runners."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:  # noqa: ANN401 - Beam's own parser
        parser.add_argument("--store", help="address of the store to read from and write to")


class EventsPipeline(beam.Pipeline):
    """A Beam pipeline for events.

    ``with EventsPipeline() as pipeline:`` takes options from the command line, those of runners
    too: ``--runner=DataflowRunner --project=shop ...``. Without ``--runner`` it runs in this
    process. ``run`` returns after the job's final state was DONE, and raises otherwise.
    """

    def __init__(
        self,
        argv: Sequence[str] | None = None,
        *,
        name: str = "events",
        store: str | None = None,
        source: RowSource | None = None,
        job_name: str | None = None,
    ) -> None:
        """Prepare the pipeline.

        Args:
            argv: options as on a command line; None: those of this program.
            name: beginning of the job's name, which is one of its own for every run unless
                ``--job_name`` gives one.
            store: address of the store for ``ReadTable`` and ``WriteTable``; ``--store`` wins.
            source: rows in place of a store's; None: the store's.
            job_name: the whole name; ``--job_name`` wins.

        Raises:
            UsageError: a job name that no runner takes, or a runner that would download.
        """
        options = PipelineOptions(list(sys.argv[1:] if argv is None else argv))
        standard = options.view_as(StandardOptions)
        standard.runner = _checked_runner(options, standard.runner) or RUNNER
        google = options.view_as(GoogleCloudOptions)
        now_us = int(SYSTEM_CLOCK.now() * 1_000_000)
        google.job_name = check_job_name(
            google.job_name or job_name or beam_job_name(name, now_us // 1_000_000, 0, now_us)
        )
        self.job_name: str = google.job_name
        self.store: str | None = options.view_as(EventsOptions).store or store
        """Address of the store; None: each transform says it."""
        self.source: RowSource | None = source or (StoreSource(self.store) if self.store else None)
        """What ``ReadTable`` reads."""
        self.counts: dict[str, int] = {}
        """What ``Counters`` have counted, once the job has ended."""
        self.resources = contextlib.ExitStack()
        """What the pipeline needs until ``run`` ends, however it does."""
        self._after_done: list[Callable[[], object]] = []
        super().__init__(options=options)

    def after_done(self, act: Callable[[], object]) -> None:
        """Have ``act`` called once the final state is DONE, before ``run`` returns."""
        self._after_done.append(act)

    def run(self, test_runner_api: bool | str = "AUTO") -> Any:  # noqa: ANN401 - Beam's result
        """Run the pipeline and wait for its final state.

        Raises:
            PipelineError: the final state is not DONE. Runners also raise errors of their own.
        """
        with self.resources:
            return self._run_to_end(test_runner_api)

    def _run_to_end(self, test_runner_api: bool | str) -> Any:  # noqa: ANN401 - Beam's result
        result = super().run(test_runner_api)
        try:
            state = result.wait_until_finish() or result.state
        except BaseException:
            # Whoever waits no longer wants it: a job on other machines would go on for nobody.
            if not PipelineState.is_terminal(result.state):
                result.cancel()
            raise
        if state != PipelineState.DONE:
            raise PipelineError(f"the job {self.job_name} ended in the state {state}, not DONE")
        self.counts = counts_of(result)
        for act in self._after_done:
            act()
        return result


def _checked_runner(options: PipelineOptions, runner: str | None) -> str | None:
    if runner is None or runner.lower().rpartition(".")[2] not in _DOWNLOADING:
        return runner
    if runner.lower().endswith("prismrunner") and _prism_location(options):
        return runner
    raise UsageError(
        f"--runner={runner} downloads a program when it runs; leave --runner out to run in this"
        " process, or give --runner=PrismRunner with --prism_location"
    )


def _prism_location(options: PipelineOptions) -> str | None:
    from apache_beam.options.pipeline_options import PrismRunnerOptions

    found: str | None = options.view_as(PrismRunnerOptions).prism_location
    return found
