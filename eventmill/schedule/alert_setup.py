"""Everything that alerts need, opened together and closed together."""

from __future__ import annotations

import logging
import os
import random
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.environment import environment
from eventmill.base.errors import TransientError, UsageError
from eventmill.schedule.alert_book import AlertBook, AlertChange, AlertPlace
from eventmill.schedule.alert_channels import one_line
from eventmill.schedule.alert_facts import WorkflowFacts
from eventmill.schedule.alert_files import AlertFiles, read_alert_files
from eventmill.schedule.alert_finding import AlertState, Severity
from eventmill.schedule.alert_queue import UNROUTED
from eventmill.schedule.alert_state import Notice
from eventmill.schedule.alerts import STORE_SECONDS_MAX, AlertEngine
from eventmill.schedule.book import RunBook
from eventmill.schedule.workflow_folder import WorkflowFolder
from eventmill.store.port import Store
from eventmill.workflow.definition import WorkflowDefinition
from eventmill.workflow.reading import read_workflow

HELD_SECONDS = 120.0
"""How long a scheduler that was not heard of keeps others from going by other folders."""
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
        holder: str = "",
        held_seconds: float = 0.0,
        on_firing: Callable[[Mapping[Severity, int]], None] | None = None,
    ) -> None:
        """Open the book; nothing is evaluated yet.

        Args:
            store: whose tables are watched, the caller's.
            book_path: of the run book.
            alert_folder: of channels and rules; may be missing.
            workflow_folder: of the project's workflows; may be missing.
            clock: time.
            holder: who this is, for others that would go by other folders.
            held_seconds: how long after an evaluation they may not.
            on_firing: told after each look how many alerts fire.

        Raises:
            UnavailableError: the run book cannot be opened.
        """
        self.place = AlertPlace(_whole(alert_folder), _whole(workflow_folder), holder)
        """The folders that this goes by."""
        self._held_seconds = held_seconds
        self._on_firing = on_firing
        self._clock = clock
        self._good: AlertFiles | None = None
        self._stands_back = False
        self._workflows = WorkflowFolder(self.place.workflow_folder, read_workflow)
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

        What changed is in the server's log as well, which somebody reads where no channel is. What
        is wrong with workflows is told before the store is asked for anything.
        """
        if not self.hold():
            return
        try:
            self._log(self.engine.evaluate_workflows())
            self.engine.tell()
            self._log(self.engine.evaluate_store(STORE_SECONDS_MAX))
        finally:
            self.engine.tell()
        if self._on_firing is not None:
            firing = [each for each in self.book.alerts() if each.state is AlertState.FIRING]
            self._on_firing(Counter(each.finding.severity for each in firing))

    @property
    def sees_a_schedule(self) -> bool:
        """Whether the run book has a workflow, or has ever heard of a scheduler."""
        return bool(self._runs.workflows()) or self._runs.heartbeat() is not None

    def hold(self) -> bool:
        """Have the book name these folders; False: a scheduler that lives goes by others."""
        now = self._clock.now()
        held = self.book.hold(replace(self.place, held_until=now + self._held_seconds), now)
        if not held and not self._stands_back:
            _logger.error(
                "no alerts are evaluated here: another scheduler of this run book goes by other"
                " folders than %s and %s", self.place.alert_folder, self.place.workflow_folder,
            )  # fmt: skip
        self._stands_back = not held
        return held

    def files(self) -> AlertFiles:
        """Read the folder of alerts as it is now; while it cannot be read, who is told stays."""
        found = read_alert_files(self.place.alert_folder, environment())
        if found.is_routable:
            self._good = found
        elif self._good is not None:
            good = self._good
            found = replace(found, channels=good.channels, routes=good.routes,
                            declared=good.declared, is_routable=True)  # fmt: skip
        return found

    def close(self) -> None:
        """Close the books; a second call does nothing."""
        if self._held_seconds:
            with suppress(TransientError):
                self.book.release(self.place.holder, self._clock.now())
        self.book.close()
        self._runs.close()

    @staticmethod
    def _log(changes: Sequence[AlertChange]) -> None:
        for change in changes:
            finding = change.alert.finding
            level = logging.INFO if change.notice is Notice.RESOLVED else logging.WARNING
            told = ", ".join(name for name in change.channels if name != UNROUTED)
            _logger.log(
                level, "alert %s: %s: %s (%s)", change.notice.value, finding.rule,
                one_line(finding.summary), f"told: {told}" if told else "no channel is told",
            )  # fmt: skip

    def _definitions(self) -> Sequence[WorkflowDefinition]:
        self._workflows.look()
        return list(self._workflows.definitions.values())


def choose_place(book_path: str, own: AlertPlace, *, is_meant: bool, now: float) -> AlertPlace:
    """Return the folders that a command goes by: those of whoever evaluates the book's alerts.

    Called from another working folder, a command would else end the alerts of rules that it does
    not see, and tell on other channels, or on none.

    Args:
        book_path: of the run book.
        own: what the command's settings name.
        is_meant: whether somebody has set them; else they are below the working folder.
        now: seconds since 1970.

    Raises:
        UsageError: other folders are meant than those that a living scheduler goes by.
        UnavailableError: the run book cannot be opened.
    """
    book = AlertBook(book_path)
    try:
        found = book.place()
    finally:
        book.close()
    if found is None or found.is_same(own):
        return own
    if not is_meant:
        there = os.path.isdir(found.alert_folder) or os.path.isdir(found.workflow_folder)
        return replace(found, holder=own.holder) if there else own
    if now < found.held_until:
        raise UsageError(
            f"the alerts of this store are evaluated by {found.holder}, with the rules and channels"
            f" of {found.alert_folder} and the workflows of {found.workflow_folder}, not those of"
            f" {own.alert_folder} and {own.workflow_folder}: leave the settings alert.folder and"
            " workflow.folder away, or stop it"
        )
    return own


def own_place(alert_folder: str, workflow_folder: str) -> AlertPlace:
    """Return the folders that settings name, as absolute paths."""
    return AlertPlace(_whole(alert_folder), _whole(workflow_folder))


def _whole(folder: str) -> str:
    return os.path.abspath(os.path.expanduser(folder))
