"""Ways in which many values of one column become one, none of which depends on their order.

Accumulators are plain values that can be pickled and compared; None is left out everywhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any


class Fold:
    """Base class. ``merge`` is commutative and associative, and ``zero()`` its identity."""

    def zero(self) -> Any:  # noqa: ANN401 - each fold has its own accumulator
        """Return the accumulator of nothing."""
        return None

    def of(self, value: Any) -> Any:  # noqa: ANN401 - as above
        """Return the accumulator of one value; ValueError or TypeError when it cannot be one."""
        raise NotImplementedError

    def merge(self, one: Any, other: Any) -> Any:  # noqa: ANN401 - as above
        """Return the accumulator of both."""
        raise NotImplementedError

    def result(self, accumulator: Any) -> Any:  # noqa: ANN401 - as above
        """Return the output value."""
        return accumulator

    def add(self, accumulator: Any, value: Any) -> Any:  # noqa: ANN401 - as above
        """Return the accumulator with one more value."""
        return self.merge(accumulator, self.of(value))


class Smallest(Fold):
    """The smallest value; None without any."""

    def of(self, value: Any) -> Any:  # noqa: ANN401 - as above
        """Return the value; ValueError when it is not a number."""
        return _comparable(value)

    def merge(self, one: Any, other: Any) -> Any:  # noqa: ANN401 - as above
        """Return the smaller one."""
        if one is None or other is None:
            return other if one is None else one
        return min(one, other) if one != other else min(one, other, key=_form)


class Largest(Smallest):
    """The largest value; None without any."""

    def merge(self, one: Any, other: Any) -> Any:  # noqa: ANN401 - as above
        """Return the larger one."""
        if one is None or other is None:
            return other if one is None else one
        return max(one, other) if one != other else max(one, other, key=_form)


class Count(Fold):
    """How many there were, whatever they are."""

    def zero(self) -> int:
        """Return 0."""
        return 0

    def of(self, value: Any) -> int:  # noqa: ANN401 - anything counts
        """Return 1."""
        return 1

    def merge(self, one: int, other: int) -> int:
        """Return the sum."""
        return one + other


class Total(Fold):
    """The sum, exact whatever the order: floats are summed as fractions."""

    def zero(self) -> int:
        """Return 0."""
        return 0

    def of(self, value: Any) -> int | Fraction:  # noqa: ANN401 - judged here
        """Return the number; TypeError or ValueError when it is none, or not finite."""
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
            raise TypeError(f"{value!r} is no number to be summed")
        if isinstance(value, int):
            return value
        if not math.isfinite(value):
            raise ValueError(f"{value!r} cannot be summed: it is not finite")
        return Fraction(value)

    def merge(self, one: int | Fraction, other: int | Fraction) -> int | Fraction:
        """Return the sum."""
        return one + other

    def result(self, accumulator: int | Fraction) -> int | float:
        """Return the sum: whole when all numbers were; ValueError beyond what a float holds."""
        if isinstance(accumulator, int):
            return accumulator
        try:
            return float(accumulator)
        except OverflowError:
            raise ValueError("has a sum that is too large for a float") from None


class AnyTrue(Fold):
    """Whether one of the values was true."""

    def zero(self) -> bool:
        """Return False."""
        return False

    def of(self, value: Any) -> bool:  # noqa: ANN401 - any value is true or not
        """Return whether the value is true."""
        return bool(value)

    def merge(self, one: bool, other: bool) -> bool:
        """Return whether one of them is true."""
        return one or other


class Union(Fold):
    """The different values of all lists, sorted; an empty list without any."""

    def zero(self) -> frozenset[tuple[str, Any]]:
        """Return the empty set."""
        return frozenset()

    def of(self, value: Iterable[Any] | None) -> frozenset[tuple[str, Any]]:
        """Return the set of the list's values; TypeError when it is no list."""
        if isinstance(value, (str, bytes)):
            raise TypeError(f"{value!r} is no list")
        # With the type: 1, 1.0 and True are one to a set, and which stays would be chance.
        found = (_comparable(one) for one in value or () if one is not None)
        return frozenset((type(one).__name__, one) for one in found)

    def merge(
        self, one: frozenset[tuple[str, Any]], other: frozenset[tuple[str, Any]]
    ) -> frozenset[tuple[str, Any]]:
        """Return the union."""
        return one | other

    def result(self, accumulator: frozenset[tuple[str, Any]]) -> list[Any]:
        """Return the sorted list."""
        return [value for _, value in sorted(accumulator, key=lambda pair: (pair[1], pair[0]))]


class OneValue(Fold):
    """The value that all have; more than one is an error of the key, and its dead letter."""

    def zero(self) -> tuple[tuple[str, Any], ...]:
        """Return the empty tuple."""
        return ()

    def of(self, value: Any) -> tuple[tuple[str, Any], ...]:  # noqa: ANN401 - anything
        """Return the value beside its text, by which values are told apart."""
        return () if value is None else ((_form(value), value),)

    def merge(
        self, one: tuple[tuple[str, Any], ...], other: tuple[tuple[str, Any], ...]
    ) -> tuple[tuple[str, Any], ...]:
        """Return the different ones, the two first: two are enough to tell that they differ."""
        return tuple(sorted({**dict(one), **dict(other)}.items(), key=_text_of)[:2])

    def result(self, accumulator: tuple[tuple[str, Any], ...]) -> Any:  # noqa: ANN401 - as given
        """Return the value; ValueError when there were several."""
        if len(accumulator) > 1:
            told = " and ".join(repr(value) for _, value in accumulator)
            raise ValueError(f"should be one value for all rows of a key, and there are {told}")
        return accumulator[0][1] if accumulator else None


class LatestValue(Fold):
    """The value of the latest time; None without any.

    Takes pairs (time, value). At equal times it is the value whose JSON text sorts last.
    """

    def of(self, value: Any) -> Any:  # noqa: ANN401 - a pair
        """Return the pair with the value's text; ValueError when it has no time."""
        if value is None or value[1] is None:
            return None
        if value[0] is None:
            raise ValueError(f"the value {value[1]!r} has no time")
        return _comparable(value[0]), _form(value[1]), value[1]

    def merge(self, one: Any, other: Any) -> Any:  # noqa: ANN401 - as above
        """Return the later one."""
        if one is None or other is None:
            return other if one is None else one
        return max(one, other, key=lambda pair: (pair[0], pair[1], _form(pair[0])))

    def result(self, accumulator: Any) -> Any:  # noqa: ANN401 - as above
        """Return the value."""
        return None if accumulator is None else accumulator[2]


def _comparable(value: Any) -> Any:  # noqa: ANN401 - any value
    if isinstance(value, (float, Decimal)) and math.isnan(value):
        raise ValueError("NaN is neither smaller nor larger than another number")
    return value


def _form(value: Any) -> str:  # noqa: ANN401 - any value
    """Return a text that differs for values that differ in anything, their type included."""
    return f"{json.dumps(value, sort_keys=True, default=repr)} {type(value).__name__}"


def _text_of(pair: tuple[str, Any]) -> str:
    return pair[0]
