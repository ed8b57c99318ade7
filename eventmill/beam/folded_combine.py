"""A keyed combine that is a table of folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from eventmill.beam.dead_letters import Row
from eventmill.beam.folds import Fold
from eventmill.beam.keyed_combine import Key, KeyedCombine


class FoldedCombine(KeyedCombine):
    """Base class: ``folds`` by name, ``key``, ``parts`` and, where wanted, ``row``.

    Accumulators are dicts with one entry for each fold that has been given something; order
    cannot matter, because it matters to none of the folds.
    """

    folds: ClassVar[Mapping[str, Fold]] = {}

    def parts(self, row: Row) -> Mapping[str, Any]:
        """Return what each fold is given of this row; one that is not named is given nothing."""
        raise NotImplementedError

    def row(self, key: Key, values: Mapping[str, Any]) -> Row | None:
        """Return the output row, made of the value of every fold; None drops the key."""
        return dict(values)

    def value(self, row: Row) -> dict[str, Any]:
        """Return the accumulators of one row, so that what cannot be folded is a dead letter."""
        found = {}
        for name, part in self.parts(row).items():
            fold = self.folds.get(name)
            if fold is None:
                raise KeyError(f"{name!r} is not among the folds: {', '.join(self.folds)}")
            try:
                found[name] = fold.of(part)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{name}: {error}") from error
        return found

    def zero(self) -> dict[str, Any]:
        """Return a dict without entries."""
        return {}

    def add(self, accumulator: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
        """Merge the accumulators of one row into those of others."""
        return self.merge(accumulator, value)

    def merge(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        """Merge fold by fold."""
        for name, accumulator in other.items():
            one[name] = (
                self.folds[name].merge(one[name], accumulator) if name in one else accumulator
            )
        return one

    def result(self, key: Key, accumulator: dict[str, Any]) -> Row | None:
        """Return the row of one key; ValueError when a fold has none for it."""
        values = {}
        for name, fold in self.folds.items():
            try:
                values[name] = fold.result(accumulator.get(name, fold.zero()))
            except ValueError as error:
                raise ValueError(f"{name} {error}") from error
        return self.row(key, values)
