from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventmill.client.staging import HELD_OVERHEAD_BYTES, Offer, StagedEvent, Staging
from eventmill.wire.split import EVENT_OVERHEAD_BYTES


def staged(number, size=10, fingerprint="f", at=0.0):
    return StagedEvent(b"%d" % number, b"x" * size, size, fingerprint, at)


def numbers(events):
    return [int(event.insert_id) for event in events]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(0, 60) | st.just(700), st.sampled_from("fg")),
        st.just(("take",)),
        st.just(("settle",)),
    ),
    max_size=60,
)


def run(steps, *, drop_oldest, moved=None):
    """Carry out ``steps`` beside a model of plain lists, and compare after each."""
    room = Staging(
        held_bytes_max=4 * (HELD_OVERHEAD_BYTES + 30),
        batch_bytes=3 * (EVENT_OVERHEAD_BYTES + 20),
        batch_events_max=3,
        drop_oldest=drop_oldest,
    )
    waiting, in_flight, settled, refused = deque(), [], [], 0
    offered = 0
    for step in steps:
        if step[0] == "offer":
            event = staged(offered, step[1], step[2], float(offered))
            before = list(waiting)
            offered += 1
            if room.offer(event) is Offer.FULL:
                refused += 1
                held = sum(e.held_bytes for e in (*waiting, *in_flight)) + event.held_bytes
                assert held > 4 * (HELD_OVERHEAD_BYTES + 30)
            else:
                waiting.append(event)
                while room.waiting_count < len(waiting):
                    assert drop_oldest
                    waiting.popleft()
                assert list(waiting)[:-1] == before[len(before) - len(waiting) + 1 :]
        elif step[0] == "take" and not in_flight:
            in_flight = list(room.take())
            assert in_flight == [waiting.popleft() for _ in in_flight]
            assert len({event.fingerprint for event in in_flight}) <= 1
            assert len(in_flight) <= 3
            size = sum(event.size + EVENT_OVERHEAD_BYTES for event in in_flight)
            assert size <= 3 * (EVENT_OVERHEAD_BYTES + 20) or len(in_flight) == 1
            assert bool(in_flight) or not waiting
        elif step[0] == "settle":
            room.settle()
            settled += in_flight
            in_flight = []
        check(room, offered, waiting, in_flight, settled, refused)
        if moved is not None:
            moved.update(refused=refused, dropped=room.dropped_count, settled=room.settled_count)
    return room, settled


def check(room, offered, waiting, in_flight, settled, refused):
    assert offered == room.staged_count + refused
    assert room.staged_count == room.settled_count + room.dropped_count + room.left_count
    assert room.settled_count == len(settled)
    assert (room.waiting_count, room.in_flight_count) == (len(waiting), len(in_flight))
    assert room.held_bytes == sum(e.held_bytes for e in (*waiting, *in_flight))
    assert room.held_bytes <= 4 * (HELD_OVERHEAD_BYTES + 30)
    assert room.waiting_bytes == sum(e.size + EVENT_OVERHEAD_BYTES for e in waiting)
    everything = (*in_flight, *waiting)
    assert room.oldest_staged_at == (everything[0].staged_at if everything else None)
    order = numbers(settled + list(everything))
    assert order == sorted(order)
    assert len(set(order)) == len(order)


@pytest.mark.parametrize("drop_oldest", [False, True])
def test_order_bounds_and_counts_hold_whatever_is_done(drop_oldest):
    moved = Counter()

    @settings(max_examples=300, deadline=None)
    @given(STEPS)
    def attack(steps):
        run(steps, drop_oldest=drop_oldest, moved=moved)

    attack()
    assert moved["refused"] > 0
    assert moved["settled"] > 0
    assert (moved["dropped"] > 0) == drop_oldest


@settings(max_examples=200, deadline=None)
@given(STEPS, st.integers(0, 60))
def test_what_is_left_of_the_first_events_is_counted_exactly(steps, count):
    room, _ = run(steps, drop_oldest=False)
    left = room.left_count
    staged_count = room.staged_count
    expected = max(0, min(count, staged_count) - (staged_count - left))
    assert room.left_of_first(count) == expected
    before = room.settled_count
    assert len(room.take_all()) == left
    assert (room.left_count, room.held_bytes, room.waiting_bytes) == (0, 0, 0)
    assert room.settled_count == before + left


def test_dropping_the_oldest_does_not_pass_for_settling_those_in_flight():
    room = Staging(
        held_bytes_max=4 * (10 + HELD_OVERHEAD_BYTES),
        batch_bytes=1000,
        batch_events_max=2,
        drop_oldest=True,
    )
    for number in range(4):
        room.offer(staged(number))
    assert numbers(room.take()) == [0, 1]
    for number in range(4, 8):
        room.offer(staged(number))
    assert room.dropped_count == 4
    assert room.left_of_first(4) == 2
    room.settle()
    assert room.left_of_first(4) == 0


def test_an_event_that_can_never_fit_drops_nothing():
    room = Staging(held_bytes_max=500, batch_bytes=1000, drop_oldest=True)
    assert room.offer(staged(0)) is Offer.STAGED
    assert room.offer(staged(1, size=1000)) is Offer.FULL
    assert numbers(room.take()) == [0]


def test_a_second_batch_before_the_first_is_settled_is_a_fault():
    room = Staging(held_bytes_max=5000, batch_bytes=1)
    room.offer(staged(0))
    room.offer(staged(1))
    assert numbers(room.take()) == [0]
    with pytest.raises(RuntimeError):
        room.take()


def test_a_batch_is_full_by_bytes_or_by_count():
    by_bytes = Staging(held_bytes_max=5000, batch_bytes=30)
    by_bytes.offer(staged(0))
    assert not by_bytes.has_full_batch
    by_bytes.offer(staged(1))
    assert by_bytes.has_full_batch
    by_count = Staging(held_bytes_max=5000, batch_bytes=3000, batch_events_max=1)
    by_count.offer(staged(0))
    assert by_count.has_full_batch
