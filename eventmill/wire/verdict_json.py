"""A verdict as JSON, on both sides of the hop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventmill.schema.problem import Reason
from eventmill.wire.verdict import Rejection, Verdict


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """Return ``verdict`` in JSON's types, with the counts that a person looks for first."""
    return {
        "count": verdict.count,
        "accepted": verdict.accepted,
        "duplicates": verdict.duplicates,
        "rejected": [rejection_to_json(rejection) for rejection in verdict.rejected],
        "duplicate_indexes": list(verdict.duplicate_indexes),
    }


def rejection_to_json(rejection: Rejection) -> dict[str, Any]:
    """Return ``rejection`` in JSON's types."""
    return {
        "index": rejection.index,
        "insert_id": rejection.insert_id,
        "reason": rejection.reason.value,
        "field": rejection.field,
        "message": rejection.message,
    }


def verdict_from_json(document: Mapping[str, Any]) -> Verdict:
    """Read what ``verdict_to_json`` made.

    Raises:
        ValueError: it is not a verdict, or its counts do not add up; a sender must not take
            such an answer for an ack.
    """
    try:
        rejected = tuple(
            Rejection(
                int(entry["index"]),
                str(entry["insert_id"]),
                _reason(str(entry["reason"])),
                str(entry["field"]),
                str(entry["message"]),
            )
            for entry in document["rejected"]
        )
        indexes = tuple(int(index) for index in document["duplicate_indexes"])
        verdict = Verdict(int(document["count"]), indexes, rejected)
        accepted = document["accepted"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a verdict: {error!r}") from error
    places = [*indexes, *(rejection.index for rejection in rejected)]
    if len(set(places)) != len(places) or not all(0 <= at < verdict.count for at in places):
        raise ValueError(f"not a verdict of {verdict.count} events: it names {sorted(places)[-9:]}")
    if verdict.accepted != accepted:
        raise ValueError(f"not a verdict: {accepted} accepted where {verdict.accepted} are left")
    return verdict


def _reason(text: str) -> Reason:
    # A server that is newer than this may have reasons more; its verdict is one all the same.
    return Reason(text) if text in list(Reason) else Reason.OTHER
