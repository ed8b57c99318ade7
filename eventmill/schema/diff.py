"""What applying a definition would change on a live table: the plan, as a value.

A plan only ever adds, relaxes or describes. What else a definition asks for is refused, with
the reason and the way out; a plan with refusals is never carried out in part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from eventmill.schema.diff_wire import WireDiff, wire_diff
from eventmill.schema.document import columns_to_json
from eventmill.schema.table import Column, ColumnType, Mode, Partitioning, Table, TableSpec


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


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that the definition asks for and that a live table does not allow."""

    path: str
    reason: str
    way_out: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying ``wanted`` would do."""

    live: Table | None
    """The table that the plan was made on; None: there is none yet."""
    wanted: TableSpec
    result: TableSpec
    """The definition after the plan is carried out: live columns that the .proto no longer has
    are kept, at the end of their level. With refusals: the live definition."""
    changes: tuple[Change, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = field(default=())
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
        """Return the plan as a JSON object."""
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
                }
                for change in self.changes
            ],
            "refusals": [
                {"path": refusal.path, "reason": refusal.reason, "way_out": refusal.way_out}
                for refusal in self.refusals
            ],
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """Return the plan as lines for a person, without a newline at the end."""
        table = self.wanted.table
        lines = []
        if self.refusals:
            lines.append(f"{table}: refused")
            for refusal in self.refusals:
                place = f"{refusal.path}: " if refusal.path else ""
                lines += [f"  ! {place}{refusal.reason}", f"      way out: {refusal.way_out}"]
        elif not self.changes:
            lines.append(f"{table}: no changes")
        else:
            lines.append(f"{table}: {'create' if self.live is None else 'change'}")
        lines += [f"  {_SIGNS.get(change.kind, '~')} {change.text}" for change in self.changes]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _action(self) -> str:
        if self.refusals:
            return "refused"
        if not self.changes:
            return "none"
        return "create" if self.live is None else "change"


_SIGNS = {ChangeKind.CREATE: "+", ChangeKind.ADD_COLUMN: "+"}


def plan_change(live: Table | None, wanted: TableSpec) -> Plan:
    """Return what applying ``wanted`` on ``live`` would change, and what of it is refused.

    Args:
        live: the table as it is; None: there is none.
        wanted: the definition, of the same table.

    Raises:
        SchemaError: one of the two definitions does not hold together.
    """
    if live is None:
        return Plan(None, wanted, wanted, tuple(_creation(wanted)))
    planner = _Planner(live.spec, wanted)
    columns = planner.level(live.spec.columns, wanted.columns, "")
    planner.table()
    if planner.refusals:
        refused = tuple(planner.refusals)
        return Plan(live, wanted, live.spec, tuple(planner.changes), refused, tuple(planner.notes))
    if not planner.changes:
        return Plan(live, wanted, live.spec, notes=tuple(planner.notes))
    result = replace(wanted, columns=columns)
    return Plan(live, wanted, result, tuple(planner.changes), (), tuple(planner.notes))


def _creation(wanted: TableSpec) -> Iterator[Change]:
    kept = _partitioning_text(wanted.partitioning)
    yield Change(ChangeKind.CREATE, "", None, str(wanted.table), f"create {wanted.table}, {kept}")
    for path, column in wanted.walk():
        yield _addition(path, column)


def _addition(path: str, column: Column) -> Change:
    return Change(
        ChangeKind.ADD_COLUMN,
        path,
        None,
        columns_to_json([column])[0],
        f"add column {path} {_type_text(column)}",
    )


def _type_text(column: Column) -> str:
    return f"{column.type} {column.mode}"


def _partitioning_text(partitioning: Partitioning | None) -> str:
    if partitioning is None:
        return "not partitioned"
    source = partitioning.column or "the time of ingestion"
    return f"partitioned by {partitioning.granularity} of {source}"


class _Planner:
    """Compares two definitions of one table and notes what it finds."""

    def __init__(self, live: TableSpec, wanted: TableSpec) -> None:
        self.changes: list[Change] = []
        self.refusals: list[Refusal] = []
        self.notes: list[str] = []
        self._live = live
        self._wanted = wanted
        self._wire: WireDiff = wire_diff(live, wanted)

    def level(
        self, live: tuple[Column, ...], wanted: tuple[Column, ...], prefix: str
    ) -> tuple[Column, ...]:
        """Compare the columns of one level and return those that result."""
        # BigQuery's names differ in more than case, so a change of case is a rename too.
        by_name = {column.name.lower(): column for column in live}
        result = []
        for column in wanted:
            before = by_name.pop(column.name.lower(), None)
            path = f"{prefix}{column.name}"
            if before is None:
                result.append(self._added(path, column))
            elif before.name != column.name:
                self.refusals.append(
                    Refusal(
                        path,
                        f"the live column is written {before.name}, and names differ in more"
                        " than case",
                        f"keep the name {before.name} in the .proto",
                    )
                )
            else:
                result.append(self._compared(path, before, column))
        kept = [self._kept(f"{prefix}{column.name}", column) for column in by_name.values()]
        return tuple(result + kept)

    def _added(self, path: str, column: Column) -> Column:
        old_name = self._wire.renamed.get(path)
        if old_name is not None:
            self.refusals.append(
                Refusal(
                    path,
                    f"the field was renamed from {old_name} and kept its number, so that events"
                    " under way would change columns",
                    f"keep the name {old_name}; or give {path} a new number and reserve the old"
                    " one, and both columns exist",
                )
            )
        elif column.mode is Mode.REQUIRED:
            self.refusals.append(
                Refusal(
                    path,
                    "a REQUIRED column cannot be added to a table that has rows without it",
                    "make the field optional",
                )
            )
        # Columns below a new RECORD come with it, and each is said.
        for below, one in column.walk(path.removesuffix(column.name)):
            self.changes.append(_addition(below, one))
        return column

    def _kept(self, path: str, column: Column) -> Column:
        self.notes.append(f"{path} is no longer in the .proto: kept, NULL in new rows")
        if column.mode is not Mode.REQUIRED:
            return column
        self._relaxed(path, column)
        return replace(column, mode=Mode.NULLABLE)

    def _compared(self, path: str, live: Column, wanted: Column) -> Column:
        if live.type is not wanted.type:
            self.refusals.append(
                Refusal(
                    path,
                    f"its type would change from {live.type} to {wanted.type}",
                    f"keep {live.type}, or add a field with another name and number",
                )
            )
            return wanted
        if (live.mode is Mode.REPEATED) is not (wanted.mode is Mode.REPEATED):
            self.refusals.append(
                Refusal(
                    path,
                    f"its mode would change from {live.mode} to {wanted.mode}",
                    f"keep {live.mode}, or add a field with another name and number",
                )
            )
            return wanted
        if live.mode is Mode.NULLABLE and wanted.mode is Mode.REQUIRED:
            self.refusals.append(
                Refusal(
                    path,
                    "its mode would be tightened from NULLABLE to REQUIRED",
                    "keep the field optional",
                )
            )
        elif live.mode is Mode.REQUIRED and wanted.mode is Mode.NULLABLE:
            self._relaxed(path, live)
        misread = self._wire.misread.get(path)
        if misread is not None:
            self.refusals.append(
                Refusal(
                    path,
                    misread,
                    "put it back, or add a field with another name and number",
                )
            )
        self._text(ChangeKind.DESCRIPTION, path, live.description, wanted.description)
        self._text(ChangeKind.DEFAULT_VALUE, path, live.default_value, wanted.default_value)
        if wanted.type is not ColumnType.RECORD:
            return wanted
        return replace(wanted, fields=self.level(live.fields, wanted.fields, f"{path}."))

    def _relaxed(self, path: str, live: Column) -> None:
        self.changes.append(
            Change(
                ChangeKind.RELAX,
                path,
                live.mode.value,
                Mode.NULLABLE.value,
                f"relax {path} from REQUIRED to NULLABLE",
            )
        )

    def _text(self, kind: ChangeKind, path: str, before: str, after: str) -> None:
        if before != after:
            what = kind.replace("_", " ")
            of = f" of {path}" if path else ""
            text = (
                f"change {what}{of}"
                if before and after
                else (f"set {what}{of}" if after else f"clear {what}{of}")
            )
            self.changes.append(Change(kind, path, before or None, after or None, text))

    def _value(self, kind: ChangeKind, before: object, after: object, text: str) -> None:
        if before != after:
            self.changes.append(Change(kind, "", before, after, text))

    def table(self) -> None:
        """Compare what is said of the table as a whole."""
        live, wanted = self._live, self._wanted
        self._partitioning(live.partitioning, wanted.partitioning)
        self._value(
            ChangeKind.CLUSTERING,
            list(live.clustering),
            list(wanted.clustering),
            f"cluster by {', '.join(wanted.clustering) or 'nothing'}",
        )
        self._value(
            ChangeKind.PARTITION_FILTER,
            live.require_partition_filter,
            wanted.require_partition_filter,
            f"{'require' if wanted.require_partition_filter else 'do not require'} a partition"
            " filter in queries",
        )
        self._text(ChangeKind.DESCRIPTION, "", live.description, wanted.description)
        self._text(ChangeKind.OWNER, "", live.owner, wanted.owner)
        self._value(
            ChangeKind.FRESHNESS,
            live.freshness_seconds,
            wanted.freshness_seconds,
            _promise_text("promise freshness of", wanted.freshness_seconds, "no freshness promise"),
        )
        self._labels(live.labels, wanted.labels)
        if (live.message, live.fingerprint) != (wanted.message, wanted.fingerprint):
            self.changes.append(
                Change(
                    ChangeKind.MESSAGE,
                    "",
                    f"{live.message} [{live.fingerprint}]",
                    f"{wanted.message} [{wanted.fingerprint}]",
                    f"read events as {wanted.message} [{wanted.fingerprint}]",
                )
            )

    def _partitioning(self, live: Partitioning | None, wanted: Partitioning | None) -> None:
        if live is None or wanted is None:
            if live is not wanted:
                self._refuse_partitioning(live, wanted)
            return
        if (live.granularity, live.column) != (wanted.granularity, wanted.column):
            self._refuse_partitioning(live, wanted)
        self._value(
            ChangeKind.EXPIRATION,
            live.expiration_seconds,
            wanted.expiration_seconds,
            _promise_text("expire partitions after", wanted.expiration_seconds, "expire nothing"),
        )

    def _refuse_partitioning(self, live: Partitioning | None, wanted: Partitioning | None) -> None:
        self.refusals.append(
            Refusal(
                "",
                f"the table is {_partitioning_text(live)}; it cannot become"
                f" {_partitioning_text(wanted)}",
                "keep the partitioning, or make a table under another name",
            )
        )

    def _labels(self, live: Mapping[str, str], wanted: Mapping[str, str]) -> None:
        for key in sorted({*live, *wanted}):
            before, after = live.get(key), wanted.get(key)
            if before != after:
                text = f"label {key}={after}" if after is not None else f"remove label {key}"
                self.changes.append(Change(ChangeKind.LABEL, "", {key: before}, {key: after}, text))


def _promise_text(what: str, seconds: float | None, nothing: str) -> str:
    return nothing if seconds is None else f"{what} {seconds:g} seconds"
