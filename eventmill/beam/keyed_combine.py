"""Rows in, one row a key out, whatever the order in which they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any

import apache_beam as beam

from eventmill.beam.counters import Counters
from eventmill.beam.dead_letters import Row, with_dead_letters

_KEY_TYPES = (str, int, bytes, bool, type(None))
Key = tuple[Any, ...]


class KeyedCombine(beam.PTransform):
    """Base class: ``rows, dead = events | MyCombine()``.

    A subclass says what the key is and how rows of one key become one. ``merge`` is commutative
    and associative, ``zero()`` its identity, and ``add(a, v)`` the same as ``merge(a, add(zero(),
    v))``: then the output does not depend on the order of the input, nor on how a runner cuts it
    up. ``check_merge_laws`` tests that.
    """

    def key(self, row: Row) -> Key | None:
        """Return the key: a tuple of strings, whole numbers, bytes, booleans and None.

        None in its place means that the row is skipped, and counted.
        """
        raise NotImplementedError

    def value(self, row: Row) -> Any:  # noqa: ANN401 - the subclass's
        """Return what of the row is combined."""
        return row

    def zero(self) -> Any:  # noqa: ANN401 - the subclass's
        """Return the accumulator of nothing: a plain value that can be pickled and compared."""
        raise NotImplementedError

    def add(self, accumulator: Any, value: Any) -> Any:  # noqa: ANN401 - as above
        """Return the accumulator with one more value; it may be the same object, changed."""
        raise NotImplementedError

    def merge(self, one: Any, other: Any) -> Any:  # noqa: ANN401 - as above
        """Return the accumulator of both; it may be ``one``, changed. ``other`` stays."""
        raise NotImplementedError

    def result(self, key: Key, accumulator: Any) -> Row | None:  # noqa: ANN401 - as above
        """Return the output row; None: the key is incomplete, dropped and counted."""
        raise NotImplementedError

    def expand(self, rows: beam.PCollection) -> tuple[beam.PCollection, beam.PCollection]:
        """Combine ``rows``; return the output and the dead letters."""
        name = type(self).__name__
        keyed, refused = rows | with_dead_letters(_Extract(self), step=f"{name}.key")
        combined = keyed | "Combine" >> beam.CombinePerKey(_Accumulate(self))
        out, failed = combined | with_dead_letters(_Finish(self), step=f"{name}.result")
        dead = (refused, failed) | "Dead letters" >> beam.Flatten()
        return out, dead


class _Extract(beam.DoFn):
    """Rows become pairs of key and value."""

    def __init__(self, combine: KeyedCombine) -> None:
        self._combine = combine
        self._counters = Counters()

    def process(self, row: Row) -> Iterator[tuple[Key, Any]]:
        """Yield the pair of one row, or nothing for a row without a key."""
        key = self._combine.key(row)
        if key is None:
            self._counters.skipped()
            return
        # Anything else has no bytes of which two workers make the same.
        if not isinstance(key, tuple) or not all(type(part) in _KEY_TYPES for part in key):
            raise TypeError(
                f"the key {key!r} is not a tuple of strings, whole numbers, bytes, booleans and"
                " None"
            )
        yield key, self._combine.value(row)


class _Accumulate(beam.CombineFn):
    """A ``KeyedCombine`` in Beam's words."""

    def __init__(self, combine: KeyedCombine) -> None:
        self._combine = combine

    def create_accumulator(self) -> Any:  # noqa: ANN401 - the subclass's
        return self._combine.zero()

    def add_input(self, accumulator: Any, value: Any) -> Any:  # noqa: ANN401 - as above
        return self._combine.add(accumulator, value)

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:  # noqa: ANN401 - as above
        return reduce(self._combine.merge, accumulators, self._combine.zero())

    def extract_output(self, accumulator: Any) -> Any:  # noqa: ANN401 - as above
        return accumulator


class _Finish(beam.DoFn):
    """Pairs of key and accumulator become output rows."""

    def __init__(self, combine: KeyedCombine) -> None:
        self._combine = combine
        self._counters = Counters()

    def process(self, keyed: tuple[Key, Any]) -> Iterator[Row]:
        """Yield the row of one key, or nothing when it is incomplete."""
        row = self._combine.result(*keyed)
        if row is None:
            self._counters.dropped()
        else:
            yield row
