"""``cq_attempts_with_builds`` as a Beam pipeline: the same rows as ``query.sql``.

``attempts.py`` is the pipeline of ``cq_attempts``. Each attempt is joined with its builds through
their IDs; a build that several attempts rely on speaks for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import apache_beam as beam
from attempts import Attempts, Row

from eventmill.beam import FoldedCombine, Largest

KEY = ("attempt_start_msec", "cq_name", "issue", "patchset")
FAILED_PRESUBMIT = ("chromium_presubmit", "FAILURE")


class LatestBuilds(FoldedCombine):
    """Rows of builds in, each build as it was last out."""

    folds: ClassVar = {"latest": Largest()}

    def key(self, row: Row) -> tuple[Any, ...] | None:
        """Return its ID; None skips a row without one."""
        return None if row["id"] is None else (row["id"],)

    def parts(self, row: Row) -> Row:
        """Return the row as what is compared: the latest is largest."""
        names = ("update_usec", "status", "builder")
        return {"latest": tuple(comparable(name, row[name]) for name in names)}

    def row(self, key: tuple[Any, ...], values: Row) -> Row:
        """Return the build: ID, builder, status."""
        _, (has_status, status), (has_builder, builder) = values["latest"]
        return {
            "id": key[0],
            "builder": builder if has_builder else None,
            "status": status if has_status else None,
        }


def comparable(name: str, value: Any) -> tuple[bool, Any]:  # noqa: ANN401 - a column's value
    """Return a value that compares with others of its column, NULL being the least."""
    return value is not None, value or (0 if name == "update_usec" else "")


def by_id(row: Row) -> tuple[int, tuple[Any, ...]]:
    """Return a build's ID, and what it says."""
    return row["id"], (row["builder"], row["status"])


def key_of(row: Row) -> tuple[Any, ...]:
    """Return what names an attempt."""
    return tuple(row[name] for name in KEY)


def wanted_builds(row: Row) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the attempt for each build that it relies on."""
    for build_id in row["contributing_bbucket_ids"]:
        yield build_id, key_of(row)


def votes(joined: tuple[int, Mapping[str, Iterable[Any]]]) -> Iterator[tuple[Any, bool]]:
    """Yield for each attempt of an unsuccessful build whether it is the presubmit that failed."""
    found = joined[1]
    for builder, status in found["builds"]:
        if status != "SUCCESS":
            for attempt in found["attempts"]:
                yield attempt, (builder, status) == FAILED_PRESUBMIT


def judged(joined: tuple[Any, Mapping[str, Iterable[Any]]]) -> Iterator[Row]:
    """Yield the attempt with the word of its builds."""
    found = joined[1]
    told = list(found["votes"])
    for row in found["rows"]:
        if told and all(told) and row["fail_type"] == "FAILED_JOBS":
            yield {**row, "fail_type": "FAILED_PRESUBMIT_BOT"}
        else:
            yield row


def build(pipeline: Any, inputs: Any, slot: Any) -> Any:  # noqa: ANN401 - Beam's
    """Return the attempts that start in the slot, and what could not be made one."""
    rows, dead = inputs["cq.raw_events"] | Attempts()
    # All builds: those that attempts share may have been made for one of another slot.
    every = inputs.read("cq.builds", sql="SELECT * FROM cq.builds")
    latest, dead_builds = every | LatestBuilds()
    asked = rows | "Builds of attempts" >> beam.FlatMap(wanted_builds)
    known = latest | "Builds by ID" >> beam.Map(by_id)
    told = (
        {"attempts": asked, "builds": known}
        | "Join by build" >> beam.CoGroupByKey()
        | "Votes" >> beam.FlatMap(votes)
    )
    keyed = rows | "Attempts by key" >> beam.Map(lambda row: (key_of(row), row))
    out = (
        {"rows": keyed, "votes": told}
        | "Join by attempt" >> beam.CoGroupByKey()
        | "Judge" >> beam.FlatMap(judged)
    )
    return out, [dead, dead_builds]
