"""JSON in STRING columns: JSON_VALUE, JSON_QUERY and the names they had before."""

from __future__ import annotations

import re

from eventmill.store.googlesql.call import Call, Rules, scalar
from eventmill.store.googlesql.quoting import quote_text

_STEP = re.compile(
    r"""\.(?P<plain>[^.\[\]"'*\s]+) | \."(?P<dotted>[^"\\]*)" | \[(?P<index>\d+)\]
    | \['(?P<single>[^'\\]*)'\] | \["(?P<double>[^"\\]*)"\]""",
    re.VERBOSE,
)


def _path(call: Call) -> str:
    """Return the JSONPath of argument 1 in DuckDB's words, as a literal."""
    if len(call.args) == 1:
        return quote_text("$")
    path = call.constant(1, "a path")
    if not isinstance(path, str) or not path.startswith("$"):
        raise call.wrong("the path has to be a string that begins with $")
    result, position = "$", 1
    while position < len(path):
        step = _STEP.match(path, position)
        if not step:
            raise call.refuse(f"the path {path!r}", "use steps such as .name, ['name'] and [0]")
        if step["index"] is not None:
            result += f"[{step['index']}]"
        else:
            name = next(part for part in step.groups() if part is not None)
            if '"' in name:
                raise call.refuse(f"a double quote in the path {path!r}")
            result += f'."{name}"'
        position = step.end()
    return quote_text(result)


def _read(found: str) -> Rules:
    def write(call: Call) -> str:
        text, path = f"CAST({call.sql(0)} AS VARCHAR)", _path(call)
        # Text that is not JSON gives NULL; DuckDB would end the query. The check alone does not
        # do: a constant is computed before it, hence TRY.
        type_ = f"TRY(json_type({text}, {path}))"
        return f"CASE WHEN json_valid({text}) THEN {found.format(type=type_, t=text, p=path)} END"

    return {"": scalar(write, 1, 2, "STRING")}


_VALUE = _read(
    "CASE WHEN {type} NOT IN ('OBJECT', 'ARRAY', 'NULL')"
    " THEN TRY(json_extract_string({t}, {p})) END"
)[""]
_QUERY = _read("CASE WHEN {type} <> 'NULL' THEN CAST(TRY(json_extract({t}, {p})) AS VARCHAR) END")[
    ""
]

DOCUMENTS: Rules = {
    "JSON_VALUE": _VALUE,
    "JSON_EXTRACT_SCALAR": _VALUE,
    "JSON_QUERY": _QUERY,
    "JSON_EXTRACT": _QUERY,
}
