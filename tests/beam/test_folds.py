"""Folds and their combine: the laws by which the order of the input cannot matter."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventmill.beam import (
    AnyTrue,
    Count,
    Fold,
    FoldedCombine,
    KeyedCombine,
    Largest,
    LatestValue,
    OneValue,
    Smallest,
    Total,
    Union,
    check_merge_laws,
)

numbers = st.one_of(
    st.integers(-5, 5), st.floats(allow_nan=False), st.sampled_from([0.0, -0.0, 1, 1.0, 2**80])
)
finite = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=3)),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.text(max_size=2), below),
    max_leaves=4,
)
VALUES = {
    Smallest: st.one_of(st.none(), numbers),
    Largest: st.one_of(st.none(), numbers),
    Count: st.text(),
    Total: st.one_of(st.none(), finite, st.decimals(allow_nan=False, allow_infinity=False)),
    AnyTrue: st.one_of(st.none(), st.booleans()),
    Union: st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-3, 3), st.just(1.0)))),
    OneValue: json_values,
    LatestValue: st.one_of(st.none(), st.tuples(st.integers(0, 2), json_values)),
}


def test_every_fold_is_tested():
    assert set(Fold.__subclasses__()) | {Largest} == set(VALUES)


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
@settings(max_examples=50)
@given(data=st.data())
def test_a_fold_keeps_the_laws(kind, data):
    check_merge_laws(kind(), data.draw(st.lists(VALUES[kind], max_size=5)))


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
@settings(max_examples=50)
@given(data=st.data())
def test_a_fold_gives_the_same_in_any_order_and_in_any_pieces(kind, data):
    values = data.draw(st.lists(VALUES[kind], max_size=12))
    shuffled = data.draw(st.permutations(values))
    cut = data.draw(st.integers(0, len(values)))
    fold = kind()
    assert outcome(fold, [values]) == outcome(fold, [shuffled[:cut], shuffled[cut:]])


def outcome(fold, pieces):
    whole = fold.zero()
    for piece in pieces:
        part = fold.zero()
        for value in piece:
            part = fold.add(part, value)
        whole = fold.merge(whole, part)
    try:
        return repr(fold.result(whole))
    except ValueError as error:
        return f"refused: {error}"


@given(st.lists(finite))
def test_a_total_is_the_exact_sum(values):
    fold, sum_of = Total(), Total().zero()
    for value in values:
        sum_of = fold.add(sum_of, value)
    try:
        assert fold.result(sum_of) == (
            sum(values) if all(isinstance(v, int) for v in values) else math.fsum(values)
        )
    except (OverflowError, ValueError):  # beyond what a float holds, for both
        assert abs(sum_of) > 1e308


def result_of(fold, *values):
    whole = fold.zero()
    for value in values:
        whole = fold.add(whole, value)
    return fold.result(whole)


@pytest.mark.parametrize(
    ("fold", "values", "result"),
    [
        (Smallest(), [3, None, 0, 5], 0),
        (Smallest(), [None], None),
        (Largest(), [3, None, 0], 3),
        (Count(), [None, "x", 0], 3),
        (Total(), [1, None, 2], 3),
        (Total(), [0.1] * 10, 1.0),
        (Total(), [Decimal("0.25"), 1], 1.25),
        (Total(), [], 0),
        (AnyTrue(), [False, None, True], True),
        (AnyTrue(), [], False),
        (Union(), [["b", "a"], None, ["a", None], []], ["a", "b"]),
        (Union(), [], []),
        (OneValue(), [None, "x", "x"], "x"),
        (OneValue(), [False, None], False),
        (OneValue(), [], None),
        (LatestValue(), [(1, "a"), (3, "c"), (2, "b"), (4, None)], "c"),
        (LatestValue(), [(0, {"a": 1})], {"a": 1}),
        (LatestValue(), [], None),
    ],
)
def test_what_a_fold_gives(fold, values, result):
    assert result_of(fold, *values) == result


@pytest.mark.parametrize(
    ("fold", "value", "named"),
    [
        (Smallest(), float("nan"), "NaN"),
        (Total(), "1", "no number"),
        (Total(), True, "no number"),
        (Total(), float("inf"), "not finite"),
        (Union(), "abc", "no list"),
        (LatestValue(), (None, "x"), "no time"),
    ],
)
def test_a_value_that_cannot_be_folded_is_refused_by_name(fold, value, named):
    with pytest.raises((TypeError, ValueError), match=named):
        fold.of(value)


def test_two_values_where_one_should_be_are_both_named():
    with pytest.raises(ValueError, match="'a' and 'b'"):
        result_of(OneValue(), "b", "a", "b", "c")


class Attempts(FoldedCombine):
    folds: ClassVar = {"first": Smallest(), "seen": AnyTrue(), "ids": Union(), "who": OneValue()}

    def parts(self, row):
        return {name: row[name] for name in self.folds if name in row}


rows = st.fixed_dictionaries(
    {},
    optional={
        "first": st.one_of(st.none(), st.integers()),
        "seen": st.booleans(),
        "ids": st.lists(st.integers(0, 9)),
        "who": st.sampled_from(["a", "b", None]),
    },
)


@given(st.lists(rows, max_size=4))
def test_a_folded_combine_keeps_the_laws(given_rows):
    combine = Attempts()
    check_merge_laws(combine, [combine.value(row) for row in given_rows])


def test_a_folded_combine_names_the_fold_that_refuses():
    combine = Attempts()
    with pytest.raises(ValueError, match="first: NaN"):
        combine.value({"first": float("nan")})
    accumulator = combine.add(combine.value({"who": "a"}), combine.value({"who": "b"}))
    with pytest.raises(ValueError, match="who should be one value"):
        combine.result((), accumulator)


def test_a_part_without_a_fold_is_named():
    class Wrong(Attempts):
        def parts(self, row):
            return {"frist": 1}

    with pytest.raises(KeyError, match="'frist' is not among the folds: first, seen"):
        Wrong().value({})


class Lawless(KeyedCombine):
    """Breaks one law, of the tests' choice."""

    def __init__(self, law):
        super().__init__()
        self.law = law

    def zero(self):
        return [9] if self.law == "identity" else []

    def add(self, accumulator, value):
        return [*accumulator, value, value] if self.law == "add" else [*accumulator, value]

    def merge(self, one, other):
        if self.law == "add":
            return sorted(set(one + other))
        if self.law == "identity":
            return sorted(one + other)
        return one + other if self.law == "commutative" else [(sum(one) - sum(other)) ** 2 % 7]


@pytest.mark.parametrize(
    ("law", "told"),
    [
        ("identity", "zero"),
        ("commutative", "commutative"),
        ("add", "add differs from merge"),
        ("associative", "identity|associative"),
    ],
)
def test_a_broken_law_is_found_and_named(law, told):
    with pytest.raises(AssertionError, match=told):
        check_merge_laws(Lawless(law), [1, 2, 3])
