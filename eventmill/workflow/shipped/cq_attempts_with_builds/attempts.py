"""``cq_attempts`` as a Beam pipeline: the same rows as ``query.sql``, whatever the order of events.

Events without a time are skipped, attempts without a start or a stop are dropped, and attempts
whose events contradict each other are dead letters; each is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from eventmill.beam import AnyTrue, FoldedCombine, Largest, OneValue, Smallest, Union

Row = Mapping[str, Any]

# Which folds take the time of an action's events.
TIMES = {
    "PATCH_START": ("first_start", "last_start"),
    "PATCH_STOP": ("first_stop", "last_stop"),
    "PATCH_COMMITTING": ("committing",),
    "PATCH_COMMITTED": ("committed",),
    "PATCH_FAILED": ("failed",),
    "VERIFIER_TRIGGER": ("trigger",),
    "VERIFIER_PASS": ("pass",),
}
# Which column an action makes true.
MARKS = {
    "PATCH_THROTTLED": "was_throttled",
    "PATCH_TREE_CLOSED": "waited_for_tree",
    "VERIFIER_NOTRY": "no_tryjobs_launched",
    "VERIFIER_CUSTOM_TRYBOTS": "custom_trybots",
}
# Which column counts a kind of failed build.
FAILED_BUILDS = {
    "FAIL_TYPE_INFRA": "infra_failures",
    "FAIL_TYPE_COMPILE": "compile_failures",
    "FAIL_TYPE_PATCH": "patch_failures",
    "FAIL_TYPE_TEST": "test_failures",
    "FAIL_TYPE_INVALID": "invalid_test_results_failures",
}
# Latencies: the column, and the moment that ends what begins with the attempt.
SINCE_START = {
    "cq_pickup_latency_sec": "first_start",
    "cq_launch_latency_sec": "trigger",
    "verifier_pass_latency_sec": "pass",
    "click_to_failure_sec": "failed",
    "click_to_patch_committed_sec": "committed",
    "click_to_result_sec": "last_stop",
}
# Latencies: the column, and the moments between which it lies.
BETWEEN = {
    "tree_check_and_throttle_latency_sec": ("pass", "committing"),
    "vcs_commit_latency_sec": ("committing", "committed"),
}


class Attempts(FoldedCombine):
    """Events in, one row a complete attempt out."""

    folds: ClassVar = {
        **{name: Smallest() for names in TIMES.values() for name in names},
        "last_start": Largest(),
        "last_stop": Largest(),
        **{name: AnyTrue() for name in MARKS.values()},
        "dry_run": OneValue(),
        "failure": Largest(),
        "build_ids": Union(),
        "earliest_equivalent_patchset": Largest(),
        "attempt_key": Largest(),
    }

    def key(self, row: Row) -> tuple[Any, ...] | None:
        """Return what names the attempt; None skips an event that cannot belong to one."""
        if row["attempt_start_usec"] is None or row["timestamp_millis"] is None:
            return None
        return (row["attempt_start_usec"], row["cq_name"], row["issue"], row["patchset"])

    def parts(self, row: Row) -> Row:
        """Return what this event says."""
        action, moment = row["action"], row["timestamp_millis"]
        said: dict[str, Any] = dict.fromkeys(TIMES.get(action, ()), moment)
        if action in MARKS:
            said[MARKS[action]] = True
        said["dry_run"] = row["dry_run"]
        said["failure"] = failure_of(row["failure_reason"], moment)
        said["build_ids"] = row["contributing_buildbucket_ids"]
        for name in ("earliest_equivalent_patchset", "attempt_key"):
            said[name] = row[name] or None
        return said

    def row(self, key: tuple[Any, ...], values: Row) -> Row | None:
        """Return the attempt's row; None drops one that has not started or not stopped yet."""
        start_usec, cq_name, issue, patchset = key
        if values["first_start"] is None or values["last_stop"] is None:
            return None
        return {
            "attempt_start_msec": start_usec / 1000,
            "first_start_msec": values["first_start"],
            "last_start_msec": values["last_start"],
            "first_stop_msec": values["first_stop"],
            "last_stop_msec": values["last_stop"],
            "committed": values["committed"] is not None,
            **{name: values[name] for name in MARKS.values()},
            "dry_run": bool(values["dry_run"]),
            "failed": values["failed"] is not None,
            "cq_name": cq_name,
            "issue": issue,
            "patchset": patchset,
            **failure_columns(values["failure"]),
            **{name: seconds_since(start_usec, values[end]) for name, end in SINCE_START.items()},
            **{
                name: seconds_between(values[begin], values[end])
                for name, (begin, end) in BETWEEN.items()
            },
            "contributing_bbucket_ids": values["build_ids"],
            "earliest_equivalent_patchset": values["earliest_equivalent_patchset"],
            "attempt_key": values["attempt_key"],
        }


def failure_of(reason: Row | None, moment: int) -> tuple[Any, ...] | None:
    """Return a failure reason as what is compared: the latest, then the weightiest, is largest."""
    if reason is None:
        return None
    jobs = reason["failed_try_jobs"] or ()
    kinds = Counter(job["fail_type"] for job in jobs)
    fail_type = reason["fail_type"]
    counted = tuple(kinds[kind] for kind in FAILED_BUILDS)
    return (moment, len(jobs), *counted, fail_type is not None, fail_type or "")


def failure_columns(failure: tuple[Any, ...] | None) -> Row:
    """Return the columns that the attempt's failure fills."""
    if failure is None:
        return {"fail_type": None, **dict.fromkeys(FAILED_BUILDS.values(), 0), "total_failures": 0}
    _, total, *counted, has_type, fail_type = failure
    return {
        "fail_type": fail_type if has_type else None,
        **dict(zip(FAILED_BUILDS.values(), counted, strict=True)),
        "total_failures": total,
    }


def seconds_since(start_usec: int, msec: int | None) -> float | None:
    """Return the seconds from the start of an attempt; None when the end is not known."""
    return None if msec is None else (msec * 1e3 - start_usec) / 1e6


def seconds_between(begin_msec: int | None, end_msec: int | None) -> float | None:
    """Return the seconds between two moments; None when one is not known."""
    if begin_msec is None or end_msec is None:
        return None
    return (end_msec - float(begin_msec)) / 1000


def build(pipeline: Any, inputs: Mapping[str, Any], slot: Any) -> Any:  # noqa: ANN401 - Beam's
    """Return the attempts that start in the slot, and what could not be made one."""
    return inputs["cq.raw_events"] | Attempts()
