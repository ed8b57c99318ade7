"""Amounts as people write them: ``30d``, ``90s``, ``48 MiB``; read here and nowhere else."""

from __future__ import annotations

import re

from eventmill.base.errors import UsageError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
_AMOUNT = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)")


def parse_seconds(text: str) -> float:
    """Read a length of time such as ``90``, ``90s``, ``15m``, ``36h``, ``30d``, ``2w``.

    A number alone counts seconds.

    Raises:
        UsageError: the text is not a length of time; the message says how to write one.
    """
    amount, unit = _split(text)
    factor = _SECONDS.get(unit or "s")
    if amount is None or factor is None:
        raise UsageError(
            f"{text!r} is not a length of time: write a number and one of"
            f" {', '.join(_SECONDS)}, such as 30d; a number alone counts seconds"
        )
    return amount * factor


def parse_bytes(text: str) -> int:
    """Read a size such as ``1048576``, ``48 MiB``, ``4MB``; a number alone counts bytes.

    Raises:
        UsageError: the text is not a size; the message says how to write one.
    """
    amount, unit = _split(text)
    factor = _BYTES.get(unit)
    if amount is None or factor is None:
        raise UsageError(
            f"{text!r} is not a size: write a number and one of kB, MB, GB, KiB, MiB, GiB,"
            " such as 48MiB; a number alone counts bytes"
        )
    return int(amount * factor)


def format_bytes(size: int) -> str:
    """Return ``size`` for a person to read: three digits and a binary unit, ``47.7 MiB``."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """Return ``seconds`` as ``parse_seconds`` reads it, in the largest unit that divides it."""
    for unit in ("d", "h", "m"):
        count = seconds / _SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def _split(text: str) -> tuple[float | None, str]:
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        return None, ""
    return float(match[1].replace("_", "")), match[2].lower()
