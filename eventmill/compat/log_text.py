"""What is logged as text that a column can hold, whatever the application's objects do.

Nothing here raises: a log record is wanted most when something is broken, which may well be what
it speaks of. What cannot be shown is replaced by a word that says so.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeAlias

from eventmill.wire.rows_text import json_value

TEXT_CHARACTERS_MAX = 50_000
"""Of one text; four of them at four bytes a character leave an event under its limit of bytes."""
SHORT_CHARACTERS_MAX = 10_000
"""Of a name, a template, what an exception says."""
_CUT = "...(truncated)"

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]


def shown(value: object, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """Return ``value`` as text of UTF-8, cut at the end where it is too long."""
    if not isinstance(value, str):
        try:
            value = str(value)
        except Exception as error:  # noqa: BLE001 - an object of the application's
            return f"<{type(value).__name__} without a text: {type(error).__name__}>"
    return _utf8(value if len(value) <= characters_max else value[:characters_max] + _CUT)


def message_of(record: logging.LogRecord) -> str:
    """Return the message of ``record`` with its arguments."""
    try:
        return shown(record.getMessage())
    except Exception as error:  # noqa: BLE001 - the application's arguments
        return f"{shown(record.msg)} (its arguments do not fit: {shown(error)})"


def extra_text(extra: Mapping[str, object]) -> str:
    """Return ``extra`` as one JSON object; empty when it is.

    A value that is too long for all to fit is cut to its share, as text.
    """
    if not extra:
        return ""
    try:
        text = _dump(json_value(extra))
    except Exception:  # noqa: BLE001 - of a value; which one is found below
        text = ""
    if not text or len(text) > TEXT_CHARACTERS_MAX:
        share = max(TEXT_CHARACTERS_MAX // len(extra), len(_CUT))
        text = _dump({shown(name, 300): _in_share(value, share) for name, value in extra.items()})
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def exception_columns(
    exc_info: ExcInfo, format_exception: Callable[[ExcInfo], str]
) -> dict[str, Any]:
    """Return the columns that tell of an exception; of a long traceback the end, which says why."""
    kind = exc_info[0]
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    lines = traceback.format_exception_only(kind, exc_info[1])
    says = next((line for line in lines if line.startswith(name)), lines[-1])
    says = says.removeprefix(name).removeprefix(": ").rstrip("\n")
    return {
        "exception_type": shown(name, SHORT_CHARACTERS_MAX),
        "exception_message": shown(says, SHORT_CHARACTERS_MAX),
        "traceback": ending(format_exception(exc_info)),
    }


def ending(text: str) -> str:
    """Return ``text`` as ``shown`` does, but cut at its beginning."""
    if len(text) > TEXT_CHARACTERS_MAX:
        text = f"(truncated)...{text[-TEXT_CHARACTERS_MAX:]}"
    return _utf8(text)


def _in_share(value: object, share: int) -> object:
    try:
        plain = json_value(value)
        text = _dump(plain)
    except Exception:  # noqa: BLE001 - an object of the application's
        return shown(value, share)
    return plain if len(text) <= share else shown(text, share)


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _utf8(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, as in names of files
        return text.encode("utf-8", "backslashreplace").decode()
    return text
