"""Made-up events of a commit queue for ``cq_attempts``: the same seed gives the same events.

They look like a real queue's, its accidents included: events out of order, events told twice,
events without a time, attempts that go on after their slot and attempts that never end.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]
"""One event by the fields of ``cq.RawEvent``; what is not known is absent."""

START_SECONDS = 1_767_225_600
"""2026-01-01T00:00:00Z, when the first attempt starts unless told otherwise."""
ATTEMPTS_A_DAY = 2_880
"""How many start within 24 hours unless told otherwise: one in 30 seconds."""
PRESUBMIT_BUILDER = "chromium_presubmit"

_QUEUES = ("chromium/src", "chromium/tools/build", "infra/infra", "v8/v8", "angle/angle")
_BUILDERS = ("linux-rel", "mac-rel", "win-rel", "android-arm64", "linux_chromium_asan_rel")
_FAIL_TYPES = ("FAILED_JOBS", "FAILED_CQ_INFRA", "MISSING_LGTM", "FAILED_PATCH")
_JOB_FAIL_TYPES = (
    "FAIL_TYPE_TEST",
    "FAIL_TYPE_COMPILE",
    "FAIL_TYPE_INFRA",
    "FAIL_TYPE_PATCH",
    "FAIL_TYPE_INVALID",
)
_SHUFFLED_COUNT = 500
"""Events that wait to be told, of which any may be next."""


def sample_rows(
    attempts: int,
    seed: int,
    *,
    start_seconds: int = START_SECONDS,
    attempts_a_day: float = ATTEMPTS_A_DAY,
) -> Iterator[Row]:
    """Yield the events of ``attempts`` attempts, about eleven of each, nearly in order of time.

    Args:
        attempts: how many attempts are started.
        seed: the same seed gives the same events.
        start_seconds: when the first attempt starts, seconds since 1970.
        attempts_a_day: how many start within 24 hours.
    """
    chance = random.Random(seed)  # noqa: S311 - made-up data, no secret
    waiting: list[Row] = []
    pause_usec = 86_400e6 / attempts_a_day
    for number in range(attempts):
        moment = (number + chance.random()) * pause_usec
        waiting += _events(chance, number, start_seconds * 1_000_000 + int(moment))
        while len(waiting) > _SHUFFLED_COUNT:
            yield _take(chance, waiting)
    while waiting:
        yield _take(chance, waiting)


def sample_builds(rows: Iterator[Row], seed: int) -> Iterator[Row]:
    """Yield the builds that the events ``rows`` rely on, by the fields of ``cq.Build``.

    Args:
        rows: events, as ``sample_rows`` yields them.
        seed: the same seed gives the same builds.
    """
    chance = random.Random(seed)  # noqa: S311 - made-up data, no secret
    known: set[int] = set()
    for row in rows:
        for build_id in row.get("contributing_buildbucket_ids", ()):
            if build_id in known:
                continue
            known.add(build_id)
            is_presubmit = chance.random() < 0.3
            good = chance.random() < (0.6 if is_presubmit else 0.95)
            build: Row = {
                "id": build_id,
                "builder": PRESUBMIT_BUILDER if is_presubmit else chance.choice(_BUILDERS),
                "status": "SUCCESS" if good else "FAILURE",
            }
            if "attempt_start_usec" in row:
                build["attempt_start_usec"] = row["attempt_start_usec"]
            yield build


def _take(chance: random.Random, waiting: list[Row]) -> Row:
    """Remove one of the waiting events and return it; now and then one forgets a time."""
    place = int(chance.random() * len(waiting))
    waiting[place], waiting[-1] = waiting[-1], waiting[place]
    row = waiting.pop()
    luck = chance.random()
    if luck < 0.003:
        return {name: value for name, value in row.items() if name != "timestamp_millis"}
    if luck < 0.004:
        return {name: value for name, value in row.items() if name != "attempt_start_usec"}
    return row


def _events(chance: random.Random, number: int, start_usec: int) -> list[Row]:
    """Return the events of one attempt, in order of time but for the few that came twice."""
    said: Row = {
        "attempt_start_usec": start_usec,
        "cq_name": _QUEUES[int(chance.random() ** 2 * len(_QUEUES))],
        "issue": str(1_000_000 + number // 2),
        "patchset": str(1 + number % 7),
        "dry_run": chance.random() < 0.4,
    }
    if chance.random() < 0.8:
        said["attempt_key"] = f"{start_usec:x}"
    if chance.random() < 0.2:
        said["earliest_equivalent_patchset"] = "1"
    attempt = _Attempt(chance, said, start_usec // 1000)
    attempt.start()
    if chance.random() < 0.72:
        attempt.pass_and_commit()
    else:
        attempt.fail()
    if chance.random() < 0.03:  # it goes on, or its last words were lost
        return [row for row in attempt.rows if row["action"] != "PATCH_STOP"]
    return attempt.rows


class _Attempt:
    """Tells the events of one attempt, one after the other."""

    def __init__(self, chance: random.Random, said: Row, start_msec: int) -> None:
        self.rows: list[Row] = []
        self._chance = chance
        self._said = said
        self._msec = start_msec
        self._first_build_id = 8_000_000_000_000_000_000 + int(chance.random() * 1e18)
        self._build_ids: list[int] = []

    def start(self) -> None:
        """Start, and ask for builds."""
        luck = self._chance.random()
        self._tell("PATCH_START", 15)
        if luck < 0.04:  # the queue was started anew
            self._tell("PATCH_START", 60)
        if luck > 0.97:
            self._tell("VERIFIER_NOTRY", 5)
            return
        if luck > 0.92:
            self._tell("VERIFIER_CUSTOM_TRYBOTS", 2)
        count = 1 + int(self._chance.random() * 4)
        self._build_ids = [self._first_build_id + place for place in range(count)]
        for _ in range(count):
            self._tell("VERIFIER_TRIGGER", 20)
        if luck < 0.3:  # one of them failed, and is tried again
            self._tell("VERIFIER_TRIGGER", 900)

    def pass_and_commit(self) -> None:
        """Pass the verifiers, and commit unless it is only to try."""
        self._tell("VERIFIER_PASS", 30)  # the owners agree; the builds take longer
        self._tell("VERIFIER_PASS", 1_800, contributing_buildbucket_ids=self._build_ids)
        self._tell("VERIFIER_PASS", 2)
        if not self._said["dry_run"]:
            if self._chance.random() < 0.2:
                self._wait("PATCH_TREE_CLOSED")
            if self._chance.random() < 0.3:
                self._wait("PATCH_THROTTLED")
            self._tell("PATCH_COMMITTING", 20)
            self._tell("PATCH_COMMITTED", 5)
        self._tell("PATCH_STOP", 1, contributing_buildbucket_ids=self._build_ids)

    def fail(self) -> None:
        """Fail, mostly for builds; now and then two reasons are told in one millisecond."""
        luck = self._chance.random()
        fail_type = _FAIL_TYPES[int(luck**2 * len(_FAIL_TYPES))]
        reason: Row = {"verifier": "try job", "fail_type": fail_type}
        if fail_type == "FAILED_JOBS":
            reason["failed_try_jobs"] = [
                {
                    "master": "tryserver",
                    "builder": self._chance.choice(_BUILDERS),
                    "build_id": build_id,
                    "fail_type": _JOB_FAIL_TYPES[int(self._chance.random() ** 2 * 5)],
                }
                for build_id in self._build_ids[:2]
            ]
        ids = self._build_ids[: 1 + int(luck * 4)]
        self._tell("PATCH_FAILED", 1_200, failure_reason=reason, contributing_buildbucket_ids=ids)
        if luck < 0.1:
            other = {"verifier": "tree status", "fail_type": "FAILED_CQ_INFRA"}
            self._tell("PATCH_FAILED", 0, failure_reason=other)
        self._tell("PATCH_STOP", 1)

    def _wait(self, action: str) -> None:
        """Tell every half minute or so that it waits still."""
        for _ in range(1 + int(self._chance.expovariate(0.2))):
            self._tell(action, 30)

    def _tell(self, action: str, mean_seconds: float, **more: object) -> None:
        """Add an event some time after the one before; one in fifty is told twice."""
        if mean_seconds:
            self._msec += 1 + int(self._chance.expovariate(0.001 / mean_seconds))
        row = {"timestamp_millis": self._msec, "action": action, **self._said, **more}
        self.rows.append(row)
        if self._chance.random() < 0.02:
            self.rows.append(row)
