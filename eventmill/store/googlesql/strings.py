"""Text and bytes: LOWER, SUBSTR, SPLIT, REGEXP_EXTRACT, TO_HEX and their like."""

from __future__ import annotations

import re

from eventmill.store.googlesql.call import MANY, Call, Rules, scalar
from eventmill.store.googlesql.quoting import failure, quote_text

# The characters of Unicode's White_Space property, which TRIM without a second argument removes.
_WHITESPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def _length(call: Call) -> str:
    x = call.sql(0)
    if call.kind(0) == "STRING":
        return f"length({x})"
    return (
        f"CASE typeof({x}) WHEN 'BLOB' THEN octet_length(CAST({x} AS BLOB))"
        f" ELSE length(CAST({x} AS VARCHAR)) END"
    )


def _byte_length(call: Call) -> str:
    x = call.sql(0)
    return (
        f"CASE typeof({x}) WHEN 'BLOB' THEN octet_length(CAST({x} AS BLOB))"
        f" ELSE strlen(CAST({x} AS VARCHAR)) END"
    )


def _substr(call: Call) -> str:
    text, position = call.sql(0), call.sql(1)
    # Position 0 and positions left of the beginning mean the beginning.
    begin = f"CASE WHEN {position} = 0 OR {position} < -length({text}) THEN 1 ELSE {position} END"
    if len(call.args) == 2:
        return f"substr({text}, {begin})"
    length = call.sql(2)
    negative = failure("SUBSTR: the length is negative")
    return f"substr({text}, {begin}, CASE WHEN {length} < 0 THEN {negative} ELSE {length} END)"


def _trim(duckdb_name: str) -> Rules:
    def write(call: Call) -> str:
        characters = call.sql(1) if len(call.args) == 2 else quote_text(_WHITESPACE)
        return f"{duckdb_name}({call.sql(0)}, {characters})"

    return {duckdb_name.upper(): scalar(write, 1, 2, "STRING")}


def _pad(call: Call) -> str:
    text, length = call.sql(0), call.sql(1)
    pattern = call.sql(2) if len(call.args) == 3 else "' '"
    negative = failure(f"{call.name}: the length is negative")
    checked = f"CASE WHEN {length} < 0 THEN {negative} ELSE CAST({length} AS INTEGER) END"
    return f"{call.name.lower()}({text}, {checked}, {pattern})"


def _repeat(call: Call) -> str:
    text, count = call.sql(0), call.sql(1)
    negative = failure("REPEAT: the number of repetitions is negative")
    return f"repeat({text}, CASE WHEN {count} < 0 THEN {negative} ELSE {count} END)"


def _concat(call: Call) -> str:
    return "(" + " || ".join(call.written()) + ")"


def _split(call: Call) -> str:
    delimiter = call.sql(1) if len(call.args) == 2 else "','"
    return f"string_split({call.sql(0)}, {delimiter})"


def _left(call: Call) -> str:
    text, length = call.sql(0), call.sql(1)
    negative = failure(f"{call.name}: the length is negative")
    checked = f"CASE WHEN {length} < 0 THEN {negative} ELSE {length} END"
    return f"{call.name.lower()}({text}, {checked})"


def _groups(call: Call) -> int:
    """Return which group a REGEXP_EXTRACT gives: 1 where the pattern has one, else 0 (all)."""
    pattern = call.constant(1, "a pattern")
    if not isinstance(pattern, str):
        raise call.wrong("the pattern has to be a string")
    groups = len(_CAPTURE.findall(_NO_CAPTURE.sub("", pattern)))
    if groups > 1:
        raise call.wrong(f"the pattern has {groups} capturing groups; at most one may be there")
    return groups


# What may hold a parenthesis that opens no group: an escape, \Q...\E, a character class.
_NO_CAPTURE = re.compile(r"\\Q.*?(?:\\E|$)|\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]", re.DOTALL)
_CAPTURE = re.compile(r"\((?!\?)|\(\?P?<")


def _regexp_extract(call: Call) -> str:
    text, pattern, group = call.sql(0), call.sql(1), _groups(call)
    return (
        f"CASE WHEN regexp_matches({text}, {pattern})"
        f" THEN regexp_extract({text}, {pattern}, {group}) END"
    )


def _regexp_extract_all(call: Call) -> str:
    return f"regexp_extract_all({call.sql(0)}, {call.sql(1)}, {_groups(call)})"


def _reverse(call: Call) -> str:
    # Character by character; DuckDB's own reverse keeps combining characters together.
    characters = f"list_reverse(regexp_extract_all({call.sql(0)}, '(?s).'))"
    return f"CASE WHEN {call.sql(0)} = '' THEN '' ELSE array_to_string({characters}, '') END"


STRINGS: Rules = {
    "LOWER": scalar("lower({0})", kind="STRING"),
    "UPPER": scalar("upper({0})", kind="STRING"),
    "LENGTH": scalar(_length, kind="INT64"),
    "CHAR_LENGTH": scalar("length({0})", kind="INT64"),
    "CHARACTER_LENGTH": scalar("length({0})", kind="INT64"),
    "BYTE_LENGTH": scalar(_byte_length, kind="INT64"),
    "SUBSTR": scalar(_substr, 2, 3, "STRING"),
    "SUBSTRING": scalar(_substr, 2, 3, "STRING"),
    "LEFT": scalar(_left, 2, kind="STRING"),
    "RIGHT": scalar(_left, 2, kind="STRING"),
    **_trim("trim"),
    **_trim("ltrim"),
    **_trim("rtrim"),
    "LPAD": scalar(_pad, 2, 3, "STRING"),
    "RPAD": scalar(_pad, 2, 3, "STRING"),
    "REPEAT": scalar(_repeat, 2, kind="STRING"),
    "REVERSE": scalar(_reverse, kind="STRING"),
    # An empty search text finds nothing in GoogleSQL.
    "REPLACE": scalar("replace({0}, {1}, {2})", 3, kind="STRING"),
    "CONCAT": scalar(_concat, 1, MANY),
    "SPLIT": scalar(_split, 1, 2, "ARRAY"),
    "STARTS_WITH": scalar("starts_with({0}, {1})", 2, kind="BOOL"),
    "ENDS_WITH": scalar("ends_with({0}, {1})", 2, kind="BOOL"),
    "STRPOS": scalar("strpos({0}, {1})", 2, kind="INT64"),
    "REGEXP_CONTAINS": scalar("regexp_matches({0}, {1})", 2, kind="BOOL"),
    "REGEXP_EXTRACT": scalar(_regexp_extract, 2, kind="STRING"),
    "REGEXP_SUBSTR": scalar(_regexp_extract, 2, kind="STRING"),
    "REGEXP_EXTRACT_ALL": scalar(_regexp_extract_all, 2, kind="ARRAY"),
    "REGEXP_REPLACE": scalar("regexp_replace({0}, {1}, {2}, 'g')", 3, kind="STRING"),
    "TO_HEX": scalar("lower(hex(CAST({0} AS BLOB)))", kind="STRING"),
    "FROM_HEX": scalar("unhex({0})", kind="BYTES"),
    "TO_BASE64": scalar("base64(CAST({0} AS BLOB))", kind="STRING"),
    "FROM_BASE64": scalar("from_base64({0})", kind="BYTES"),
    "MD5": scalar("unhex(md5({0}))", kind="BYTES"),
    "SHA1": scalar("unhex(sha1({0}))", kind="BYTES"),
    "SHA256": scalar("unhex(sha256({0}))", kind="BYTES"),
    "SAFE_CONVERT_BYTES_TO_STRING": scalar("TRY(decode(CAST({0} AS BLOB)))", kind="STRING"),
}
