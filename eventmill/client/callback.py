"""Calling what the application gave us to call."""

from __future__ import annotations

import logging
from collections.abc import Callable

_logger = logging.getLogger("eventmill.client")


def call_back(name: str, function: Callable[..., object], *arguments: object) -> None:
    """Call ``function``; a failure in it is logged under ``name`` and stops nothing of ours."""
    try:
        function(*arguments)
    except Exception:
        _logger.exception("%s failed", name)
