"""The one door: an event passes every hop of its way through a ``Sink``.

The HTTP client is a sink, behind the server stands a sink, every store is a sink; so one contract
suite (``eventmill.testing``) runs at each of them, and a test takes the network out by handing the
store to the uploader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from eventmill.base.errors import EventmillError, UsageError
from eventmill.schema.table import Table, TableId
from eventmill.wire.batch import Batch
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Features:
    """What a sink declares of itself; the contract suites run what is declared."""

    durable: bool
    """An ack survives kill -9 and a power cut."""
    dedup_window_seconds: float
    """A repeated insert ID is answered with *duplicate* for at least this long; 0: never;
    infinity: always."""
    quarantines: bool
    """A rejected event is kept whole, and can be listed, when the verdict returns."""
    keeps_unknown_fields: bool = False
    """An event with fields that its table lacks is accepted and kept whole, and they appear once
    the table has them; without this, such an event is rejected."""


class NotJudgedError(UsageError):
    """Nobody has judged the batch: the sink is closed, or at its address answers something else.

    It says nothing of the events, so whoever can keep them does until somebody has mended that.
    """


class Sink(Protocol):
    """Anything that takes a batch and answers with a verdict."""

    @property
    def features(self) -> Features:
        """What this sink promises; constant."""
        ...

    def put(self, batch: Batch, *, timeout_seconds: float | None = None) -> Verdict:
        """Put one batch and wait for the verdict. Safe from any thread.

        Promise: on return each event is stored, was stored before, or is named in ``rejected``;
        putting the same batch again is harmless within ``features.dedup_window_seconds``.

        Args:
            batch: events of one table.
            timeout_seconds: give up waiting after this; None: the sink's own limit.

        Raises:
            TransientError: any of the events may have been stored; put the batch again.
            PermanentError: nothing was stored; the same batch would fail again.
            NotJudgedError: it would fail again until something else is mended than the batch.
        """
        ...

    def close(self) -> None:
        """Give back what the sink holds; a second call does nothing."""
        ...


@runtime_checkable
class RemoteSink(Protocol):
    """A sink at the other end of a network, each of whose calls has a time limit."""

    def limited_to(self, timeout_seconds: float) -> Sink:
        """Return this sink with another limit for the calls that are given none, such as
        ``describe``; it lives as long as this one does, and need not be closed."""
        ...


@runtime_checkable
class Catalog(Protocol):
    """Anything that can say what a table is: every store, and the client of a server."""

    def describe(self, table: TableId) -> Table:
        """Return the live definition of ``table``.

        Raises:
            TableNotFoundError: there is no such table.
            TransientError: it cannot be told now.
        """
        ...


@runtime_checkable
class QuarantiningSink(Protocol):
    """A sink that keeps what the sender itself could not encode."""

    def quarantine(self, events: Sequence[QuarantinedEvent]) -> None:
        """Keep ``events``, whole, once each however often the call is repeated.

        Raises:
            TransientError: any of them may be kept; call again.
            PermanentError: they cannot be kept here.
        """
        ...


Answer = Callable[[Verdict | None, EventmillError | None], None]
"""Told what became of a batch: its verdict, or the error with None before it. Called once, from
any thread; must neither raise nor block."""


@runtime_checkable
class SubmittingSink(Protocol):
    """A sink that can take a batch without holding a thread until the verdict."""

    def submit(self, batch: Batch, answer: Answer) -> None:
        """Begin what ``put`` does; ``answer`` is called with its verdict or its error.

        Raises:
            TransientError: the batch was not begun, and ``answer`` will not be called.
            PermanentError: the batch would never be taken, and ``answer`` will not be called.
        """
        ...
