"""The SQL body of ``cq_attempts``: every rule, every defect of old, and an oracle."""

import random

import cq_world as world
import pytest

SQL = (world.FOLDER / "query.sql").read_text()
COUNTS = (world.FOLDER / "counts.sql").read_text()
SEEDS = range(16)
MSEC = world.START_USEC // 1000
TRUTHS = (
    "committed",
    "was_throttled",
    "waited_for_tree",
    "dry_run",
    "no_tryjobs_launched",
    "custom_trybots",
    "failed",
)
TWO_HOURS = world.slot_params(world.START, world.START + 2 * world.HOUR)


def event(action, seconds=0.0, **fields):
    """Return an event of one attempt, ``seconds`` after its start."""
    said = {
        "timestamp_millis": MSEC + round(seconds * 1000),
        "action": action,
        "attempt_start_usec": world.START_USEC,
        "cq_name": "q",
        "issue": "1",
        "patchset": "2",
        **fields,
    }
    return {name: value for name, value in said.items() if value is not None}


def ended(*events):
    """Return events with those that make an attempt complete."""
    return [event("PATCH_START", 4), *events, event("PATCH_STOP", 50)]


def rows_of(events, params=None):
    return world.query_rows(world.store_of(events), SQL, params)


def row_of(events, params=None):
    (row,) = rows_of(events, params)
    return row


def counts_of(events):
    (counts,) = world.store_of(events).query(COUNTS, world.slot_params()).to_arrow().to_pylist()
    return counts


def expected(**changes):
    """Return the row of ``ended()``, changed."""
    row = dict.fromkeys(world.COLUMNS)
    for name in world.COLUMNS:
        if name.endswith("_failures"):
            row[name] = 0
    row.update(
        dict.fromkeys(TRUTHS, False),
        attempt_start_msec=float(MSEC),
        first_start_msec=MSEC + 4_000,
        last_start_msec=MSEC + 4_000,
        first_stop_msec=MSEC + 50_000,
        last_stop_msec=MSEC + 50_000,
        cq_name="q",
        issue="1",
        patchset="2",
        cq_pickup_latency_sec=4.0,
        click_to_result_sec=50.0,
        contributing_bbucket_ids=[],
    )
    return {**row, **changes}


def test_columns_are_those_of_the_table_in_their_order():
    columns = [column.name for column in world.specs()[1].columns]
    assert columns == list(world.COLUMNS)
    assert len(columns) == 33
    assert list(rows_of(ended())[0]) == columns
    assert world.specs()[1].columns[0].mode.name == "REQUIRED"


ACTIONS = {
    "PATCH_START": ([event("PATCH_START", 9)], {"last_start_msec": MSEC + 9_000}),
    "PATCH_STOP": (
        [event("PATCH_STOP", 60)],
        {"last_stop_msec": MSEC + 60_000, "click_to_result_sec": 60.0},
    ),
    "PATCH_COMMITTING": ([event("PATCH_COMMITTING", 9)], {}),
    "PATCH_COMMITTED": (
        [event("PATCH_COMMITTED", 9), event("PATCH_COMMITTED", 10)],
        {"committed": True, "click_to_patch_committed_sec": 9.0},
    ),
    "PATCH_THROTTLED": ([event("PATCH_THROTTLED", 9)], {"was_throttled": True}),
    "PATCH_TREE_CLOSED": ([event("PATCH_TREE_CLOSED", 9)], {"waited_for_tree": True}),
    "VERIFIER_TRIGGER": (
        [event("VERIFIER_TRIGGER", 9), event("VERIFIER_TRIGGER", 5)],
        {"cq_launch_latency_sec": 5.0},
    ),
    "VERIFIER_PASS": (
        [event("VERIFIER_PASS", 9), event("VERIFIER_PASS", 20)],
        {"verifier_pass_latency_sec": 9.0},
    ),
    "VERIFIER_NOTRY": ([event("VERIFIER_NOTRY", 9)], {"no_tryjobs_launched": True}),
    "VERIFIER_CUSTOM_TRYBOTS": ([event("VERIFIER_CUSTOM_TRYBOTS", 9)], {"custom_trybots": True}),
    "PATCH_FAILED": (
        [event("PATCH_FAILED", 9), event("PATCH_FAILED", 11)],
        {"failed": True, "click_to_failure_sec": 9.0},
    ),
    "PATCH_UNHEARD_OF": ([event("PATCH_UNHEARD_OF", 9), event(None, 9)], {}),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_does_its_own_and_no_more(action):
    events, changes = ACTIONS[action]
    assert row_of(ended(*events)) == expected(**changes)


def test_the_table_of_actions_has_all_of_them():
    assert {*ACTIONS} == {*world.ACTIONS, "PATCH_UNHEARD_OF"}


LATENCIES = {
    "cq_pickup_latency_sec": ("PATCH_START", None, 4.0),
    "cq_launch_latency_sec": ("VERIFIER_TRIGGER", None, 12.5),
    "verifier_pass_latency_sec": ("VERIFIER_PASS", None, 12.5),
    "tree_check_and_throttle_latency_sec": ("PATCH_COMMITTING", "VERIFIER_PASS", 2.25),
    "vcs_commit_latency_sec": ("PATCH_COMMITTED", "PATCH_COMMITTING", 2.25),
    "click_to_failure_sec": ("PATCH_FAILED", None, 12.5),
    "click_to_patch_committed_sec": ("PATCH_COMMITTED", None, 12.5),
    "click_to_result_sec": ("PATCH_STOP", None, 50.0),
}


@pytest.mark.parametrize("column", LATENCIES)
def test_each_latency_is_between_its_two_moments(column):
    end, begin, seconds = LATENCIES[column]
    events = [event(end, 12.5), event(end, 13)]
    if begin is not None:
        events += [event(begin, 10.25), event(begin, 11)]
    assert row_of(ended(*events))[column] == seconds


@pytest.mark.parametrize("column", [name for name, (_, begin, _) in LATENCIES.items() if begin])
def test_a_latency_without_one_of_its_moments_is_null(column):
    for action in LATENCIES[column][:2]:
        assert row_of(ended(event(action, 9)))[column] is None


def test_seconds_are_exact_to_the_microsecond():
    start = {"attempt_start_usec": world.START_USEC + 173}
    events = [event("PATCH_START", 4, **start), event("PATCH_STOP", 54.23, **start)]
    row = row_of(events)
    assert row["cq_pickup_latency_sec"] == 3.999827
    assert row["click_to_result_sec"] == 54.229827


def test_a_clock_that_runs_behind_gives_negative_seconds():
    assert row_of(ended(event("VERIFIER_TRIGGER", -1.5)))["cq_launch_latency_sec"] == -1.5


def test_times_at_the_ends_of_an_integer_do_not_fail_the_slot():
    far = {"timestamp_millis": 2**63 - 1}
    near = {"timestamp_millis": -(2**63)}
    row = row_of(ended(event("VERIFIER_PASS", **near), event("PATCH_COMMITTING", **far)))
    assert row["tree_check_and_throttle_latency_sec"] == 2.0**64 / 1000


def reason(fail_type=None, *kinds):
    """Return a failure reason with a failed build of each kind."""
    jobs = [{"builder": "b"} if kind is None else {"fail_type": kind} for kind in kinds]
    return {
        **({} if fail_type is None else {"fail_type": fail_type}),
        **({"failed_try_jobs": jobs} if jobs else {}),
    }


INFRA, TEST = "FAIL_TYPE_INFRA", "FAIL_TYPE_TEST"
FAILURES = {
    "all kinds": (
        [
            (
                9,
                reason(
                    "FAILED_JOBS",
                    INFRA,
                    "FAIL_TYPE_COMPILE",
                    "FAIL_TYPE_COMPILE",
                    "FAIL_TYPE_PATCH",
                    TEST,
                    "FAIL_TYPE_INVALID",
                    "FAIL_TYPE_NEW",
                    None,
                ),
            )
        ],
        {
            "fail_type": "FAILED_JOBS",
            "infra_failures": 1,
            "compile_failures": 2,
            "patch_failures": 1,
            "test_failures": 1,
            "invalid_test_results_failures": 1,
            "total_failures": 8,
        },
    ),
    "the latest alone": (
        [(9, reason("A", INFRA, INFRA)), (10, reason("B", TEST)), (8, reason("C", INFRA))],
        {"fail_type": "B", "test_failures": 1, "total_failures": 1},
    ),
    "of one moment, the most builds": (
        [(9, reason("A", INFRA)), (9, reason("Z"))],
        {"fail_type": "A", "infra_failures": 1, "total_failures": 1},
    ),
    "of as many, the greater counters": (
        [(9, reason("A", INFRA)), (9, reason("Z", TEST))],
        {"fail_type": "A", "infra_failures": 1, "total_failures": 1},
    ),
    "of the same counters, the greater type": (
        [(9, reason("A", TEST)), (9, reason("B", TEST)), (9, reason(None, TEST))],
        {"fail_type": "B", "test_failures": 1, "total_failures": 1},
    ),
    "without a type": ([(9, reason(None, TEST))], {"test_failures": 1, "total_failures": 1}),
    "without builds": ([(9, reason("A"))], {"fail_type": "A"}),
    "without anything": ([(8, reason("A", TEST)), (9, reason())], {}),
}


@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.parametrize("backwards", [False, True])
def test_the_failure_is_that_of_the_latest_reason(case, backwards):
    reasons, changes = FAILURES[case]
    events = ended(*(event("NOTE", at, failure_reason=said) for at, said in reasons))
    assert row_of(events[::-1] if backwards else events) == expected(**changes)


def test_builds_are_the_sorted_union_of_all_events():
    ids = [[9, 2], [], [2**62, 2], [1]]
    events = [event("NOTE", 9, contributing_buildbucket_ids=some) for some in ids]
    assert row_of(ended(*events))["contributing_bbucket_ids"] == [1, 2, 9, 2**62]


def test_names_that_an_event_leaves_empty_do_not_hide_those_of_another():
    names = {"attempt_key": "k", "earliest_equivalent_patchset": "1"}
    empty = dict.fromkeys(names, "")
    for events in ([event("A", 9, **names), event("B", 9, **empty)], [event("B", 9, **empty)] * 2):
        found = row_of(ended(*events))
        wanted = names if "attempt_key" in events[0] and events[0]["attempt_key"] else {}
        assert {name: found[name] for name in names} == {**dict.fromkeys(names), **wanted}


# What the workflow of old did wrong, one test a defect of the list in docs/cq-attempts.md.


def test_defect_1_an_attempt_without_builds_is_marked():
    assert row_of(ended(event("VERIFIER_NOTRY", 9)))["no_tryjobs_launched"] is True


DRY_RUNS = {
    "null first": ((None, True), True),
    "null last": ((True, None), True),
    "never said": ((None, None), False),
    "false throughout": ((False, None, False), False),
    "false, then true": ((False, True), None),
    "true, then false": ((True, False), None),
}


@pytest.mark.parametrize("case", DRY_RUNS)
def test_defect_2_dry_run_does_not_depend_on_the_order(case):
    said, wanted = DRY_RUNS[case]
    events = ended(*(event("NOTE", 9, dry_run=one) for one in said))
    if wanted is None:
        assert rows_of(events) == []
        assert counts_of(events)["dropped_attempts_contradictory"] == 1
    else:
        assert row_of(events) == expected(dry_run=wanted)


def test_defect_3_zero_is_a_time_like_any_other():
    zero = {"attempt_start_usec": 0, "timestamp_millis": 0}
    early = world.slot_params(world.START.replace(year=1970), world.START.replace(year=1971))
    row = row_of([event("PATCH_START", **zero), event("PATCH_STOP", **zero)], early)
    assert (row["attempt_start_msec"], row["first_start_msec"], row["last_stop_msec"]) == (0, 0, 0)
    assert row["click_to_result_sec"] == 0.0


def test_defect_4_a_reason_without_type_and_builds_fails_nothing():
    assert row_of(ended(event("PATCH_FAILED", 9, failure_reason={}))) == expected(
        failed=True, click_to_failure_sec=9.0
    )


def test_defect_5_the_pickup_latency_is_filled():
    assert row_of(ended())["cq_pickup_latency_sec"] == 4.0


COLLISIONS = [
    ({"cq_name": "a:1", "issue": "2"}, {"cq_name": "a", "issue": "1:2"}),
    ({"cq_name": None}, {"cq_name": "None"}),
    ({"issue": None}, {"issue": "None"}),
    ({"patchset": None}, {"patchset": ""}),
]


@pytest.mark.parametrize("names", COLLISIONS)
def test_defect_6_attempts_of_different_names_stay_apart(names):
    events = [event(action, **some) for some in names for action in ("PATCH_START", "PATCH_STOP")]
    wanted = [{"cq_name": "q", "issue": "1", "patchset": "2", **some} for some in names]
    found = rows_of(events)
    assert len(found) == 2
    for one in wanted:
        assert one in [{name: row[name] for name in one} for row in found]


# What is left out is counted.


def test_events_without_a_time_are_skipped_and_counted():
    events = [*ended(), event("PATCH_THROTTLED", timestamp_millis=None)]
    lost = event("PATCH_FAILED", attempt_start_usec=None)
    assert row_of([*events, lost]) == expected()
    assert counts_of(events)["skipped_events_without_timestamp"] == 1


def test_events_without_an_attempt_are_counted_in_the_slot_in_which_they_came():
    store = world.store_of([*ended(), event("PATCH_FAILED", attempt_start_usec=None)])
    (came,) = store.query(
        "SELECT _ingested_at AS at FROM cq.raw_events WHERE attempt_start_usec IS NULL"
    )
    for shift, wanted in ((0, 1), (1, 0), (-1, 0)):
        start = came["at"] + shift * world.HOUR
        params = world.slot_params(start, start + world.HOUR)
        (counts,) = store.query(COUNTS, params).to_arrow().to_pylist()
        assert counts["skipped_events_without_attempt_start"] == wanted


@pytest.mark.parametrize("missing", ["PATCH_START", "PATCH_STOP"])
def test_incomplete_attempts_are_dropped_and_counted(missing):
    events = [one for one in ended(event("PATCH_FAILED", 9)) if one["action"] != missing]
    untimely = event(missing, timestamp_millis=None)
    assert rows_of([*events, untimely]) == []
    counts = counts_of([*events, untimely])
    assert counts["dropped_attempts_incomplete"] == 1
    assert counts["attempts"] == 1


def test_a_slot_without_events_has_no_rows_and_counts_of_zero():
    assert rows_of([]) == []
    assert set(counts_of([]).values()) == {0}


# Random events against the oracle.


@pytest.mark.parametrize("seed", SEEDS)
def test_random_events_give_what_the_oracle_says(seed):
    events = world.random_events(seed)
    store = world.store_of(events)
    rows, counts = world.attempts_of(events, world.START_USEC, world.START_USEC + world.HOUR_USEC)
    assert world.query_rows(store, SQL) == rows
    (found,) = store.query(COUNTS, world.slot_params()).to_arrow().to_pylist()
    assert {**counts, "skipped_events_without_attempt_start": 0} == found


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_order_and_repetition_change_nothing(seed):
    events = world.random_events(seed)
    rows = rows_of(events, TWO_HOURS)
    assert rows
    chance = random.Random(seed)
    for _ in range(2):
        again = events + chance.sample(events, 60)
        chance.shuffle(again)
        assert rows_of(again, TWO_HOURS) == rows


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_slot_by_slot_gives_the_rows_of_the_whole(seed):
    store = world.store_of(world.random_events(seed))
    second = world.slot_params(world.START + world.HOUR, world.START + 2 * world.HOUR)
    parts = world.query_rows(store, SQL) + world.query_rows(store, SQL, second)
    assert sorted(parts, key=world.sort_key) == world.query_rows(store, SQL, TWO_HOURS)


def test_the_random_events_reach_every_edge():
    seen = dict.fromkeys(("ties", "rows"), 0)
    everything = {}
    for seed in SEEDS:
        events = world.random_events(seed)
        end = world.START_USEC + world.HOUR_USEC
        rows, counts = world.attempts_of(events, world.START_USEC, end)
        seen["rows"] += len(rows)
        for name, count in counts.items():
            seen[name] = seen.get(name, 0) + count
        for row in rows:
            for name, value in row.items():
                everything.setdefault(name, set()).add(str(value))
        told = [
            (one["attempt_start_usec"], one["timestamp_millis"])
            for one in events
            if "failure_reason" in one and {"attempt_start_usec", "timestamp_millis"} <= {*one}
        ]
        seen["ties"] += len(told) - len(set(told))
    assert all(seen.values()), seen
    assert seen["rows"] > 50
    constant = {name for name, values in everything.items() if len(values) == 1}
    assert constant == set()
