"""For tests: the laws by which the result of a combine does not depend on the input's order."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from itertools import product
from typing import Any, Protocol

_ACCUMULATORS_MAX = 6
"""Triples grow with the cube."""


class Mergeable(Protocol):
    """A ``KeyedCombine`` or a ``Fold``."""

    def zero(self) -> Any:  # noqa: ANN401 - an accumulator of any kind
        """Return the accumulator of nothing."""
        ...

    def add(self, accumulator: Any, value: Any) -> Any:  # noqa: ANN401 - as above
        """Return the accumulator with one more value."""
        ...

    def merge(self, one: Any, other: Any) -> Any:  # noqa: ANN401 - as above
        """Return the accumulator of both."""
        ...


def check_merge_laws(combine: Mergeable, values: Sequence[Any]) -> None:
    """Raise unless merging is commutative, associative, has its identity, and agrees with adding.

    Args:
        combine: a ``KeyedCombine`` or a ``Fold``.
        values: what ``add`` takes; for a ``KeyedCombine`` what ``value(row)`` returns. Five
            say as much as a thousand: let hypothesis choose them.

    Raises:
        AssertionError: a law is broken; the message says which, and with which accumulators.
    """
    zero = combine.zero
    packed = [pickle.dumps(zero()), *(pickle.dumps(combine.add(zero(), v)) for v in values)]
    packed = packed[:_ACCUMULATORS_MAX]

    def merged(one: bytes, other: bytes) -> Any:  # noqa: ANN401 - as above
        # Copies: merge may change its first argument.
        return combine.merge(_copy(one), _copy(other))

    for one in packed:
        plain = _copy(one)
        told = f"with {plain!r}"
        _same(combine.merge(zero(), _copy(one)), plain, "zero() is no identity", told)
        _same(combine.merge(_copy(one), zero()), plain, "zero() is no identity", told)
        for value in values:
            added = combine.add(_copy(one), value)
            alone = pickle.dumps(combine.add(zero(), value))
            _same(added, merged(one, alone), "add differs from merge", f"{told} and {value!r}")
    for one, other in product(packed, repeat=2):
        told = f"with {_copy(one)!r} and {_copy(other)!r}"
        _same(merged(one, other), merged(other, one), "merge is not commutative", told)
    for one, two, three in product(packed, repeat=3):
        left = merged(pickle.dumps(merged(one, two)), three)
        right = merged(one, pickle.dumps(merged(two, three)))
        told = " and ".join(f"{_copy(part)!r}" for part in (one, two, three))
        _same(left, right, "merge is not associative", f"with {told}")


def _copy(packed: bytes) -> Any:  # noqa: ANN401 - as above
    return pickle.loads(packed)  # noqa: S301 - made above


def _same(one: object, other: object, law: str, where: str) -> None:
    if one != other or repr(type(one)) != repr(type(other)):
        raise AssertionError(f"{law} {where}: {one!r} is not {other!r}")
