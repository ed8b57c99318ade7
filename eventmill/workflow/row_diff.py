"""Rows that were expected against rows that came: as multisets, told column by column."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from eventmill.wire.rows_text import json_value

Row = Mapping[str, Any]
_TOLD_MAX = 20
"""Rows that are told of: nobody mends more than these in one go."""
_VALUE_CHARACTERS_MAX = 200
_PAIRS_MAX = 250_000
"""Pairs of rows that are compared to find the nearest; beyond it rows are told singly."""


@dataclass(frozen=True, slots=True)
class RowDiff:
    """What differs; nothing when the rows are the same, in whatever order."""

    pairs: tuple[tuple[int, int, tuple[str, ...]], ...]
    """An expected row, the row that came in its place, and the columns in which they differ."""
    missing: tuple[int, ...]
    """Expected rows that did not come."""
    extra: tuple[int, ...]
    """Rows that came and were not expected."""

    def __bool__(self) -> bool:
        return bool(self.pairs or self.missing or self.extra)


def compare_rows(
    expected: Sequence[Row],
    actual: Sequence[Row],
    columns: Sequence[str],
    *,
    float_tolerance: float,
) -> RowDiff:
    """Compare rows in ``columns``, whatever their order; a row that is twice must be there twice.

    Args:
        expected: rows.
        actual: rows; every column has the same type in both.
        columns: the columns that count.
        float_tolerance: how far floats may be from each other, as a part of the larger one, and
            at nought as it is. NaN is equal to NaN.
    """
    left, right = _without_equals(expected, actual, columns)
    left, right = _without_near(expected, actual, left, right, columns, float_tolerance)
    pairs = _nearest(expected, actual, left, right, columns, float_tolerance)
    paired_left = {pair[0] for pair in pairs}
    paired_right = {pair[1] for pair in pairs}
    return RowDiff(
        pairs=tuple(sorted(pairs)),
        missing=tuple(place for place in left if place not in paired_left),
        extra=tuple(place for place in right if place not in paired_right),
    )


def diff_text(
    diff: RowDiff, expected: Sequence[Row], actual: Sequence[Row], columns: Sequence[str]
) -> str:
    """Return what differs for a person: each pair column by column, then single rows."""
    counts = (
        (len(diff.pairs), "with other values"),
        (len(diff.missing), "missing"),
        (len(diff.extra), "not expected"),
    )
    lines = [f"rows: {', '.join(f'{count} {what}' for count, what in counts if count)}"]
    told: list[list[str]] = []
    for left, right, names in diff.pairs:
        width = max(map(len, names))
        told.append([f"expect[{left}] came with other values:"])
        told[-1] += [
            f"  {name:<{width}}  expected {_value(expected[left][name])},"
            f" got {_value(actual[right][name])}"
            for name in names
        ]
        same = [name for name in columns if name not in names]
        told[-1].append(f"  the same: {_row(actual[right], same)}")
    told += [[f"expect[{place}] is missing: {_row(expected[place], columns)}"]
             for place in diff.missing]  # fmt: skip
    told += [[f"not expected: {_row(actual[place], columns)}"] for place in diff.extra]
    for one in told[:_TOLD_MAX]:
        lines += one
    if len(told) > _TOLD_MAX:
        lines.append(f"and {len(told) - _TOLD_MAX} rows more")
    return "\n".join(lines)


def _row(row: Row, columns: Iterable[str]) -> str:
    return ", ".join(f"{name}={_value(row[name])}" for name in columns)


def _value(value: object) -> str:
    if value is None:
        return "NULL"
    text = orjson.dumps(json_value(value)).decode()
    if len(text) > _VALUE_CHARACTERS_MAX:
        return f"{text[:_VALUE_CHARACTERS_MAX]}... ({len(text)} characters)"
    return text


def _without_equals(
    expected: Sequence[Row], actual: Sequence[Row], columns: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Return the places of rows that have no equal one on the other side."""
    keys = [_key([row[name] for name in columns]) for row in actual]
    there = Counter(keys)
    left = []
    taken: Counter[Hashable] = Counter()
    for place, row in enumerate(expected):
        key = _key([row[name] for name in columns])
        if there[key] > taken[key]:
            taken[key] += 1
        else:
            left.append(place)
    right = []
    for place, key in enumerate(keys):
        if taken[key]:
            taken[key] -= 1
        else:
            right.append(place)
    return left, right


def _without_near(
    expected: Sequence[Row],
    actual: Sequence[Row],
    left: list[int],
    right: list[int],
    columns: Sequence[str],
    tolerance: float,
) -> tuple[list[int], list[int]]:
    """Take away pairs that are equal within the tolerance; they are alike but for floats."""
    groups: dict[Hashable, list[int]] = {}
    for place in right:
        groups.setdefault(_key([actual[place][name] for name in columns], False), []).append(place)
    rest = []
    gone = set()
    for place in left:
        row = expected[place]
        group = groups.get(_key([row[name] for name in columns], False), [])
        for other in group:
            if not _differing(row, actual[other], columns, tolerance):
                group.remove(other)
                gone.add(other)
                break
        else:
            rest.append(place)
    return rest, [place for place in right if place not in gone]


def _nearest(
    expected: Sequence[Row],
    actual: Sequence[Row],
    left: Sequence[int],
    right: Sequence[int],
    columns: Sequence[str],
    tolerance: float,
) -> list[tuple[int, int, tuple[str, ...]]]:
    """Pair rows that have at least half of their columns in common, the most alike first."""
    if len(left) * len(right) > _PAIRS_MAX:
        return []
    candidates = [
        (len(names), one, other, names)
        for one in left
        for other in right
        if len(names := _differing(expected[one], actual[other], columns, tolerance)) * 2
        <= len(columns)
    ]
    pairs: list[tuple[int, int, tuple[str, ...]]] = []
    for _, one, other, names in sorted(candidates):
        if all(one != pair[0] and other != pair[1] for pair in pairs):
            pairs.append((one, other, names))
    return pairs


def _differing(
    first: Row, second: Row, columns: Sequence[str], tolerance: float
) -> tuple[str, ...]:
    return tuple(name for name in columns if not _same(first[name], second[name], tolerance))


def _same(first: object, second: object, tolerance: float) -> bool:
    if isinstance(first, float) and isinstance(second, float):
        if math.isnan(first) or math.isnan(second):
            return math.isnan(first) and math.isnan(second)
        return math.isclose(first, second, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(
            _same(first[key], second[key], tolerance) for key in first
        )
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(
            _same(one, other, tolerance) for one, other in zip(first, second, strict=True)
        )
    return type(first) is type(second) and first == second


def _key(value: object, with_floats: bool = True) -> Hashable:
    """Return what equal values have in common; without floats, also those that differ in them."""
    if isinstance(value, float):
        return ("float", repr(value + 0.0) if with_floats else "")  # -0.0 is 0.0
    if isinstance(value, Mapping):
        return tuple((key, _key(below, with_floats)) for key, below in sorted(value.items()))
    if isinstance(value, list):
        return tuple(_key(below, with_floats) for below in value)
    return (type(value).__name__, str(value))
