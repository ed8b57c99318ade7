"""What tests of ``cq_attempts`` share: random events, a store of them, and an oracle.

The oracle is a plain program of its own, one attempt after the other, and shares nothing with
the workflow but the words of the table.
"""

import functools
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from eventmill.client.uploader import Uploader
from eventmill.schema.compile import compile_protos
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import TableId
from eventmill.store.memory import MemoryStore

SHIPPED = Path(__file__).parent.parent / "eventmill" / "workflow" / "shipped"
FOLDER = SHIPPED / "cq_attempts"
WITH_BUILDS = SHIPPED / "cq_attempts_with_builds"
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
START_USEC = 1_767_225_600_000_000
HOUR_USEC = 3_600_000_000

ACTIONS = (
    "PATCH_START",
    "PATCH_STOP",
    "PATCH_COMMITTING",
    "PATCH_COMMITTED",
    "PATCH_THROTTLED",
    "PATCH_TREE_CLOSED",
    "VERIFIER_TRIGGER",
    "VERIFIER_PASS",
    "VERIFIER_NOTRY",
    "VERIFIER_CUSTOM_TRYBOTS",
    "PATCH_FAILED",
)
COLUMNS = (
    "attempt_start_msec",
    "first_start_msec",
    "last_start_msec",
    "first_stop_msec",
    "last_stop_msec",
    "committed",
    "was_throttled",
    "waited_for_tree",
    "dry_run",
    "no_tryjobs_launched",
    "custom_trybots",
    "failed",
    "cq_name",
    "issue",
    "patchset",
    "fail_type",
    "infra_failures",
    "compile_failures",
    "patch_failures",
    "test_failures",
    "invalid_test_results_failures",
    "total_failures",
    "cq_pickup_latency_sec",
    "cq_launch_latency_sec",
    "verifier_pass_latency_sec",
    "tree_check_and_throttle_latency_sec",
    "vcs_commit_latency_sec",
    "click_to_failure_sec",
    "click_to_patch_committed_sec",
    "click_to_result_sec",
    "contributing_bbucket_ids",
    "earliest_equivalent_patchset",
    "attempt_key",
)
_JOB_COUNTERS = {
    "FAIL_TYPE_INFRA": "infra_failures",
    "FAIL_TYPE_COMPILE": "compile_failures",
    "FAIL_TYPE_PATCH": "patch_failures",
    "FAIL_TYPE_TEST": "test_failures",
    "FAIL_TYPE_INVALID": "invalid_test_results_failures",
}
_KEY = ("attempt_start_usec", "cq_name", "issue", "patchset")


def attempts_of(events, start_usec, end_usec):
    """Return the rows that the events make in the slot, sorted, and the counts."""
    counts = dict.fromkeys(
        (
            "events",
            "skipped_events_without_timestamp",
            "attempts",
            "dropped_attempts_incomplete",
            "dropped_attempts_contradictory",
        ),
        0,
    )
    groups = {}
    for event in events:
        start = event.get("attempt_start_usec")
        if start is None or not start_usec <= start < end_usec:
            continue
        counts["events"] += 1
        if event.get("timestamp_millis") is None:
            counts["skipped_events_without_timestamp"] += 1
            continue
        groups.setdefault(tuple(event.get(name) for name in _KEY), []).append(event)
    counts["attempts"] = len(groups)
    rows = []
    for key, group in groups.items():
        row = _attempt(key, group)
        if isinstance(row, str):
            counts[row] += 1
        else:
            rows.append(row)
    return sorted(rows, key=sort_key), counts


def sort_key(row):
    """Order rows of the output by what is never the same twice."""
    return tuple(
        (row[name] is not None, row[name])
        for name in ("attempt_start_msec", "cq_name", "issue", "patchset")
    )


def _attempt(key, events):
    times = {action: [] for action in ACTIONS}
    dry_runs, build_ids, reasons, keys, equivalents = set(), set(), [], set(), set()
    for event in events:
        if event.get("action") in times:
            times[event["action"]].append(event["timestamp_millis"])
        dry_runs.add(event.get("dry_run"))
        build_ids.update(event.get("contributing_buildbucket_ids") or ())
        keys.add(event.get("attempt_key") or "")
        equivalents.add(event.get("earliest_equivalent_patchset") or "")
        if event.get("failure_reason") is not None:
            reasons.append((event["timestamp_millis"], event["failure_reason"]))
    if not times["PATCH_START"] or not times["PATCH_STOP"]:
        return "dropped_attempts_incomplete"
    if {True, False} <= dry_runs:
        return "dropped_attempts_contradictory"
    start = key[0]
    first = {action: min(found) if found else None for action, found in times.items()}
    return {
        "attempt_start_msec": start / 1000,
        "first_start_msec": first["PATCH_START"],
        "last_start_msec": max(times["PATCH_START"]),
        "first_stop_msec": first["PATCH_STOP"],
        "last_stop_msec": max(times["PATCH_STOP"]),
        "committed": bool(times["PATCH_COMMITTED"]),
        "was_throttled": bool(times["PATCH_THROTTLED"]),
        "waited_for_tree": bool(times["PATCH_TREE_CLOSED"]),
        "dry_run": True in dry_runs,
        "no_tryjobs_launched": bool(times["VERIFIER_NOTRY"]),
        "custom_trybots": bool(times["VERIFIER_CUSTOM_TRYBOTS"]),
        "failed": bool(times["PATCH_FAILED"]),
        "cq_name": key[1],
        "issue": key[2],
        "patchset": key[3],
        **_failures(reasons),
        "cq_pickup_latency_sec": _since(start, first["PATCH_START"]),
        "cq_launch_latency_sec": _since(start, first["VERIFIER_TRIGGER"]),
        "verifier_pass_latency_sec": _since(start, first["VERIFIER_PASS"]),
        "tree_check_and_throttle_latency_sec": _seconds(
            first["VERIFIER_PASS"], first["PATCH_COMMITTING"]
        ),
        "vcs_commit_latency_sec": _seconds(first["PATCH_COMMITTING"], first["PATCH_COMMITTED"]),
        "click_to_failure_sec": _since(start, first["PATCH_FAILED"]),
        "click_to_patch_committed_sec": _since(start, first["PATCH_COMMITTED"]),
        "click_to_result_sec": _since(start, max(times["PATCH_STOP"])),
        "contributing_bbucket_ids": sorted(build_ids),
        "earliest_equivalent_patchset": max(equivalents) or None,
        "attempt_key": max(keys) or None,
    }


def _seconds(before, after):
    return None if before is None or after is None else (after - float(before)) / 1000


def _since(start_usec, after):
    return None if after is None else (float(after) * 1000 - start_usec) / 1_000_000


def _failures(reasons):
    """Return the counters and the type of the latest reason; of several, the weightiest."""
    found = []
    for moment, reason in reasons:
        counted = dict.fromkeys(_JOB_COUNTERS.values(), 0)
        jobs = reason.get("failed_try_jobs") or ()
        for job in jobs:
            column = _JOB_COUNTERS.get(job.get("fail_type"))
            if column is not None:
                counted[column] += 1
        fail_type = reason.get("fail_type")
        weight = (moment, len(jobs), *counted.values(), fail_type is not None, fail_type)
        found.append((weight, {"fail_type": fail_type, **counted, "total_failures": len(jobs)}))
    if found:
        return max(found, key=lambda one: one[0])[1]
    return {"fail_type": None, **dict.fromkeys(_JOB_COUNTERS.values(), 0), "total_failures": 0}


def random_events(seed, count=240, *, span_usec=2 * HOUR_USEC):
    """Return events over a small alphabet, so that attempts meet, tie and contradict."""
    chance = random.Random(seed)
    starts = [START_USEC + chance.randrange(0, span_usec, 7) for _ in range(6)]
    starts += [START_USEC, START_USEC + HOUR_USEC, None]
    return [_event(chance, chance.choice(starts)) for _ in range(count)]


def _event(chance, start):
    often = chance.random() < 0.7  # the same attempt, so that most of its events are there
    actions = ("PATCH_START", "PATCH_STOP") if chance.random() < 0.3 else (*ACTIONS, "NEW", None)
    event = {
        "timestamp_millis": START_USEC // 1000 + chance.randrange(0, 40) * 250,
        "action": chance.choice(actions),
        "attempt_start_usec": start,
        "cq_name": "a" if often else chance.choice(("a:1", None, "None")),
        "issue": "1" if often else chance.choice(("1", None)),
        "patchset": "2" if often else chance.choice(("2", "1:2")),
        "dry_run": chance.choice((None, bool(start and start % 2))),
        "earliest_equivalent_patchset": chance.choice((None, "", "1", "2")),
        "attempt_key": chance.choice((None, "", "k1", "k2")),
        "contributing_buildbucket_ids": [
            chance.choice((1, 2, 3, 4, 2**62)) for _ in range(chance.choice((0, 0, 1, 3)))
        ],
    }
    if chance.random() < 0.02:
        event["dry_run"] = chance.random() < 0.5
    if chance.random() < 0.04:
        del event["timestamp_millis"]
    if chance.random() < 0.3:
        event["failure_reason"] = _reason(chance)
        if "timestamp_millis" in event and often:  # the latest of them meet in one millisecond
            event["timestamp_millis"] = START_USEC // 1000 + 10_000
    return {name: value for name, value in event.items() if value is not None}


def _reason(chance):
    reason = {}
    if chance.random() < 0.8:
        reason["verifier"] = "try job"
    if chance.random() < 0.8:
        reason["fail_type"] = chance.choice(("FAILED_JOBS", "FAILED_CQ_INFRA", ""))
    kinds = (*_JOB_COUNTERS, "OTHER", None)
    jobs = [{"fail_type": chance.choice(kinds)} for _ in range(chance.choice((0, 1, 1, 2, 3)))]
    for job in jobs:
        if job["fail_type"] is None:
            del job["fail_type"]
    if jobs:
        reason["failed_try_jobs"] = jobs
    return reason


@functools.cache
def specs():
    """Return the definitions of the tables: events, attempts, builds."""
    names = ["cq_raw_events.proto", "cq_attempts.proto", "cq_builds.proto"]
    descriptor_set = compile_protos([str(WITH_BUILDS / name) for name in names])
    events = spec_from_proto(None, descriptor_set, "cq.RawEvent")
    builds = spec_from_proto(None, descriptor_set, "cq.Build")
    table = TableId("local", "aggregated", "cq_attempts")
    return events, spec_from_proto(table, descriptor_set, "cq.CqAttempt"), builds


def store_of(events, builds=()):
    """Return a store in memory with the events and builds."""
    store = MemoryStore()
    for spec in specs():
        store.apply(spec)
    put_events(store, events)
    put_events(store, builds, "cq.builds")
    return store


def put_events(store, events, table="cq.raw_events"):
    """Put events, each as a row of its own however often it is repeated."""
    if not events:
        return
    verdict = Uploader(store, table).put(events)
    assert not verdict.rejected, verdict.rejected[:3]


def slot_params(start=START, end=START + HOUR):
    """Return the parameters of a workflow's statement."""
    return {"slot_start": start, "slot_end": end}


def query_rows(store, sql, params=None):
    """Return the rows of a workflow's statement, sorted."""
    rows = store.query(sql, params or slot_params(), row_limit=None).to_arrow().to_pylist()
    return sorted(rows, key=sort_key)


def with_builds(rows, builds):
    """Return the rows of attempts with the word of their builds."""
    return [{**row, "fail_type": _judged(row, _latest(builds))} for row in rows]


def _latest(builds):
    """Return the row of each build that counts."""
    found = {}
    for build in builds:
        weight = tuple(
            (build.get(name) is not None, build.get(name))
            for name in ("update_usec", "status", "builder")
        )
        if build.get("id") is not None and weight >= found.get(build["id"], ((),))[0]:
            found[build["id"]] = (weight, build)
    return {build_id: build for build_id, (_, build) in found.items()}


def _judged(row, builds):
    failed = [
        (builds[one].get("builder"), builds[one].get("status"))
        for one in row["contributing_bbucket_ids"]
        if one in builds and builds[one].get("status") != "SUCCESS"
    ]
    presubmit = ("chromium_presubmit", "FAILURE")
    alone = failed and all(one == presubmit for one in failed)
    return (
        "FAILED_PRESUBMIT_BOT" if alone and row["fail_type"] == "FAILED_JOBS" else row["fail_type"]
    )


def random_builds(seed, count=8):
    """Return builds over the same small alphabet, some of them told several times."""
    chance = random.Random(seed)
    odd = [("chromium_presubmit", "INFRA_FAILURE"), ("linux-rel", "FAILURE"), ("linux-rel", None)]
    odd += [(None, "FAILURE"), ("chromium_presubmit", "STARTED"), ("chromium_presubmit", "SUCCESS")]
    builds = []
    for _ in range(count):
        usual = chance.choice((("chromium_presubmit", "FAILURE"), ("linux-rel", "SUCCESS")))
        builder, status = usual if chance.random() < 0.85 else chance.choice(odd)
        build = {
            "id": chance.choice((1, 2, 3, 4, 2**62, None)),
            "builder": builder,
            "status": status,
            "update_usec": chance.choice((None, 1, 2, 2)),
        }
        builds.append({name: value for name, value in build.items() if value is not None})
    return builds
