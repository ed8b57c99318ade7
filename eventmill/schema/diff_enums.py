"""What two definitions of an enum mean for stored rows, which hold names, and for events.

Removing a value is a note: rows keep its name. What changes the meaning of a number, or the
name that rows hold for it, is a fault.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from eventmill.schema.places import Places
from eventmill.schema.wire_fields import WireField

_Values = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class EnumFault:
    """What of an enum cannot be as the later definition has it."""

    value: str
    """Full name of the value, the enum's first."""
    reason: str
    way_out: str


@dataclass(slots=True)
class EnumDiff:
    """What differs between the enums of a field."""

    fault: EnumFault | None = None
    """The first one; None: the later definition can be applied."""
    removed: dict[str, int] = field(default_factory=dict)
    """Values that were there once and are no more."""
    notes: list[str] = field(default_factory=list)


def enum_diff(
    old: WireField, one: WireField, gone: _Values, places: Places, *, is_text: bool
) -> EnumDiff:
    """Compare the enums of a field before and after.

    Args:
        old: the field as it was.
        one: the field as it should be.
        gone: values that were removed earlier, as (name, number).
        places: of the later definition.
        is_text: whether rows hold names; otherwise they hold numbers.
    """
    found = EnumDiff()
    enum = one.type_name
    now, names = dict(one.values), _stored_names(one.values)
    was, stored = dict((*gone, *old.values)), _stored_names((*old.values, *gone))
    for name, number in was.items():
        other = names.get(number)
        if now.get(name, number) != number:
            fault = _renumbered(enum, name, number, now[name])
        elif other is None:
            found.removed[name] = number
            found.notes.append(_removal_text(one, name, number, places))
            continue
        elif stored[number] != name:
            if name not in now:
                found.notes.append(f"enum {enum} has no second name {name} for {number} any more")
            continue
        elif other == name:
            continue
        elif not is_text:
            found.notes.append(
                f"number {number} of enum {enum} is {other} now, {name} before: the column holds"
                " numbers"
            )
            continue
        else:
            fault = _renamed(enum, name, number, other, is_kept=name in now)
        found.fault = found.fault or fault
    return found


def _renumbered(enum: str, name: str, before: int, after: int) -> EnumFault:
    return EnumFault(
        f"{enum}.{name}",
        f"value {name} of enum {enum} would change its number from {before} to {after}, and"
        " events under way would be read as another value",
        f"put {name} = {before} back, or add a value with another name and number",
    )


def _renamed(enum: str, name: str, number: int, other: str, *, is_kept: bool) -> EnumFault:
    return EnumFault(
        f"{enum}.{other}",
        f"number {number} of enum {enum} was {name} and would be {other}: rows hold names, and"
        f" events under way that mean {name} would be stored as {other}",
        f"write {name} before {other}: of two names, rows hold the first"
        if is_kept
        else f"put {name} = {number} back, and give {other} another number",
    )


def _removal_text(one: WireField, name: str, number: int, places: Places) -> str:
    line = places.reserve(one.type_name, number, name)
    place = places.of(one.type_name)
    at = f" ({place})" if place else ""
    todo = f"; write `{line}` in the enum{at}" if line else ""
    read = "is read as not set" if one.is_closed else f'is stored as "{number}"'
    return (
        f"value {name} ({number}) of enum {one.type_name} is no longer in the .proto: rows keep"
        f" the name, and where an event still has it the field {read}{todo}"
    )


def _stored_names(values: _Values) -> dict[int, str]:
    """Return the name that rows hold for each number: the first one that is declared."""
    names: dict[int, str] = {}
    for name, number in values:
        names.setdefault(number, name)
    return names
