"""A plugin of pytest: the cases of workflows are tests, each with each body of its workflow.

Active in every project that has Eventmill installed, and only where it has folders with a
``workflow.toml``: ``pytest workflows`` runs what ``eventmill workflow test`` runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from eventmill.workflow.definition import Body, WorkflowDefinition

_FILE_NAME = "workflow.toml"
"""Of ``workflow.reading``, which is imported once there is one: it brings the engines."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--workflow-body``."""
    parser.getgroup("eventmill").addoption(
        "--workflow-body",
        choices=["sql", "beam"],
        help="Run the cases of workflows with this body alone [default: each that a workflow has].",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Return the collector of a workflow's folder, by its ``workflow.toml``."""
    if file_path.name != _FILE_NAME:
        return None
    return WorkflowFile.from_parent(parent, path=file_path)


class WorkflowFile(pytest.File):
    """A workflow, whose cases are collected; one that cannot be read is an error."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield the cases, each with each body."""
        from eventmill.base.errors import EventmillError
        from eventmill.workflow.cases import case_paths
        from eventmill.workflow.reading import read_workflow

        try:
            definition = read_workflow(str(self.path.parent))
        except EventmillError as error:
            raise self.CollectError(str(error)) from error
        wanted = self.config.getoption("--workflow-body")
        for name, path in case_paths(definition).items():
            for body in definition.bodies:
                if wanted in (None, body):
                    yield CaseItem.from_parent(
                        self, name=f"{name}[{body}]", case=(name, path, body), of=definition
                    )


class CaseItem(pytest.Item):
    """One case with one body."""

    def __init__(
        self,
        *,
        case: tuple[str, str, Body],
        of: WorkflowDefinition,
        **more: Any,  # noqa: ANN401 - pytest's own
    ) -> None:
        super().__init__(**more)
        self._case = case
        self._definition = of

    def runtest(self) -> None:
        """Run the case; CaseFailure when it does not pass."""
        from eventmill.base.settings import load_settings
        from eventmill.workflow.beam import BeamOptions
        from eventmill.workflow.case_run import run_case

        python = load_settings().settings.workflow.beam_python
        outcome = run_case(self._definition, *self._case, beam=BeamOptions(python=python))
        for note in outcome.notes:
            self.add_report_section("call", "notes", note)
        if not outcome.passed:
            raise CaseFailure(outcome.told)

    def repr_failure(
        self,
        excinfo: pytest.ExceptionInfo[BaseException],
        style: Any = None,  # noqa: ANN401 - of a private type of pytest's
    ) -> Any:  # noqa: ANN401 - as above
        """Return what is wrong with the case, without a traceback of code that is right."""
        if isinstance(excinfo.value, CaseFailure):
            return f"{self._case[1]}\n{excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the case is and how it is called."""
        return Path(self._case[1]), None, f"{self._definition.name}: {self.name}"


class CaseFailure(Exception):  # noqa: N818 - a verdict on a case, not an error of the code
    """A case that does not pass; the message says in what."""
