"""``cq_attempts_with_builds``: the attempts of ``cq_attempts``, with the word of their builds."""

import cq_world as world
import pytest

SQL = (world.WITH_BUILDS / "query.sql").read_text()
MSEC = world.START_USEC // 1000
PRESUBMIT = "chromium_presubmit"


def attempt(ids, fail_type="FAILED_JOBS", **names):
    """Return the events of an attempt that relies on the builds ``ids``."""
    said = {"attempt_start_usec": world.START_USEC, "cq_name": "q", "issue": "1", **names}
    reason = {} if fail_type is None else {"failure_reason": {"fail_type": fail_type}}
    return [
        {"action": action, "timestamp_millis": MSEC + at, **said, **more}
        for at, (action, more) in enumerate(
            (
                ("PATCH_START", {}),
                ("PATCH_FAILED", {"contributing_buildbucket_ids": ids, **reason}),
                ("PATCH_STOP", {"attempt_key": "k"}),
            )
        )
    ]


def build(build_id, builder, status, update_usec=None):
    said = {"id": build_id, "builder": builder, "status": status, "update_usec": update_usec}
    return {name: value for name, value in said.items() if value is not None}


def fail_types(events, builds):
    return [row["fail_type"] for row in world.query_rows(world.store_of(events, builds), SQL)]


RULES = {
    "presubmit alone": ([(1, PRESUBMIT, "FAILURE"), (2, "linux", "SUCCESS")], True),
    "two presubmits": ([(1, PRESUBMIT, "FAILURE"), (2, PRESUBMIT, "FAILURE")], True),
    "another failed too": ([(1, PRESUBMIT, "FAILURE"), (2, "linux", "FAILURE")], False),
    "another was cancelled": ([(1, PRESUBMIT, "FAILURE"), (2, "linux", "CANCELED")], False),
    "another is not done": ([(1, PRESUBMIT, "FAILURE"), (2, "linux", "STARTED")], False),
    "another has no status": ([(1, PRESUBMIT, "FAILURE"), (2, "linux", None)], False),
    "presubmit passed": ([(1, PRESUBMIT, "SUCCESS"), (2, "linux", "FAILURE")], False),
    "presubmit fell ill": ([(1, PRESUBMIT, "INFRA_FAILURE")], False),
    "another builder": ([(1, "linux", "FAILURE")], False),
    "not its build": ([(7, PRESUBMIT, "FAILURE")], False),
    "a build without an ID": ([(None, PRESUBMIT, "FAILURE")], False),
    "another without a row": ([(1, PRESUBMIT, "FAILURE")], True),
    "its last state counts": (
        [(1, PRESUBMIT, "STARTED", 1), (1, PRESUBMIT, "FAILURE", 2), (2, "linux", "SUCCESS")],
        True,
    ),
    "its last state, told first": (
        [(1, PRESUBMIT, "SUCCESS", 2), (1, PRESUBMIT, "FAILURE", 1)],
        False,
    ),
    "the same row twice": ([(1, PRESUBMIT, "FAILURE", 1)] * 2, True),
}


@pytest.mark.parametrize("case", RULES)
def test_a_failure_of_the_presubmit_builder_alone_has_a_type_of_its_own(case):
    builds, is_alone = RULES[case]
    wanted = "FAILED_PRESUBMIT_BOT" if is_alone else "FAILED_JOBS"
    assert fail_types(attempt([1, 2]), [build(*one) for one in builds]) == [wanted]


@pytest.mark.parametrize("fail_type", ["FAILED_CQ_INFRA", None])
def test_other_types_of_failure_stay(fail_type):
    failed = [build(1, PRESUBMIT, "FAILURE")]
    assert fail_types(attempt([1], fail_type), failed) == [fail_type]


def test_an_attempt_without_builds_is_kept_as_it_is():
    assert fail_types(attempt([]), []) == ["FAILED_JOBS"]


def test_a_build_that_two_attempts_share_speaks_for_both():
    events = attempt([1], patchset="1") + attempt([1, 2], patchset="2") + attempt([3], patchset="3")
    builds = [build(1, PRESUBMIT, "FAILURE"), build(2, "linux", "FAILURE")]
    assert fail_types(events, builds) == ["FAILED_PRESUBMIT_BOT", "FAILED_JOBS", "FAILED_JOBS"]


def test_the_attempt_key_is_kept():
    (row,) = world.query_rows(world.store_of(attempt([1]), [build(1, "linux", "SUCCESS")]), SQL)
    assert row["attempt_key"] == "k"


def test_random_events_and_builds_give_what_the_oracle_says():
    judged = 0
    for seed in range(12):
        events, builds = world.random_events(seed), world.random_builds(seed)
        end = world.START_USEC + world.HOUR_USEC
        plain, _ = world.attempts_of(events, world.START_USEC, end)
        rows = world.with_builds(plain, builds)
        assert world.query_rows(world.store_of(events, builds), SQL) == rows
        judged += rows != plain
    assert judged >= 3


def test_what_is_copied_from_cq_attempts_is_the_same():
    for name in ("cq_raw_events.proto", "cq_attempts.proto", "counts.sql"):
        assert (world.FOLDER / name).read_bytes() == (world.WITH_BUILDS / name).read_bytes()
    plain = (world.FOLDER / "query.sql").read_text().splitlines()
    with_builds = (world.WITH_BUILDS / "query.sql").read_text().splitlines()
    lost = [line for line in plain if line not in with_builds]
    assert lost == [plain[0], "  f.fail_type,"]
