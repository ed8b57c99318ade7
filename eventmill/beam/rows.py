"""Rows as pipelines have them: dicts, NamedTuples or Beam's own rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def as_dict(row: object) -> Mapping[str, Any]:
    """Return ``row`` as a dict; TypeError when it is no row."""
    if isinstance(row, Mapping):
        return row
    as_dict_method = getattr(row, "_asdict", None)  # a NamedTuple's, and a beam.Row's
    if as_dict_method is not None:
        found: Mapping[str, Any] = as_dict_method()
        return found
    raise TypeError(f"a row is a dict or a NamedTuple, not {type(row).__name__}: {row!r:.200}")


def json_text(row: object) -> str:
    """Return any row as JSON, whose keys are sorted; what JSON has not is written as text."""
    if not isinstance(row, Mapping) and hasattr(row, "_asdict"):
        row = as_dict(row)
    return json.dumps(row, sort_keys=True, default=str)
