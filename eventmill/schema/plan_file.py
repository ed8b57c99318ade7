"""A plan in a file: what ``table plan`` wrote is what ``table apply --plan`` carries out.

The file holds the definition that was planned, so that carrying it out needs no .proto file, and
a checksum over it, so that nobody carries out what nobody has planned.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventmill.base.errors import SchemaError, UsageError
from eventmill.schema.document import spec_from_json, spec_to_json
from eventmill.schema.table import TableSpec

PLAN_FORMAT = 1
"""Counts up when an older reader could misunderstand a saved plan."""

_AGAIN = "make it again with `eventmill table plan`"


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A definition that was planned, and the version of the table that it was planned on."""

    wanted: TableSpec
    expected_version: int
    """0: there was no table."""


def saved_form(wanted: TableSpec, expected_version: int) -> dict[str, Any]:
    """Return the keys that a plan's JSON object needs beside its own, to be read again."""
    return {
        "format": PLAN_FORMAT,
        "wanted": spec_to_json(wanted),
        "checksum": _checksum(wanted, expected_version),
    }


def plan_from_json(document: object) -> SavedPlan:
    """Read what ``Plan.to_json`` writes.

    The changes in it are not read: they are planned again on the table of that version, and are
    then the same.

    Raises:
        SchemaError: it is no plan, one of another format, or it was edited.
    """
    if not isinstance(document, Mapping) or not {"format", "wanted", "checksum"} <= set(document):
        raise SchemaError(f"this is not a saved plan: {_AGAIN}, with --format json or ndjson")
    if document["format"] != PLAN_FORMAT:
        raise SchemaError(
            f"the saved plan is of format {document['format']!r}, and this version reads format"
            f" {PLAN_FORMAT}: {_AGAIN}"
        )
    version = document.get("expected_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise SchemaError(f"the saved plan was edited (expected_version {version!r}): {_AGAIN}")
    try:
        wanted = spec_from_json(document["wanted"])
    except (SchemaError, UsageError) as error:
        raise SchemaError(f"the saved plan was edited ({error}): {_AGAIN}") from error
    is_named = document.get("table") == str(wanted.table)
    if not is_named or document["checksum"] != _checksum(wanted, version):
        raise SchemaError(
            f"the saved plan of {wanted.table} was edited: its checksum does not fit; {_AGAIN}"
        )
    return SavedPlan(wanted, version)


def read_plans(text: str) -> list[SavedPlan]:
    """Read a file of plans: one JSON object, a list of them, or one a line.

    Raises:
        SchemaError: it has no plan, two of one table, or one that ``plan_from_json`` refuses.
    """
    plans = [plan_from_json(document) for document in _documents(text)]
    if not plans:
        raise SchemaError(f"the file holds no plan: {_AGAIN}")
    tables = [str(plan.wanted.table) for plan in plans]
    twice = next((name for name in tables if tables.count(name) > 1), None)
    if twice is not None:
        raise SchemaError(f"the file holds more than one plan of {twice}: leave one")
    return plans


def _documents(text: str) -> list[object]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        return document if isinstance(document, list) else [document]
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    documents = []
    for number, line in lines:
        try:
            documents.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise SchemaError(
                f"line {number} of the saved plan is not JSON ({error}): {_AGAIN}, with --format"
                " json or ndjson"
            ) from error
    return documents


def _checksum(wanted: TableSpec, expected_version: int) -> str:
    """Return a name for all that is carried out, however the JSON was spaced or sorted."""
    whole = json.dumps([PLAN_FORMAT, expected_version, spec_to_json(wanted)], sort_keys=True)
    return f"sha256:{hashlib.sha256(whole.encode()).hexdigest()}"
