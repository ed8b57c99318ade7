"""One slot of one workflow, by its name: what both sides of the HTTP hop know it by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import UsageError
from eventmill.schema.times import SECONDS_MAX, SECONDS_MIN, timestamp_parts_of_text

WORKFLOW_NAME = re.compile(r"[a-z]([-a-z0-9_]{0,38}[a-z0-9])")
"""No slash, so that one workflow's insert IDs are never between those of another."""
SLOT_BYTES_MAX = 1_000_000_000
"""Bytes of one slot's rows on their way to a server, in Arrow's stream format."""


@dataclass(frozen=True, slots=True, order=True)
class SlotKey:
    """One slot of one workflow."""

    workflow: str
    """Name of the workflow: ``[a-z]([-a-z0-9_]{0,38}[a-z0-9])``."""
    start_seconds: int
    end_seconds: int
    """[start, end) in whole seconds since 1970; a slot has at least one second."""

    def __post_init__(self) -> None:
        """Refuse, with UsageError, what cannot be a slot."""
        if not WORKFLOW_NAME.fullmatch(self.workflow):
            raise UsageError(
                f"{self.workflow!r} is not the name of a workflow: use 2-40 lower-case letters,"
                " digits, hyphens and underscores, starting with a letter"
            )
        if not SECONDS_MIN <= self.start_seconds < self.end_seconds <= SECONDS_MAX:
            raise UsageError(
                f"a slot from {self.start_seconds} to {self.end_seconds} seconds since 1970: it"
                " must end after its start, in the years 1 to 9999"
            )

    @property
    def start(self) -> datetime:
        """Its start, an aware UTC datetime."""
        return utc_datetime(self.start_seconds)

    @property
    def end(self) -> datetime:
        """Its end, an aware UTC datetime, not part of it."""
        return utc_datetime(self.end_seconds)

    @property
    def insert_id_low(self) -> str:
        """Insert IDs of the slot's rows, and of slots within it, are at least this."""
        return _insert_id_prefix(self.workflow, self.start)

    @property
    def insert_id_high(self) -> str:
        """Insert IDs of the slot's rows, and of slots within it, are below this."""
        return _insert_id_prefix(self.workflow, self.end)

    def insert_id(self, row_index: int) -> str:
        """Return the insert ID of the slot's row number ``row_index`` (from 0)."""
        return f"{self.insert_id_low}/{row_index}"

    def contains(self, other: SlotKey) -> bool:
        """Tell whether ``other`` is this slot, or one of the same workflow that lies within it."""
        return (
            self.workflow == other.workflow
            and self.start_seconds <= other.start_seconds
            and other.end_seconds <= self.end_seconds
        )

    def overlaps(self, other: SlotKey) -> bool:
        """Tell whether ``other`` is of the same workflow and shares a moment with this slot."""
        return (
            self.workflow == other.workflow
            and self.start_seconds < other.end_seconds
            and other.start_seconds < self.end_seconds
        )

    def __str__(self) -> str:
        start, end = moment_text(self.start_seconds), moment_text(self.end_seconds)
        return f"{self.workflow} {start} to {end}"


def _insert_id_prefix(workflow: str, moment: datetime) -> str:
    # A year of four digits, so that the text sorts as the time does.
    return f"{workflow}/{moment.year:04d}{moment:%m%dT%H%M%SZ}"


@dataclass(frozen=True, slots=True)
class SlotOutcome:
    """What replacing one slot's rows did."""

    rows: int
    """Rows that the slot has now."""
    replaced_rows: int
    """Rows that it had before, which are gone."""


def moment_text(seconds: int) -> str:
    """Return a bound of a slot as an address has it, such as ``2026-11-23T00:00:00Z``."""
    moment = utc_datetime(seconds)
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%SZ}"


def moment_of_text(text: str) -> int:
    """Return the seconds since 1970 of an RFC 3339 text; UsageError when they are not whole."""
    try:
        seconds, nanos = timestamp_parts_of_text(text)
    except ValueError as error:
        raise UsageError(f"the slot's bound {error}") from None
    if nanos:
        raise UsageError(f"the slot's bound {text!r} is no whole second")
    return seconds
