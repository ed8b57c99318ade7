"""The process's environment, apart from the settings: a program that only sends needs no more."""

from __future__ import annotations

import os
from collections.abc import Mapping


def environment() -> Mapping[str, str]:
    """Return the process's environment: the one door to it."""
    return os.environ
