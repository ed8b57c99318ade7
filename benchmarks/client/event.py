"""The event that every contender sends: 25 flat fields, told apart by their marker."""

from __future__ import annotations

UNCOUNTED = 9_000_000
"""Events from this number on are warm-up; the sink does not count them."""

_FIELDS = {
    "marker": "",
    "project": "browser",
    "bucket": "try",
    "builder": "linux-rel",
    "build_id": 0,
    "attempt_key": "a00000000004c4b40",
    "status": "SUCCESS",
    "substatus": "NO_SUBSTATUS",
    "host": "review.example.test",
    "change": 1_000_000,
    "patchset": 3,
    "owner": "someone@example.test",
    "started_us": 0,
    "ended_us": 1_790_000_360_000_000,
    "duration_seconds": 360.25,
    "cpu_seconds": 123.5,
    "wait_seconds": 4.125,
    "cache_hit_ratio": 0.875,
    "is_experimental": False,
    "is_retry": True,
    "is_dry_run": True,
    "test_count": 51_234,
    "failed_count": 2,
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "os": "Ubuntu-24.04",
}


def values_of(number):
    """Return the fields of event ``number`` as a new dict, at little cost beside a capture."""
    values = _FIELDS.copy()
    values["marker"] = f"EVT-{number:07d}"
    values["build_id"] = 8_755_100_000_000 + number
    values["started_us"] = 1_790_000_000_000_000 + number
    return values
