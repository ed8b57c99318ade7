"""Which slots late rows touch: for fixed and cron slots, on two stores, in virtual time."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from store_world import BUILDS, build_type, builds_spec
from workflow_world import DAY, HOUR, NOON, builds_at, make_workflow

from eventmill.base.errors import QueryError
from eventmill.schema.table import Granularity, Partitioning, TableId
from eventmill.store.local.store import LocalStore
from eventmill.store.memory import MemoryStore
from eventmill.testing.fakes import FakeClock
from eventmill.wire.batch import Batch
from eventmill.workflow.input_marks import InputMark
from eventmill.workflow.reading import read_workflow
from eventmill.workflow.slot_run import run_slot
from eventmill.workflow.touched import MARGIN_SECONDS, find_touched

NAME = "local.ci.builds"
SLOT = (NOON, NOON + HOUR)
NEXT = (NOON + HOUR, NOON + 2 * HOUR)


class World:
    """A workflow, its store, and what a scheduler would remember of it."""

    def __init__(self, tmp_path, kind="memory", *, now=NOON + 3 * HOUR, spec=None, **changes):
        self.clock = FakeClock(now)
        self.store = (
            MemoryStore(self.clock)
            if kind == "memory"
            else LocalStore.open(str(tmp_path / "data"), clock=self.clock)
        )
        self.store.apply(spec or builds_spec())
        self.definition = read_workflow(str(make_workflow(tmp_path / "w", **changes)))
        self.marks = {}
        self.since = {}
        self.queries = []
        real = self.store.query

        def query(sql, params=None, *, row_limit=None, timeout_seconds=None, cancel=None):
            self.queries.append(sql)
            return real(sql, params, row_limit=row_limit)

        self.store.query = query

    def put(self, batch):
        self.clock.advance(0.001)
        return self.store.put(batch)

    def run(self, slot=SLOT):
        self.clock.advance(0.001)
        generation = int(self.clock.now() * 1e6)
        done = run_slot(
            self.definition, self.store, slot, generation=generation, log=lambda _: None
        )
        self.marks[slot] = done.marks
        return done

    def look(self, *, after=0.0, running_since=None):
        self.clock.advance(after)
        self.queries.clear()
        found = find_touched(
            self.definition,
            self.store,
            since=self.since,
            known=self.marks.get,
            now=self.clock.now(),
            running_since=running_since,
        )
        self.since = dict(found.seen)
        return found


@pytest.fixture(params=["memory", "local"])
def world(request, tmp_path):
    made = World(tmp_path, request.param)
    yield made
    made.store.close()


def test_late_rows_touch_their_slot_once(world):
    world.put(builds_at(NOON, range(5)))
    world.run()
    assert world.look().slots == ()
    world.put(builds_at(NOON + 30 * 60, [100], prefix="late"))
    assert world.look(after=1).slots == (SLOT,)
    assert world.look(after=1).slots == (SLOT,)  # until it has been run again
    world.run()
    for pause in (1, MARGIN_SECONDS, 3_600):
        assert world.look(after=pause).slots == ()


def test_duplicates_touch_nothing(world):
    world.put(builds_at(NOON, range(5)))
    world.run()
    world.look(after=HOUR)
    verdict = world.put(builds_at(NOON, range(5)))
    assert verdict.duplicates == 5  # the edge was reached
    assert world.look(after=1).slots == ()
    world.put(builds_at(NOON, range(6)))  # five of them again, and one that is new
    assert world.look(after=1).slots == (SLOT,)


def test_slots_that_were_never_run_or_have_not_ended_are_not_touched(world):
    now_slot = (NOON + 3 * HOUR, NOON + 4 * HOUR)
    world.put(builds_at(NOON, [1]))
    world.put(builds_at(now_slot[0], [2]))
    world.marks[now_slot] = {NAME: InputMark(0, None)}
    found = world.look(after=1)
    assert (found.slots, found.too_late) == ((), {})
    assert world.look(after=HOUR).slots == (now_slot,)


def test_the_quiet_case_asks_one_small_query_an_input(world):
    world.put(builds_at(NOON, range(50)))
    world.run()
    world.look()
    world.look(after=MARGIN_SECONDS + 1)
    for _ in range(3):
        world.look(after=10)
        (query,) = world.queries
        assert "_ingested_at > @since" in query
        assert world.since[NAME] == world.marks[SLOT][NAME].max_ingested_us


def test_rows_beyond_the_lateness_are_counted_and_stay_out(world):
    world.put(builds_at(NOON, range(3)))
    world.put(builds_at(NEXT[0], range(10, 12)))
    world.run()
    world.run(NEXT)
    world.look()
    lateness = world.definition.lateness_seconds
    world.clock.advance(NEXT[1] + lateness - world.clock.now() - 1)
    world.put(builds_at(NOON, [100, 101], prefix="late"))  # an hour after its lateness
    world.put(builds_at(NEXT[0], [102], prefix="late"))  # a second before its lateness ends
    found = world.look()
    assert found.slots == (NEXT,)
    assert found.too_late == {SLOT: 2}
    again = world.look(after=5)
    assert again.too_late == {SLOT: 2}  # the number, not what to add
    world.put(builds_at(NOON, [103], prefix="late"))
    assert world.look(after=5).too_late == {SLOT: 3}
    world.run()
    assert world.look(after=5).too_late == {}


@pytest.mark.parametrize("schedule", ['every = "1h"', 'cron = "0 * * * *"'])
def test_rows_of_a_slot_are_taken_together_however_they_lie_in_it(tmp_path, schedule):
    """Cron slots are asked for minute by minute: the oldest, the newest and all must count."""
    world = World(tmp_path, schedule=schedule)
    minutes = [NOON + 60 * minute for minute in (0, 20, 59)]
    for number, minute in enumerate(minutes):
        world.put(builds_at(minute, [number]))
    world.run()
    mark = world.marks[SLOT][NAME]
    world.marks[SLOT] = {NAME: InputMark(mark.count - 1, mark.max_ingested_us)}
    assert world.look().slots == (SLOT,)
    world.marks[SLOT] = {NAME: mark}
    assert world.look().slots == ()
    limit = SLOT[1] + world.definition.lateness_seconds
    world.clock.advance(limit - world.clock.now() + 1)
    world.put(builds_at(minutes[1], [10]))  # too late, and the rows around it were seen
    found = world.look()
    assert (found.slots, found.too_late) == ((), {SLOT: 1})

    world = World(tmp_path / "second", schedule=schedule)
    world.run()
    world.look()
    world.put(builds_at(minutes[2], [11]))  # in time, in a later minute
    world.clock.advance(limit - world.clock.now() + 1)
    world.put(builds_at(minutes[0], [12]))  # too late, in an earlier one
    assert world.look().slots == (SLOT,)


TESTS = TableId("local", "ci", "tests")


def two_inputs(tmp_path):
    """Return a world whose workflow has builds and tests as its inputs; run, and looked at."""
    second = '\n[[input]]\ntable = "ci.tests"\nslot_by = "TIMESTAMP_SECONDS(number)"\n'
    world = World(tmp_path, input_keys=second)
    world.store.apply(replace(builds_spec(), table=TESTS))
    world.put(builds_at(NOON, [1]))
    world.run()
    world.look()
    return world


def a_test_at(seconds, prefix):
    batch = builds_at(NOON, [seconds], prefix=prefix)
    return Batch.build(TESTS, batch.fingerprint, batch.insert_ids, batch.events)


def test_rows_that_are_too_late_are_counted_over_all_inputs(tmp_path):
    world = two_inputs(tmp_path)
    world.clock.advance(3 * DAY)
    world.put(builds_at(NOON, [2, 3]))
    assert world.look(after=1).too_late == {SLOT: 2}
    world.put(a_test_at(NOON + 5, "t"))
    assert world.look(after=HOUR).too_late == {SLOT: 3}


def test_a_repair_for_one_input_takes_in_what_is_too_late_in_another(tmp_path):
    world = two_inputs(tmp_path)
    world.put(a_test_at(NOON + 5, "t"))  # in time, and not looked at until later
    world.clock.advance(3 * DAY)
    world.put(builds_at(NOON, [2]))  # too late
    found = world.look()
    assert (found.slots, found.too_late) == ((SLOT,), {})


def test_rows_that_came_in_time_repair_although_nobody_looked_until_later(world):
    world.put(builds_at(NOON, [1]))
    world.run()
    world.look()
    world.put(builds_at(NOON, [2]))
    assert world.look(after=3 * DAY).slots == (SLOT,)


def test_rows_without_a_time_are_counted_once_and_told(world):
    world.put(builds_at(NOON, [1]))
    world.run()
    world.look(after=10)
    timeless = build_type().cls(number=7, builder="linux").SerializeToString()
    for name in (b"n-1", b"n-2"):
        world.put(Batch.build(BUILDS, build_type().fingerprint, [name], [timeless]))
    told = [world.look(after=50).without_slot.get(NAME, 0) for _ in range(8)]
    assert sum(told) == 2
    assert max(told) == 2


def test_expressions_say_which_slot_a_row_touches(tmp_path):
    keys = 'slot_by = "TIMESTAMP_SECONDS(number) -- when it was asked for"'
    world = World(tmp_path, input_keys=keys)
    world.put(builds_at(NOON + 5 * HOUR, [NOON + 1, NOON + HOUR + 1]))
    world.run()
    world.run(NEXT)
    world.look()
    world.put(builds_at(NOON + 5 * HOUR, [NOON + 2]))
    assert world.look(after=1).slots == (SLOT,)
    wrong = World(tmp_path / "wrong", input_keys='slot_by = "no_such_column"')
    with pytest.raises(QueryError, match="no_such_column"):
        wrong.look()


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_cron_slots_are_touched_as_they_lie_on_the_clock(tmp_path, kind):
    # Days of New York around the hour that comes twice: 2026-11-01 has 25 hours.
    first = 1_793_505_600  # 2026-11-01T04:00:00Z, midnight there
    days = [(first, first + 25 * HOUR), (first + 25 * HOUR, first + 49 * HOUR)]
    world = World(
        tmp_path,
        kind,
        now=first + 50 * HOUR,
        schedule='cron = "0 0 * * *"\ntimezone = "America/New_York"',
    )
    assert [*world.definition.timetable.slots(first, first + 49 * HOUR)] == days
    world.put(builds_at(first, [1]))
    world.put(builds_at(days[1][0], [2]))
    for day in days:
        world.run(day)
    world.look()
    for moment, day in ((days[0][1] - 1, days[0]), (days[1][0], days[1]), (first, days[0])):
        world.put(builds_at(moment, [int(moment)], prefix="late"))
        assert world.look(after=1).slots == (day,)
        world.run(day)
    world.store.close()


def test_a_row_that_was_on_its_way_for_a_while_is_found(world):
    """Its ``_ingested_at`` lies before the newest that the run has seen, but the run saw it not."""
    world.put(builds_at(NOON, [1, 2]))
    world.run()
    mark = world.marks[SLOT][NAME]
    world.marks[SLOT] = {NAME: InputMark(mark.count - 1, mark.max_ingested_us)}
    assert world.look(after=MARGIN_SECONDS - 1).slots == (SLOT,)
    world.marks[SLOT] = {NAME: (mark.count, mark.max_ingested_us)}
    assert world.look().slots == ()


def test_the_clock_of_the_store_may_be_behind(world):
    world.put(builds_at(NOON, [1]))
    world.run()
    world.look(after=5)
    world.clock.advance(-60)
    world.store.put(builds_at(NOON, [2]))
    world.clock.advance(60)
    assert world.look(after=20).slots == (SLOT,)


def test_a_clock_that_is_ahead_hides_nothing(tmp_path):
    world = World(tmp_path)
    world.put(builds_at(NOON, [1]))
    world.run()
    world.look()
    world.clock.advance(600)
    world.put(builds_at(NOON, [2]))
    world.clock.advance(-600)
    assert world.look(after=1).slots == (SLOT,)
    world.run()
    world.clock.advance(60)
    world.put(builds_at(NOON, [3]))
    assert world.look(after=1).slots == (SLOT,)


def test_rows_that_came_during_a_long_first_run_are_found(world):
    """A run that takes longer than the margin: its marks are known only after the look."""
    world.put(builds_at(NOON, [1]))
    world.look()
    began = world.clock.now()
    done = world.run()
    del world.marks[SLOT]  # it has taken its marks, and has not ended
    world.put(builds_at(NOON, [2]))
    for _ in range(4):
        assert world.look(after=200, running_since=began).slots == ()
    world.marks[SLOT] = done.marks
    assert world.look(after=1).slots == (SLOT,)


def test_the_first_look_goes_back_as_far_as_the_lateness(world):
    world.put(builds_at(NOON, [1]))
    world.run()
    world.put(builds_at(NOON, [2]))
    world.since = {}
    assert world.look(after=DAY).slots == (SLOT,)


def test_a_missing_input_has_no_rows(world):
    world.since = {NAME: 5}
    world.store.drop(world.definition.inputs[0].table)
    found = world.look()
    assert (found.slots, found.seen) == ((), {NAME: 5})


def test_an_input_that_was_added_touches_what_it_has_rows_of(world):
    world.put(builds_at(NOON, [1]))
    world.marks[SLOT] = {"local.ci.other": InputMark(4, 4)}
    assert world.look(after=1).slots == (SLOT,)


@pytest.mark.parametrize(
    "partitioning",
    [Partitioning(column="ended_at"), None, *(Partitioning(length) for length in Granularity)],
)
def test_tables_of_every_partitioning_and_with_a_filter_are_looked_at(tmp_path, partitioning):
    needs = partitioning is not None
    spec = builds_spec(partitioning=partitioning, require_partition_filter=needs)
    keys = 'slot_by = "ended_at"'
    sql = "SELECT @slot_start AS slot_start, COUNT(*) AS builds FROM ci.builds WHERE _ingested_at"
    sql += " > TIMESTAMP '2000-01-01' AND ended_at >= @slot_start AND ended_at < @slot_end"
    world = World(tmp_path, spec=spec, input_keys=keys, sql=sql)
    world.put(builds_at(NOON, [1]))
    world.run()
    world.look()
    world.put(builds_at(NOON, [2]))
    assert world.look(after=1).slots == (SLOT,)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ['every = "7m"', 'cron = "*/20 * * * *"'])
@pytest.mark.parametrize("seed", range(4))
def test_repairs_catch_up_with_any_order_of_arrival(tmp_path, schedule, seed):
    """Whatever comes whenever: after the last look every slot is what one run over all gives."""
    chance = random.Random(seed)
    world = World(tmp_path, now=NOON + 60, schedule=f'{schedule}\nlateness = "5h"')
    numbers = iter(range(10_000))
    for _ in range(60):
        moment = world.clock.now() - chance.choice([0, 0, 60, 600, 3_000])
        world.put(builds_at(moment, [next(numbers) for _ in range(chance.randint(1, 3))]))
        if chance.random() < 0.5:
            world.put(builds_at(NOON, range(3)))  # a replay
        world.clock.advance(chance.uniform(1, 120))
        for slot in world.definition.timetable.slots(NOON - 4_000, world.clock.now()):
            if slot[1] <= world.clock.now() and slot not in world.marks:
                world.run(slot)
        if chance.random() < 0.4:
            for slot in world.look().slots:
                world.run(slot)
    for slot in world.look(after=1).slots:
        world.run(slot)
    sql = "SELECT SUM(builds) AS n FROM ci.builds_per_builder"
    (stored,) = world.store.query(sql)
    ended = max(slot[1] for slot in world.marks)
    sql = f"SELECT COUNT(*) AS n FROM ci.builds WHERE UNIX_SECONDS(ended_at) < {ended}"
    (wanted,) = world.store.query(sql)
    assert stored["n"] == wanted["n"] > 100
