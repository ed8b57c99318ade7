"""FORMAT_TIMESTAMP, PARSE_DATE and their like: format elements that DuckDB renders alike."""

from __future__ import annotations

import re

from eventmill.store.googlesql.call import Call, Rules, scalar
from eventmill.store.googlesql.quoting import quote_text
from eventmill.store.googlesql.times import as_date, as_timestamp, local_time

_ELEMENT = re.compile(r"%(E\*S|E\dS|E4Y|Ez|.)", re.DOTALL)

# GoogleSQL's element on the left, DuckDB's on the right. An element that is in neither table is
# one that DuckDB lacks or renders otherwise (%e, %k, %s, %c ...).
_BOTH = {
    **{letter: f"%{letter}" for letter in "YmdHMSyjbBpI%"},
    "h": "%b",
    "F": "%Y-%m-%d",
    "T": "%H:%M:%S",
    "R": "%H:%M",
    "D": "%m/%d/%y",
    "E4Y": "%Y",
    "n": "\n",
    "t": "\t",
}
_FORMAT = {
    **_BOTH,
    **{letter: f"%{letter}" for letter in "aAuwUWVG"},
    "x": "%m/%d/%y",
    "X": "%H:%M:%S",
    "E6S": "%S.%f",
    "E3S": "%S.%g",
}
# Right only for times in UTC.
_FORMAT_UTC = {"Z": "UTC", "z": "+0000", "Ez": "+00:00"}
_PARSE = {key: text for key, text in _BOTH.items() if key not in ("j", "p", "I", "y", "D")}

# %E*S reads seconds with or without a fraction; DuckDB takes a list of formats to try.
_ALTERNATIVES: tuple[dict[str, str], ...] = ({"E*S": "%S.%f"}, {"E*S": "%S"})


def _translate(call: Call, index: int, elements: dict[str, str]) -> list[str]:
    """Return the format in argument ``index`` in DuckDB's elements; several are alternatives."""
    pattern = call.constant(index, "a format")
    if not isinstance(pattern, str):
        raise call.wrong("the format has to be a string")

    if re.search(r"(?<!%)(?:%%)*%$", pattern):
        raise call.wrong("the format ends in a lone %")
    choices = _ALTERNATIVES if "E*S" in elements else ({},)
    results = [_fill(call, pattern, {**elements, **choice}) for choice in choices]
    return list(dict.fromkeys(results))


def _fill(call: Call, pattern: str, elements: dict[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[1] not in elements:
            raise call.refuse(f"the format element {match[0]}")
        return elements[match[1]]

    return _ELEMENT.sub(replace, pattern)


def _format(call: Call, value: str, elements: dict[str, str]) -> str:
    (pattern,) = _translate(call, 0, elements)
    return f"strftime({value}, {quote_text(pattern)})"


def _format_timestamp(call: Call) -> str:
    if len(call.args) == 3:
        return _format(call, local_time(call.sql(1), call.sql(2)), _FORMAT)
    utc = f"CAST({as_timestamp(call.sql(1))} AS TIMESTAMP)"
    return _format(call, utc, {**_FORMAT, **_FORMAT_UTC})


def _format_date(call: Call) -> str:
    return _format(call, as_date(call, 1), _FORMAT)


def _format_datetime(call: Call) -> str:
    return _format(call, f"CAST({call.sql(1)} AS TIMESTAMP)", _FORMAT)


def _parse(call: Call, elements: dict[str, str]) -> str:
    """Return argument 1 read by the format in argument 0, as a DuckDB TIMESTAMP."""
    patterns = _translate(call, 0, elements)
    if not re.search("%Y", patterns[0]):
        raise call.refuse("a format that has no year (%Y or %F)")
    if re.search("%d", patterns[0]) and not re.search("%[mbB]", patterns[0]):
        raise call.refuse("a format that has a day but no month")
    listed = ", ".join(quote_text(pattern) for pattern in patterns)
    return f"strptime({call.sql(1)}, [{listed}])"


def _parse_timestamp(call: Call) -> str:
    elements = {**_PARSE, "E*S": ""}
    pattern = call.constant(0, "a format")
    if isinstance(pattern, str) and re.search("%E?z", pattern):
        zoned = {**elements, "z": "%z", "Ez": "%z"}
        return f"CAST({_parse(call, zoned)} AS TIMESTAMPTZ)"
    zone = call.sql(2) if len(call.args) == 3 else "'UTC'"
    return f"timezone({zone}, {_parse(call, elements)})"


def _parse_date(call: Call) -> str:
    return f"CAST({_parse(call, _PARSE)} AS DATE)"


def _parse_datetime(call: Call) -> str:
    return _parse(call, {**_PARSE, "E*S": ""})


TIME_FORMATS: Rules = {
    "FORMAT_TIMESTAMP": scalar(_format_timestamp, 2, 3, "STRING"),
    "FORMAT_DATE": scalar(_format_date, 2, kind="STRING"),
    "FORMAT_DATETIME": scalar(_format_datetime, 2, kind="STRING"),
    "PARSE_TIMESTAMP": scalar(_parse_timestamp, 2, 3, "TIMESTAMP"),
    "PARSE_DATE": scalar(_parse_date, 2, kind="DATE"),
    "PARSE_DATETIME": scalar(_parse_datetime, 2, kind="DATETIME"),
}
