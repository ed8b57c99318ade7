"""What applying a definition would change on a live table: the plan, as a value.

A plan only ever adds, relaxes or describes. What else a definition asks for is refused, with
the reason and the way out; a plan with refusals is never carried out in part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from eventmill.schema.diff_wire import WireDiff, wire_diff
from eventmill.schema.document import columns_to_json
from eventmill.schema.message_type import MessageType
from eventmill.schema.places import Places
from eventmill.schema.plan import Change, ChangeKind, Plan, Refusal
from eventmill.schema.removed_fields import with_removed_fields
from eventmill.schema.rules import rules_by_place
from eventmill.schema.table import Column, ColumnType, Mode, Partitioning, Table, TableSpec

__all__ = ["Change", "ChangeKind", "Plan", "Refusal", "plan_change"]


def plan_change(live: Table | None, wanted: TableSpec) -> Plan:
    """Return what applying ``wanted`` on ``live`` would change, and what of it is refused.

    Args:
        live: the table as it is; None: there is none.
        wanted: the definition, of the same table.

    Raises:
        SchemaError: one of the two definitions does not hold together.
    """
    places = Places(wanted)
    if live is None:
        return Plan(None, wanted, wanted, tuple(_creation(wanted, places)))
    planner = _Planner(live.spec, wanted, places)
    columns = planner.level(live.spec.columns, wanted.columns, "")
    planner.without_columns()
    planner.table()
    changes, notes = tuple(planner.changes), tuple(planner.notes)
    if planner.refusals:
        return Plan(live, wanted, live.spec, changes, tuple(planner.refusals), notes)
    if not changes:
        return Plan(live, wanted, live.spec, notes=notes)
    remembered = with_removed_fields(wanted.descriptor_set, planner.wire.removed)
    result = replace(wanted, columns=columns, descriptor_set=remembered)
    return Plan(live, wanted, result, changes, (), notes)


def _creation(wanted: TableSpec, places: Places) -> Iterator[Change]:
    kept = _partitioning_text(wanted.partitioning)
    yield Change(
        ChangeKind.CREATE,
        "",
        None,
        str(wanted.table),
        f"create {wanted.table}, {kept}",
        places.of(wanted.message),
    )
    for path, column in wanted.walk():
        yield _addition(path, column, places)


def _addition(path: str, column: Column, places: Places) -> Change:
    return Change(
        ChangeKind.ADD_COLUMN,
        path,
        None,
        columns_to_json([column])[0],
        f"add column {path} {_type_text(column)}",
        places.of_column(path),
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

    def __init__(self, live: TableSpec, wanted: TableSpec, places: Places) -> None:
        self.changes: list[Change] = []
        self.refusals: list[Refusal] = []
        self.notes: list[str] = []
        self.wire: WireDiff = wire_diff(live, wanted, places)
        self._live = live
        self._wanted = wanted
        self._places = places

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
                self._refuse(
                    path,
                    f"the live column is written {before.name}, and names differ in more than case",
                    f"keep the name {before.name} in the .proto",
                )
            else:
                result.append(self._compared(path, before, column))
        kept = [self._kept(f"{prefix}{column.name}", column) for column in by_name.values()]
        return tuple(result + kept)

    def _refuse(self, path: str, reason: str, way_out: str) -> None:
        """Refuse a column, for one reason: that of the column goes before that of the wire."""
        self.wire.faults.pop(path, None)
        place = self._places.of_column(path)
        self.refusals.append(Refusal(path, reason, way_out, place))

    def _refuse_on_wire(self, path: str) -> None:
        fault = self.wire.faults.pop(path, None)
        if fault is not None:
            self.refusals.append(Refusal(path, fault.reason, fault.way_out, fault.place))

    def _added(self, path: str, column: Column) -> Column:
        count = len(self.refusals)
        self._refuse_on_wire(path)
        if len(self.refusals) == count and column.mode is Mode.REQUIRED:
            self._refuse(
                path,
                "a REQUIRED column cannot be added to a table that has rows without it",
                "make the field optional",
            )
        if len(self.refusals) == count:
            # Columns below a new RECORD come with it, and each is said.
            for below, one in column.walk(path.removesuffix(column.name)):
                self.changes.append(_addition(below, one, self._places))
        return column

    def _kept(self, path: str, column: Column) -> Column:
        if path not in self.wire.succeeded:
            todo = self.wire.reserve.pop(path, "")
            self.notes.append(
                f"{path} is no longer in the .proto: kept, NULL where an event lacks it"
                + (f"; {todo}, so that nobody uses them again" if todo else "")
            )
        if column.mode is not Mode.REQUIRED:
            return column
        self._relaxed(path, column)
        return replace(column, mode=Mode.NULLABLE)

    def without_columns(self) -> None:
        """Tell what the wire has and no column shows, such as what stands in documents."""
        for path in list(self.wire.faults):
            self._refuse_on_wire(path)
        self.notes += [
            f"{path} is no longer in the .proto: {todo}, so that nobody uses them again"
            for path, todo in self.wire.reserve.items()
            if todo
        ]
        self.notes += self.wire.notes

    def _compared(self, path: str, live: Column, wanted: Column) -> Column:
        if live.type is not wanted.type:
            self._refuse(
                path,
                f"its type would change from {live.type} to {wanted.type}",
                f"keep {live.type}, or add a field with another name and number",
            )
            return wanted
        if (live.mode is Mode.REPEATED) is not (wanted.mode is Mode.REPEATED):
            self._refuse(
                path,
                f"its mode would change from {live.mode} to {wanted.mode}",
                f"keep {live.mode}, or add a field with another name and number",
            )
            return wanted
        if live.mode is Mode.NULLABLE and wanted.mode is Mode.REQUIRED:
            self._refuse(
                path,
                "its mode would be tightened from NULLABLE to REQUIRED",
                "keep the field optional",
            )
        elif live.mode is Mode.REQUIRED and wanted.mode is Mode.NULLABLE:
            self._relaxed(path, live)
        self._refuse_on_wire(path)
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
                self._places.of_column(path),
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
            place = self._places.of_column(path)
            self.changes.append(Change(kind, path, before or None, after or None, text, place))

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
        self._rules()
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

    def _rules(self) -> None:
        before, after = (
            rules_by_place(MessageType.load(spec.descriptor_set, spec.message))
            for spec in (self._live, self._wanted)
        )
        for name in sorted({*before, *after}):
            if before.get(name) == after.get(name):
                continue
            what = "new" if name not in before else "other" if name in after else "no more"
            self.changes.append(
                Change(
                    ChangeKind.RULES,
                    "",
                    name if name in before else None,
                    name if name in after else None,
                    f"hold events to {what} rules of {name}",
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
        reason = (
            f"the table is {_partitioning_text(live)}; it cannot become"
            f" {_partitioning_text(wanted)}"
        )
        way_out = "keep the partitioning, or make a table under another name"
        self.refusals.append(Refusal("", reason, way_out, self._places.of_table_options()))

    def _labels(self, live: Mapping[str, str], wanted: Mapping[str, str]) -> None:
        for key in sorted({*live, *wanted}):
            before, after = live.get(key), wanted.get(key)
            if before != after:
                text = f"label {key}={after}" if after is not None else f"remove label {key}"
                self.changes.append(Change(ChangeKind.LABEL, "", {key: before}, {key: after}, text))


def _promise_text(what: str, seconds: float | None, nothing: str) -> str:
    return nothing if seconds is None else f"{what} {seconds:g} seconds"
