"""What two definitions of a table mean on the wire: which bytes the later one reads otherwise.

Events that were encoded with the earlier definition are in logs and spools when the later one
is applied; a field that would read them differently must be found though its column looks the
same. Numbers that were given up earlier count too, by the record of removed fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.descriptor import Descriptor

from eventmill.schema.diff_enums import enum_diff
from eventmill.schema.message_type import MessageType
from eventmill.schema.places import Places
from eventmill.schema.removed_fields import Removed, removed_fields
from eventmill.schema.table import Column, ColumnType, TableSpec
from eventmill.schema.wire_fields import WireField, misreading, wire_field

_ANOTHER = "add a field with another name and number"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a field cannot be as the later definition has it, where, and the way out."""

    reason: str
    way_out: str
    place: str


@dataclass(slots=True)
class WireDiff:
    """What differs between the fields of two definitions, by dotted path."""

    faults: dict[str, Fault] = field(default_factory=dict)
    """Fields that would read or leave events under way wrongly."""
    succeeded: set[str] = field(default_factory=set)
    """Paths of removed fields whose number another field takes, which is a fault of that one."""
    reserve: dict[str, str] = field(default_factory=dict)
    """What to write for each removed field; empty: its number and name are reserved."""
    notes: list[str] = field(default_factory=list)
    """Changes that read earlier events alike and are worth knowing."""
    removed: Removed = field(default_factory=Removed)
    """The record that the table has once the later definition is applied."""


def wire_diff(live: TableSpec, wanted: TableSpec, places: Places) -> WireDiff:
    """Compare the message types of two definitions.

    Args:
        live: the definition that the table has, with its record of removed fields.
        wanted: the definition that it should get.
        places: of ``wanted``.

    Raises:
        SchemaError: a descriptor set does not have the message, or its record is damaged.
    """
    before, after = (
        MessageType.load(spec.descriptor_set, spec.message).descriptor for spec in (live, wanted)
    )
    comparison = _Comparison(dict(live.walk()), dict(wanted.walk()), places)
    found = comparison.found
    found.removed = comparison.level(before, removed_fields(live.descriptor_set), after, "")
    if before.full_name != after.full_name:
        comparison.say_moved("the table", before.full_name, after.full_name)
    found.notes = list(dict.fromkeys(found.notes))
    return found


class _Comparison:
    """Walks both message types from their roots down, along the fields of the same name."""

    def __init__(
        self, live: Mapping[str, Column], wanted: Mapping[str, Column], places: Places
    ) -> None:
        self.found = WireDiff()
        self._live = live
        self._wanted = wanted
        self._places = places
        # Below documents there are no columns that bound the depth: a pair is compared once.
        self._documents: set[tuple[str, str]] = set()

    def level(
        self, live: Descriptor | None, gone: Removed, after: Descriptor, prefix: str
    ) -> Removed:
        """Compare one level and return what the later definition lacks of it.

        Args:
            live: the earlier message; None: the level is known from the record alone.
            gone: the record of this level.
            after: the later message.
            prefix: path of the level, with a dot at its end unless empty.
        """
        before = {**gone.fields, **_fields_of(live)}
        now = _fields_of(after)
        users = {one.number: one for one in before.values()}
        used = {one.number for one in (*before.values(), *now.values())}
        removed = Removed()
        for name, one in now.items():
            path = f"{prefix}{name}"
            old = before.get(name)
            if old is None:
                user = users.get(one.number)
                if user is not None:
                    free = self._places.free_number(after.full_name, used)
                    self._used(path, one, user, user.name in now, free)
            elif old.number != one.number:
                self._renumbered(path, old, one, users.get(one.number))
            else:
                self._same_number(path, old, one, gone, removed)
        self._oneofs(before, now, prefix)
        for name, old in before.items():
            if name not in now:
                self._removed(f"{prefix}{name}", old, gone, after, removed)
        return removed

    def say_moved(self, what: str, before: str, after: str) -> None:
        """Note that the same bytes are now of a message with another name."""
        self.found.notes.append(
            f"{what} is of message {after} now, of {before} before: bytes do not name their"
            " message, so that earlier events are read alike"
        )

    def _fault(self, path: str, at: str, reason: str, way_out: str) -> None:
        self.found.faults.setdefault(path, Fault(reason, way_out, self._places.of(at)))

    def _used(
        self, path: str, one: WireField, user: WireField, is_moved: bool, free: int | None
    ) -> None:
        """Refuse a new field whose number was another's."""
        number = "an unused number" if free is None else f"the number {free}"
        holder = one.full_name.rpartition(".")[0]
        if not is_moved:
            self.found.succeeded.add(f"{path.removesuffix(one.name)}{user.name}")
        if is_moved or not user.full_name or misreading(user, one):
            was = "was" if is_moved or user.full_name else "was, before it was removed,"
            self._fault(
                path,
                one.full_name,
                f"its number {one.number} {was} that of {user.name} ({user.type_text}), and events"
                f" under way would be read as {one.name}",
                f"give {one.name} {number}"
                + self._and_reserve(holder, one.number, user.name, is_moved),
            )
            return
        self._fault(
            path,
            one.full_name,
            f"the field was renamed from {user.name} and kept its number {one.number}, so that"
            " events under way would change columns",
            f"keep the name {user.name}; or, to have both columns, give {one.name} {number}"
            + self._and_reserve(holder, one.number, user.name, False),
        )

    def _and_reserve(self, message: str, number: int, name: str, is_moved: bool) -> str:
        line = "" if is_moved else self._places.reserve(message, number, name)
        return f" and write `{line}`" if line else ""

    def _renumbered(
        self, path: str, old: WireField, one: WireField, user: WireField | None
    ) -> None:
        other = f", which was that of {user.name}" if user is not None else ""
        self._fault(
            path,
            one.full_name,
            f"its number would change from {old.number} to {one.number}{other}, and events under"
            " way would lose it",
            f"put the number {old.number} back, or {_ANOTHER}",
        )

    def _same_number(
        self, path: str, old: WireField, one: WireField, gone: Removed, removed: Removed
    ) -> None:
        reason = misreading(old, one)
        if reason:
            back = f"put {old.type_text} back" if old.type_text != one.type_text else "put it back"
            self._fault(path, one.full_name, reason, f"{back}, or {_ANOTHER}")
            return
        if old.values and one.values:
            self._enum(path, old, one, gone, removed)
        self._alike(path, old, one)
        if one.is_own_message and one.message is not None:
            below = gone.below.get(one.name, Removed())
            removed.below[one.name] = self._below(path, old, below, one.message)

    def _enum(
        self, path: str, old: WireField, one: WireField, gone: Removed, removed: Removed
    ) -> None:
        column = self._wanted.get(path)
        # Without a column of its own the field stands in a JSON document, by name.
        is_text = column is None or column.type is not ColumnType.INTEGER
        earlier = gone.values.get(one.name, ())
        found = enum_diff(old, one, earlier, self._places, is_text=is_text)
        self.found.notes += found.notes
        if found.removed:
            removed.values[one.name] = tuple(found.removed.items())
        if found.fault is not None:
            self._fault(path, found.fault.value, found.fault.reason, found.fault.way_out)

    def _below(self, path: str, old: WireField, gone: Removed, after: Descriptor) -> Removed:
        column = self._wanted.get(path)
        pair = (old.type_name, after.full_name)
        if column is None or not column.fields:
            if pair in self._documents:
                return gone
            self._documents.add(pair)
        count = len(self.found.faults)
        removed = self.level(old.message, gone, after, f"{path}.")
        if old.type_name != after.full_name and len(self.found.faults) == count:
            self._moved(path, old, after)
        return removed

    def _moved(self, path: str, old: WireField, after: Descriptor) -> None:
        is_map = after.GetOptions().map_entry
        if old.is_map and not is_map:
            self.found.notes.append(
                f"{path} was a map and is a list of {after.full_name}: earlier events are read"
                " alike, and a key may stand in it more than once from now on"
            )
        elif is_map and not old.is_map:
            self.found.notes.append(
                f"{path} was a list of {old.type_name} and is a map: earlier events are read, and"
                " of entries with the same key only the last counts"
            )
        elif not is_map:
            self.say_moved(path, old.type_name, after.full_name)

    def _alike(self, path: str, old: WireField, one: WireField) -> None:
        """Note what changes though earlier events are read alike."""
        if old.type != one.type:
            self.found.notes.append(
                f"{path} is {one.type_text} now, {old.type_text} before: every earlier value is"
                " read alike"
            )
        if old.is_repeated or old.has_presence == one.has_presence or one.is_own_message:
            return
        if one.has_presence:
            told = "has presence now: where an event does not set it, new rows hold NULL, not {}"
        else:
            told = "has no presence any more: where an event does not set it, new rows hold {}"
            told += ", not NULL"
        self.found.notes.append(f"{path} {told.format(one.unset_text)}")

    def _oneofs(
        self, before: Mapping[str, WireField], now: Mapping[str, WireField], prefix: str
    ) -> None:
        """Refuse to make fields exclude each other that could both be set before."""
        members: dict[str, list[WireField]] = {}
        for one in now.values():
            if one.oneof and one.name in before:
                members.setdefault(one.oneof, []).append(one)
        for oneof, fields in members.items():
            stayed = {before[one.name].oneof for one in fields} - {""}
            first = oneof if oneof in stayed else min(stayed, default="")
            kept = [one for one in fields if first and before[one.name].oneof == first]
            # A single field that was alone may become the first of its oneof.
            joined = [one for one in fields if one not in kept]
            if not kept:
                kept, joined = joined[:1], joined[1:]
            for one in joined:
                self._fault(
                    f"{prefix}{one.name}",
                    one.full_name,
                    f"it would join {kept[0].name} in the oneof {oneof}, and of an event under way"
                    " that has both only the last would be read",
                    f"leave it outside of {oneof}, or {_ANOTHER}",
                )

    def _removed(
        self, path: str, old: WireField, gone: Removed, after: Descriptor, removed: Removed
    ) -> None:
        removed.fields[old.name] = old
        below = gone.below.get(old.name, Removed())
        if old.message is not None and self._has_columns(path):
            below = self._all_of(old.message, below, path)
        if below:
            removed.below[old.name] = below
        if old.name in gone.values:
            removed.values[old.name] = gone.values[old.name]
        if path not in self.found.succeeded:
            line = self._places.reserve(after.full_name, old.number, old.name)
            where = self._places.of(after.full_name)
            at = f" ({where})" if where else ""
            self.found.reserve[path] = (
                f"write `{line}` in message {after.full_name}{at}" if line else ""
            )

    def _has_columns(self, path: str) -> bool:
        column = self._live.get(path)
        return column is not None and bool(column.fields)

    def _all_of(self, message: Descriptor, gone: Removed, path: str) -> Removed:
        """Return the record of a level that is gone as a whole."""
        fields = {**gone.fields, **_fields_of(message)}
        removed = Removed(fields, dict(gone.values))
        for name, one in fields.items():
            below = gone.below.get(name, Removed())
            if one.message is not None and self._has_columns(f"{path}.{name}"):
                below = self._all_of(one.message, below, f"{path}.{name}")
            if below:
                removed.below[name] = below
        return removed


def _fields_of(message: Descriptor | None) -> dict[str, WireField]:
    if message is None:
        return {}
    return {one.name: wire_field(one) for one in message.fields}
