"""The demo's second table: the results of Eventmill's own tests, where there is a checkout."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import orjson

RESULTS_FILE = os.path.join("build", "test-results.ndjson")
"""Written by ``tests/conftest.py`` on every run of the tests."""
_FAST_TESTS = os.path.join("tests", "unit", "base")
_SECONDS_MAX = 20.0


def checkout() -> str | None:
    """Return the root of the checkout that this package runs from; None when it is installed."""
    import eventmill  # the package itself, for where it lies

    root = os.path.dirname(os.path.dirname(os.path.abspath(eventmill.__file__)))
    is_checkout = os.path.isfile(os.path.join(root, "tests", "conftest.py"))
    return root if is_checkout else None


def own_test_results(root: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the results of the last run of the tests as (insert ID, row).

    Runs a fast part of the tests first when there has been no run. Empty when that gave nothing.

    Args:
        root: of the checkout.
    """
    path = os.path.join(root, RESULTS_FILE)
    if not os.path.isfile(path) and not _run_fast_tests(root):
        return []
    try:
        with open(path, "rb") as file:
            rows = [orjson.loads(line) for line in file if line.strip()]
    except FileNotFoundError:
        return []
    return [(_identity(row), row) for row in rows]


def _identity(row: Mapping[str, Any]) -> str:
    """Name one test in one run, so that a record sent twice is stored once."""
    words = f"{row['started_at']} {row['file']} {row['name']}"
    return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()


def _run_fast_tests(root: str) -> bool:
    """Run a fast part of the tests; tell whether it came to an end. Its verdict is the row's."""
    if not os.path.isdir(os.path.join(root, _FAST_TESTS)):
        return False
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", _FAST_TESTS]
    try:
        subprocess.run(command, check=False, cwd=root, capture_output=True, timeout=_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return False
    return True
