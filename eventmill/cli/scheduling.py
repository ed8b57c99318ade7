"""What commands of the schedule share: the run book, the workflows, and a store to run them on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventmill.address import is_folder, open_store, require_store
from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import UsageError
from eventmill.base.metrics import Metric, Metrics
from eventmill.base.settings import Settings
from eventmill.cli.invocation import Invocation, setting_option

if TYPE_CHECKING:
    from eventmill.schedule.alert_finding import Severity
    from eventmill.schedule.book import RunBook
    from eventmill.schedule.run_work import SlotRunner
    from eventmill.schedule.scheduler import Scheduler
    from eventmill.store.port import Store
    from eventmill.workflow.definition import Body, WorkflowDefinition
    from eventmill.workflow.slot_run import SlotResult
    from eventmill.workflow.timetable import Slot

OpenedStore = Callable[[], AbstractContextManager["Store"]]
"""Opens the store for one piece of work."""
LATE_SHARE_MAX = 0.05
"""Part of the time that is spent on looking for late rows, at most."""
STOP_SECONDS = 25.0
"""How long the end of a scheduler is waited for: slots that run, and an alert being told."""
LAST = "last"
"""What ``--slot`` says for the slot that ended last."""

workflows_option = setting_option(
    "workflow.folder",
    "--workflows",
    metavar="DIR",
    description="Folder of the project's workflows [default: ./workflows].",
)
name_argument = click.argument("name", metavar="NAME")


class SharedStore:
    """A store that is open while at least one piece of work uses it. Safe from any thread.

    A data folder has one writer at a time: a scheduler beside no server takes it for as long as a
    slot needs it, so that senders and commands get their turn in between.
    """

    def __init__(self, opening: Callable[[], Store]) -> None:
        """Open with ``opening`` when the first user comes, and close when the last has gone."""
        self._opening = opening
        self._lock = threading.Lock()
        self._users = 0
        self._store: Store | None = None

    @contextmanager
    def __call__(self) -> Iterator[Store]:
        """Give the open store for one piece of work."""
        with self._lock:
            if self._store is None:
                self._store = self._opening()
            store = self._store
            self._users += 1
        try:
            yield store
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._store = None
                    store.close()


def writing_store(settings: Settings) -> OpenedStore:
    """Return how the store of the settings is opened for writing, once it is needed."""
    address = settings.client.store
    require_store(address)
    return SharedStore(lambda: open_store(address, settings=settings))


@contextmanager
def opened_book(settings: Settings) -> Iterator[RunBook]:
    """Open the run book of the store that the settings name."""
    from eventmill.schedule.book import RunBook
    from eventmill.schedule.place import book_path

    address = settings.client.store
    require_store(address)
    path = book_path(address, settings.schedule.folder, is_folder=is_folder(address))
    book = RunBook(path)
    try:
        yield book
    finally:
        book.close()


def slot_runner(opened: OpenedStore, settings: Settings) -> SlotRunner:
    """Return what runs the body of one slot on the store."""
    from eventmill.workflow.beam import BeamOptions
    from eventmill.workflow.slot_run import run_slot

    beam = BeamOptions.from_settings(
        settings.workflow, store=settings.client.store, key=settings.client.key
    )

    def run(
        definition: WorkflowDefinition,
        slot: Slot,
        *,
        generation: int,
        body: Body | None,
        log: Callable[[str], None],
        cancel: threading.Event,
    ) -> SlotResult:
        with opened() as store:
            return run_slot(
                definition,
                store,
                slot,
                generation=generation,
                body=body,
                log=log,
                cancel=cancel,
                beam=beam,
            )

    return run


@contextmanager
def opened_scheduler(
    settings: Settings, *, writing: OpenedStore, reading: Store, metrics: Metrics | None = None
) -> Iterator[Scheduler]:
    """Give a scheduler of the project's workflows, not started; it is stopped at the end.

    It looks for late rows and evaluates the alerts as well.

    Args:
        settings: which store, which folders, how often.
        writing: opens the store for the run of a slot.
        reading: the same store, open for reading all the time.
        metrics: where it is counted how many alerts fire; None: nowhere.
    """
    from eventmill.schedule.alert_setup import HELD_SECONDS, Alerts
    from eventmill.schedule.chore import Chore
    from eventmill.schedule.late_look import LateLook
    from eventmill.schedule.scheduler import Scheduler, runner_name
    from eventmill.schedule.workflow_folder import WorkflowFolder
    from eventmill.workflow.reading import read_workflow

    folder = WorkflowFolder(
        str(Path(settings.workflow.folder).expanduser().absolute()), read_workflow
    )
    with (
        opened_book(settings) as book,
        Alerts(
            reading,
            book.file.path,
            alert_folder=settings.alert.folder,
            workflow_folder=settings.workflow.folder,
            holder=runner_name(),
            held_seconds=max(HELD_SECONDS, 4 * settings.alert.every_seconds),
            on_firing=None if metrics is None else partial(_count_alerts, metrics),
        ) as alerts,
    ):
        late = LateLook(book, lambda: nullcontext(reading), clock=SYSTEM_CLOCK)

        chores = [
            Chore(
                "eventmill-late-rows",
                settings.schedule.late_every_seconds,
                lambda: late.look(list(folder.definitions.values())),
                clock=SYSTEM_CLOCK,
                share_max=LATE_SHARE_MAX,
            ),
            Chore(
                "eventmill-alerts", settings.alert.every_seconds, alerts.look, clock=SYSTEM_CLOCK
            ),
        ]
        scheduler = Scheduler(
            book,
            folder,
            slot_runner(writing, settings),
            settings=settings.schedule,
            chores=chores,
        )
        try:
            yield scheduler
        finally:
            scheduler.stop(STOP_SECONDS)


def _count_alerts(metrics: Metrics, firing: Mapping[Severity, int]) -> None:
    from eventmill.schedule.alert_finding import Severity

    for severity in Severity:
        metrics.set(Metric.ALERTS_FIRING, firing.get(severity, 0), severity.value)


def found_workflow(invocation: Invocation, name: str) -> WorkflowDefinition:
    """Return the workflow ``name`` of the project, or else of those that ship with Eventmill."""
    from eventmill.workflow.reading import SHIPPED_FOLDER, find_workflow

    folder = str(Path(invocation.settings.workflow.folder).expanduser().absolute())
    return find_workflow(name, [folder, SHIPPED_FOLDER])


def moment_of(text: str, flag: str) -> float:
    """Read a moment given as a flag, in UTC unless it says otherwise; seconds since 1970."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{flag} {text!r} is no moment: write 2026-03-29, 2026-03-29T01:00Z or"
            " 2026-03-29T01:00+02:00"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def slot_of(definition: WorkflowDefinition, text: str, now: float) -> Slot:
    """Return the slot that ``--slot`` names: by its start, or ``last`` for that which ended last.

    Raises:
        UsageError: no slot starts then, or it has not ended yet.
    """
    from eventmill.schedule.due import moment_text, slot_text
    from eventmill.workflow.timetable import EARLIEST_SECONDS, LATEST_SECONDS

    timetable = definition.timetable
    if text == LAST:
        return timetable.slot_at(timetable.slot_at(now)[0] - 1)
    moment = moment_of(text, "--slot")
    if not EARLIEST_SECONDS <= moment < LATEST_SECONDS:
        raise UsageError(f"--slot {text!r}: there are slots from the year 2 to the end of 9998")
    slot = timetable.slot_at(moment)
    if slot[0] != moment:
        raise UsageError(
            f"no slot of {definition.name} ({timetable.text}) starts at {moment_text(moment)};"
            f" that moment lies in {slot_text(slot)}: give its start"
        )
    if slot[1] > now:
        raise UsageError(
            f"the slot {slot_text(slot)} of {definition.name} has not ended: it can be run from"
            f" {moment_text(slot[1])} on; `eventmill workflow try` runs the body on rows of files"
        )
    return slot
