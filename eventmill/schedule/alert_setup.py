"""Everything that alerts need, opened together and closed together."""

from __future__ import annotations

import logging
import os
import random
import secrets
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.environment import environment
from eventmill.schedule.alert_book import AlertBook
from eventmill.schedule.alert_files import AlertFiles, read_alert_files
from eventmill.schedule.alert_state import Notice
from eventmill.schedule.alert_workflows import WorkflowFacts
from eventmill.schedule.alerts import AlertEngine
from eventmill.schedule.book import RunBook
from eventmill.schedule.workflow_folder import WorkflowFolder
from eventmill.store.port import Store
from eventmill.workflow.definition import WorkflowDefinition
from eventmill.workflow.reading import read_workflow

_logger = logging.getLogger("eventmill.alerts")


class Alerts:
    """The alerts of one store: their book, the folder that says who is told, and the engine."""

    def __init__(
        self,
        store: Store,
        book_path: str,
        *,
        alert_folder: str,
        workflow_folder: str,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Open the book; nothing is evaluated yet.

        Args:
            store: whose tables are watched, the caller's.
            book_path: of the run book.
            alert_folder: of channels and rules; may be missing.
            workflow_folder: of the project's workflows; may be missing.
            clock: time.

        Raises:
            UnavailableError: the run book cannot be opened.
        """
        self._alert_folder = os.path.abspath(os.path.expanduser(alert_folder))
        self._workflows = WorkflowFolder(
            os.path.abspath(os.path.expanduser(workflow_folder)), read_workflow
        )
        self._runs = RunBook(book_path)
        try:
            self.book = AlertBook(book_path)
            """States of the alerts, and notices on their way."""
        except BaseException:
            self._runs.close()
            raise
        facts = WorkflowFacts(self._runs, self._definitions)
        rng = random.Random(secrets.randbits(64))  # noqa: S311 - pauses, no secrets
        self.engine = AlertEngine(store, self.book, facts, self.files, clock, rng)
        """Evaluates the rules, and tells."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def look(self) -> None:
        """Evaluate what is due, log what has changed, and tell it.

        What changed is in the server's log as well, which somebody reads where no channel is.
        """
        for change in self.engine.evaluate():
            finding = change.alert.finding
            level = logging.INFO if change.notice is Notice.RESOLVED else logging.WARNING
            _logger.log(
                level, "alert %s: %s: %s", change.notice.value, finding.rule, finding.summary
            )
        self.engine.tell()

    def files(self) -> AlertFiles:
        """Read the folder of alerts as it is now."""
        return read_alert_files(self._alert_folder, environment())

    def close(self) -> None:
        """Close the books; a second call does nothing."""
        self.book.close()
        self._runs.close()

    def _definitions(self) -> Sequence[WorkflowDefinition]:
        self._workflows.look()
        return list(self._workflows.definitions.values())
