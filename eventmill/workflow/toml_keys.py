"""The keys of a TOML file, each taken once and checked; what nobody takes is refused.

Every error names the file, the key, what is wrong and what would do.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any, NoReturn

from eventmill.base.errors import UsageError
from eventmill.base.quantity import parse_seconds

SECONDS_MAX = 36_525 * 86_400.0
"""A hundred years: longer than anybody means, and short enough to stay on the calendar."""

_KINDS: Mapping[type, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


class TomlKeys:
    """One table of a TOML file; used once, by one thread."""

    def __init__(self, path: str, values: Mapping[str, Any], prefix: str = "") -> None:
        self.path = path
        """Of the file."""
        self.prefix = prefix
        """What stands before a key to name it in the whole file: ``schedule.``, or nothing."""
        self._values = values
        self._known: list[str] = []

    @classmethod
    def read(cls, path: str) -> TomlKeys:
        """Read a file.

        Raises:
            UsageError: it cannot be read, or is not TOML.
        """
        try:
            with open(path, "rb") as file:
                return cls(path, tomllib.load(file))
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{path} is not TOML: {error}") from error

    def has(self, key: str) -> bool:
        """Tell whether ``key`` is given."""
        self._know(key)
        return key in self._values

    def refuse(self, key: str, reason: str) -> NoReturn:
        """Raise UsageError about ``key``."""
        raise UsageError(f"{self.path}: {self.prefix}{key}: {reason}")

    def require(self, key: str, wanted: str) -> None:
        """Raise UsageError when ``key`` is not given, with ``wanted`` as what would do."""
        if not self.has(key):
            self.refuse(key, f"it is missing: {wanted}{self.misspelt(key)}")

    def misspelt(self, *keys: str) -> str:
        """Return the end of a message on missing ``keys``: what was given that looks like one."""
        for key in keys:
            for near in difflib.get_close_matches(key, self._values, n=1):
                return f"; there is no key {near}: did you mean {key}?"
        return ""

    def text(self, key: str, default: str = "") -> str:
        """Return a text that is not empty, or the default."""
        value: str = self._value(key, str, default)
        if self.has(key) and not value.strip():
            self.refuse(key, "it is empty: write a text, or leave the key out")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        return bool(self._value(key, bool, default))

    def whole(self, key: str, default: int, *, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``."""
        value: int = self._value(key, int, default)
        if not low <= value <= high:
            self.refuse(key, f"{value:,} is not from {low:,} to {high:,}")
        return value

    def seconds(self, key: str, default: float, *, low: float = 0.0) -> float:
        """Return a length of time, written such as ``"90s"``, ``"1h"`` or as a number."""
        value = self._values.get(key, default) if self.has(key) else default
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self._wrong_kind(key, value, 'a length of time, such as "1h"')
        try:
            seconds = parse_seconds(value) if isinstance(value, str) else float(value)
        except UsageError as error:
            self.refuse(key, str(error))
        if not (isfinite(seconds) and low <= seconds <= SECONDS_MAX):
            limits = f"{low:g} seconds to {SECONDS_MAX / 86_400:,.0f} days"
            self.refuse(key, f"{value!r} is not a length of time from {limits}")
        return seconds

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """Return one of ``choices``."""
        value: str = self._value(key, str, default)
        if value not in choices:
            self.refuse(key, f"{value!r} is not one of {', '.join(choices)}")
        return value

    def moment(self, key: str) -> datetime | None:
        """Return a moment as an aware UTC datetime; None: it is not given."""
        if not self.has(key):
            return None
        value = self._values[key]
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                self.refuse(key, f"{value!r} is not a time: write 2026-01-01T00:00:00Z")
        if not isinstance(value, datetime):
            self._wrong_kind(key, value, "a time, such as 2026-01-01T00:00:00Z")
        if value.tzinfo is None:
            self.refuse(key, f"{value} has no time zone: write {value.isoformat()}Z for UTC")
        return value.astimezone(UTC)

    def texts(self, key: str) -> dict[str, str]:
        """Return a table whose values are texts."""
        values: dict[str, Any] = self._value(key, dict, {})
        for name, value in values.items():
            if not isinstance(value, str):
                self._wrong_kind(f"{key}.{name}", value, "a text")
        return values

    def list_of_texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return a list of texts; one alone may stand without its brackets."""
        value = self._values.get(key, default) if self.has(key) else default
        entries = [value] if isinstance(value, str) else value
        if not isinstance(entries, list | tuple) or not all(
            isinstance(entry, str) and entry for entry in entries
        ):
            self._wrong_kind(key, value, "a text, or a list of texts")
        return tuple(entries)

    def text_list(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; none when it is not given."""
        values: list[Any] = self._value(key, list, [])
        for value in values:
            if not isinstance(value, str):
                self._wrong_kind(key, value, 'texts: ["a", "b"]')
        return tuple(values)

    def is_table(self, key: str) -> bool:
        """Tell whether the value is a table, and no list of tables."""
        return self.has(key) and isinstance(self._values[key], dict)

    def rows(self, key: str) -> list[dict[str, Any]]:
        """Return a list of tables, as ``[[key]]`` or as ``key = [{...}]``, each as it is."""
        values: list[Any] = self._value(key, list, [])
        for place, value in enumerate(values):
            if not isinstance(value, dict):
                self._wrong_kind(f"{key}[{place}]", value, f"a table: write [[{key}]]")
        return values

    def tables(self, key: str) -> list[TomlKeys]:
        """Return the keys of each table of a list ``[[key]]``."""
        return [
            TomlKeys(self.path, value, f"{self.prefix}{key}[{place}].")
            for place, value in enumerate(self.rows(key))
        ]

    def table(self, key: str) -> TomlKeys:
        """Return the keys of a table, which has none when it is not given."""
        return TomlKeys(self.path, self._value(key, dict, {}), f"{self.prefix}{key}.")

    def names(self) -> list[str]:
        """Return the keys that are given, in their order."""
        return list(self._values)

    def finish(self) -> None:
        """Raise UsageError when a key is given that nobody has asked for."""
        for key in self._values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.refuse(key, f"no such key: allowed are {', '.join(self._known)}{hint}")

    def _know(self, key: str) -> None:
        if key not in self._known:
            self._known.append(key)

    def _value(self, key: str, kind: type, default: Any) -> Any:  # noqa: ANN401 - TOML's types
        if not self.has(key):
            return default
        value = self._values[key]
        if type(value) is not kind:
            self._wrong_kind(key, value, _KINDS[kind])
        return value

    def _wrong_kind(self, key: str, value: object, wanted: str) -> NoReturn:
        given = _KINDS.get(type(value), "another kind of value")
        self.refuse(key, f"{given} is given: write {wanted}")
