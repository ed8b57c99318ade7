"""Verdicts given their place among more events."""

from hypothesis import given
from hypothesis import strategies as st

from eventmill.schema.problem import Reason
from eventmill.wire.verdict import Rejection, Verdict, join_verdicts


def rejection(index):
    return Rejection(index, f"id-{index}", Reason.WRONG_TYPE, "a.b", f"why {index}")


def test_a_placed_verdict_keeps_all_of_a_rejection_but_its_place():
    part = Verdict(3, (0,), (rejection(2),))
    whole = part.placed(6, [1, 3, 5], [rejection(4), rejection(0)])
    assert (whole.count, whole.duplicate_indexes) == (6, (1,))
    assert whole.rejected == (
        rejection(0),
        rejection(4),
        Rejection(5, "id-2", Reason.WRONG_TYPE, "a.b", "why 2"),
    )


def test_the_verdict_of_nothing_takes_its_place_too():
    assert Verdict(0).placed(2, [], [rejection(1)]) == Verdict(2, (), (rejection(1),))
    assert join_verdicts([]) == Verdict(0)


@given(st.lists(st.lists(st.sampled_from(["stored", "duplicate", "rejected", "own"]))))
def test_placed_and_joined_each_event_is_told_of_as_before(batches):
    wanted, verdicts, start = {}, [], 0
    for batch in batches:
        good = [index for index, kind in enumerate(batch) if kind != "own"]
        part = Verdict(
            len(good),
            tuple(n for n, index in enumerate(good) if batch[index] == "duplicate"),
            tuple(rejection(n) for n, index in enumerate(good) if batch[index] == "rejected"),
        )
        own = [rejection(index) for index, kind in enumerate(batch) if kind == "own"]
        verdicts.append(part.placed(len(batch), good, own))
        wanted.update(enumerate(batch, start))
        start += len(batch)
    joined = join_verdicts(verdicts)
    duplicates = [index for index, kind in wanted.items() if kind == "duplicate"]
    rejected = [index for index, kind in wanted.items() if kind in ("rejected", "own")]
    assert joined.count == start
    assert list(joined.duplicate_indexes) == duplicates
    assert [r.index for r in joined.rejected] == rejected
