"""The plan of a change as a value: as text for a person, as JSON for a file and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from eventmill.schema.plan_file import saved_form
from eventmill.schema.table import Table, TableSpec

_PATH_WIDTH_MAX = 40
"""Characters of a path that others are aligned with; a longer one shifts its own line alone."""
_WHOLE_TABLE = "(table)"
_RESET = "\x1b[0m"


class ChangeKind(StrEnum):
    """Every kind of change that can be carried out."""

    CREATE = "create"
    ADD_COLUMN = "add_column"
    RELAX = "relax"
    DESCRIPTION = "description"
    DEFAULT_VALUE = "default_value"
    LABEL = "label"
    OWNER = "owner"
    FRESHNESS = "freshness"
    EXPIRATION = "expiration"
    CLUSTERING = "clustering"
    PARTITION_FILTER = "partition_filter"
    MESSAGE = "message"
    """The message type reads or writes other bytes, with the same columns or more."""
    RULES = "rules"
    """A rule (``buf.validate``) that events are held to; those that are stored already stay."""


class Sign(StrEnum):
    """What begins the line of a change, and its colour on a terminal."""

    ADD = "+"
    CHANGE = "~"
    REFUSE = "!"

    def coloured(self, text: str) -> str:
        """Return ``text`` in the sign's colour: green, yellow or red, by ANSI codes."""
        code = {Sign.ADD: 32, Sign.CHANGE: 33, Sign.REFUSE: 31}[self]
        return f"\x1b[{code}m{text}{_RESET}"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that becomes different."""

    kind: ChangeKind
    path: str
    """Dotted path of the column; empty when it is the table."""
    before: Any
    after: Any
    """Values in JSON's types; None: there was, or will be, none."""
    text: str
    place: str = ""
    """``file:line`` of the column's field in the new .proto; empty when unknown."""

    @property
    def sign(self) -> Sign:
        """Whether something is new, or other than it was."""
        is_new = self.kind in (ChangeKind.CREATE, ChangeKind.ADD_COLUMN)
        return Sign.ADD if is_new else Sign.CHANGE

    @property
    def short_text(self) -> str:
        """The text without the path, for a line that begins with it."""
        if self.kind is ChangeKind.ADD_COLUMN:
            return f"{self.after['type']} {self.after['mode']}"
        if self.kind is ChangeKind.RELAX:
            return f"{self.before} -> {self.after}"
        return self.text.removesuffix(f" of {self.path}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that the definition asks for and that a live table does not allow."""

    path: str
    reason: str
    way_out: str
    place: str = ""
    """``file:line`` in the new .proto, the file as its importers name it; empty when unknown."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying ``wanted`` would do."""

    live: Table | None
    """The table that the plan was made on; None: there is none yet."""
    wanted: TableSpec
    result: TableSpec
    """The definition after the plan is carried out: live columns that the .proto no longer has
    are kept, at the end of their level, and the numbers of removed fields are remembered. With
    refusals: the live definition."""
    changes: tuple[Change, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    """What a person should know though it changes nothing, such as a column that is kept."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do and nothing was refused."""
        return not self.changes and not self.refusals

    @property
    def expected_version(self) -> int:
        """The version of the table that the plan holds for; 0: there must be none."""
        return 0 if self.live is None else self.live.version

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object, which ``plan_file.plan_from_json`` reads."""
        return {
            "table": str(self.wanted.table),
            "action": self._action(),
            "expected_version": self.expected_version,
            "changes": [
                {
                    "kind": change.kind.value,
                    "path": change.path,
                    "before": change.before,
                    "after": change.after,
                    "text": change.text,
                    "place": change.place,
                }
                for change in self.changes
            ],
            "refusals": [
                {
                    "path": refusal.path,
                    "reason": refusal.reason,
                    "way_out": refusal.way_out,
                    "place": refusal.place,
                }
                for refusal in self.refusals
            ],
            "notes": list(self.notes),
            **saved_form(self.wanted, self.expected_version),
        }

    def to_text(self, *, colour: bool = False) -> str:
        """Return the plan as lines for a person, without a newline at the end.

        Args:
            colour: whether to mark what is added, changed and refused with ANSI colours.
        """
        paths = [refusal.path for refusal in self.refusals]
        paths += [change.path for change in self.changes]
        widths = (len(path or _WHOLE_TABLE) for path in paths)
        width = min(max(widths, default=0), _PATH_WIDTH_MAX)
        lines = [f"{self.wanted.table}: {self._summary()}"]
        for sign, text in self._lines(width):
            lines.append(f"  {sign.coloured(text) if colour else text}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _lines(self, width: int) -> Iterator[tuple[Sign, str]]:
        indent = " " * (width + 4)
        for refusal in self.refusals:
            place = f"{refusal.place}: " if refusal.place else ""
            path = f"{refusal.path or _WHOLE_TABLE:<{width}}"
            yield Sign.REFUSE, f"{Sign.REFUSE} {path}  {place}{refusal.reason}"
            yield Sign.REFUSE, f"{indent}way out: {refusal.way_out}"
        for change in self.changes:
            path = f"{change.path or _WHOLE_TABLE:<{width}}"
            yield change.sign, f"{change.sign} {path}  {change.short_text}"

    def _summary(self) -> str:
        if self.is_empty:
            return "no changes"
        signs = [Sign.REFUSE for _ in self.refusals] + [change.sign for change in self.changes]
        counts = " ".join(f"{sign}{signs.count(sign)}" for sign in Sign if sign in signs)
        return f"{self._action()} ({counts})"

    def _action(self) -> str:
        if self.refusals:
            return "refused"
        if not self.changes:
            return "none"
        return "create" if self.live is None else "change"
