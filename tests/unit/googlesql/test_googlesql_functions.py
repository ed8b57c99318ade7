"""Functions and operators: each with values that follow from GoogleSQL's documentation."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime

import duckdb
import pytest


def ts(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


OPERATORS = [
    ("7 / 2", 3.5),
    ("1 / 4 / 2", 0.125),
    ("NULL / 2", None),
    ("-7 + 2 * 3", -1),
    ("(1 + 2) * 3", 9),
    ("- - 5", 5),
    ("-9223372036854775808", -(2**63)),
    ("0x1F", 31),
    ("1e3", 1000.0),
    (".5 + 0.25", 0.75),
    ("5 & 3", 1),
    ("5 | 3", 7),
    ("5 ^ 3", 6),
    ("~5", -6),
    ("'a' || 'b' || 'c'", "abc"),
    ("'a' || NULL", None),
    ("[1] || [2, 3]", [1, 2, 3]),
    ("'abc' = 'ABC'", False),
    ("1 != 2 AND NOT 1 <> 1", True),
    ("NULL AND FALSE", False),
    ("NULL OR TRUE", True),
    ("NULL = NULL", None),
    ("NULL IS NULL", True),
    ("FALSE IS NOT TRUE", True),
    ("NULL IS TRUE", False),
    ("NULL IS DISTINCT FROM 1", True),
    ("1 IS NOT DISTINCT FROM 1", True),
    ("2 BETWEEN 1 AND 2", True),
    ("2 NOT BETWEEN 1 AND 2", False),
    ("'abc' LIKE 'a%'", True),
    ("'abc' LIKE 'A%'", False),
    ("'abc' LIKE 'a_c'", True),
    (r"'a%c' LIKE 'a\\%c'", True),
    (r"'abc' LIKE 'a\\%c'", False),
    ("'abc' NOT LIKE '%b%'", False),
    ("2 IN (1, 2)", True),
    ("3 NOT IN (1, 2)", True),
    ("3 IN (1, NULL)", None),
    ("2 IN UNNEST([1, 2])", True),
    ("3 IN UNNEST([1, NULL])", None),
    ("NULL IN UNNEST([1])", None),
    ("3 IN UNNEST(ARRAY<INT64>[])", False),
    ("3 NOT IN UNNEST([1, 2])", True),
    ("IF(1 < 2, 'y', 'n')", "y"),
    ("IF(NULL, 'y', 'n')", "n"),
    ("CASE WHEN FALSE THEN 1 WHEN TRUE THEN 2 END", 2),
    ("CASE 3 WHEN 1 THEN 'a' ELSE 'b' END", "b"),
    ("CASE 3 WHEN 1 THEN 'a' END", None),
    ("IFNULL(NULL, 5)", 5),
    ("COALESCE(NULL, NULL, 7)", 7),
    ("NULLIF(3, 3)", None),
    ("NULLIF(3, 4)", 3),
    (r"'it\'s\n'", "it's\n"),
    (r"r'a\d'", r"a\d"),
    ('"""a"b"""', 'a"b'),
    (r"b'a\x00\xff'", b"a\x00\xff"),
    ("'Zoë'", "Zoë"),
]

NUMBERS = [
    ("ROUND(2.5)", 3.0),
    ("ROUND(-2.5)", -3.0),
    ("ROUND(1234.567, 1)", 1234.6),
    ("ROUND(1234.567, -2)", 1200.0),
    ("ROUND(7)", 7.0),
    ("CEIL(1.2)", 2.0),
    ("CEILING(-1.2)", -1.0),
    ("FLOOR(-1.2)", -2.0),
    ("TRUNC(-2.7)", -2.0),
    ("TRUNC(2.789, 2)", 2.78),
    ("ABS(-5)", 5),
    ("ABS(-1.5)", 1.5),
    ("SIGN(-3)", -1),
    ("SQRT(16)", 4.0),
    ("POW(2, 10)", 1024.0),
    ("POWER(9, 0.5)", 3.0),
    ("EXP(0)", 1.0),
    ("LN(1)", 0.0),
    ("LOG(1)", 0.0),
    ("LOG(8, 2)", 3.0),
    ("LOG10(1000)", 3.0),
    ("DIV(20, 6)", 3),
    ("DIV(-7, 2)", -3),
    ("MOD(-7, 3)", -1),
    ("SAFE_DIVIDE(1, 0)", None),
    ("SAFE_DIVIDE(1, 4)", 0.25),
    ("IEEE_DIVIDE(1, 0)", math.inf),
    ("IS_NAN(IEEE_DIVIDE(0, 0))", True),
    ("IS_INF(IEEE_DIVIDE(-1, 0))", True),
    ("SAFE_ADD(9223372036854775807, 1)", None),
    ("SAFE_MULTIPLY(3, 4)", 12),
    ("SAFE_SUBTRACT(3, 4)", -1),
    ("GREATEST(1, 3, 2)", 3),
    ("GREATEST(1, NULL)", None),
    ("LEAST(2.5, 1)", 1.0),
    ("LEAST('b', 'a')", "a"),
]

STRINGS = [
    ("LOWER('AbÇ')", "abç"),
    ("UPPER('abç')", "ABÇ"),
    ("LENGTH('Zoë')", 3),
    ("LENGTH(b'Zo\\xc3\\xab')", 4),
    ("BYTE_LENGTH('Zoë')", 4),
    ("CHAR_LENGTH('Zoë')", 3),
    ("SUBSTR('apple', 2)", "pple"),
    ("SUBSTR('apple', 2, 2)", "pp"),
    ("SUBSTR('apple', -2)", "le"),
    ("SUBSTR('apple', 0, 2)", "ap"),
    ("SUBSTR('apple', -30, 3)", "app"),
    ("SUBSTR('apple', 123)", ""),
    ("LEFT('apple', 3)", "app"),
    ("RIGHT('apple', 3)", "ple"),
    (r"TRIM('  \t a b \n')", "a b"),
    ("TRIM('xxabxx', 'x')", "ab"),
    ("LTRIM('xyab', 'yx')", "ab"),
    ("RTRIM('ab ')", "ab"),
    ("LPAD('abc', 5)", "  abc"),
    ("LPAD('abc', 8, 'xy')", "xyxyxabc"),
    ("LPAD('abc', 2)", "ab"),
    ("RPAD('abc', 5, '-')", "abc--"),
    ("REPEAT('ab', 3)", "ababab"),
    ("REVERSE('aëb')", "bëa"),
    ("REVERSE('')", ""),
    ("REPLACE('banana', 'na', 'N')", "baNN"),
    ("REPLACE('abc', '', 'x')", "abc"),
    ("CONCAT('a', 'b', 'c')", "abc"),
    ("CONCAT('a', NULL)", None),
    ("SPLIT('a,b,,c')", ["a", "b", "", "c"]),
    ("SPLIT('', ',')", [""]),
    ("SPLIT('abc', '')", ["a", "b", "c"]),
    ("SPLIT('a-b', '-')[OFFSET(1)]", "b"),
    ("STARTS_WITH('bar', 'b')", True),
    ("ENDS_WITH('bar', 'b')", False),
    ("STRPOS('foo@bar', '@')", 4),
    ("STRPOS('foo', 'x')", 0),
    (r"REGEXP_CONTAINS('foo@example.com', r'@[a-z]+\.com')", True),
    (r"REGEXP_CONTAINS('a\nb', 'a.b')", False),
    (r"REGEXP_EXTRACT('foo@example.com', r'^[a-z]+')", "foo"),
    (r"REGEXP_EXTRACT('foo@example.com', r'@([a-z]+)\.')", "example"),
    (r"REGEXP_EXTRACT('foo', r'(?:x)(y)')", None),
    (r"REGEXP_EXTRACT('a(b)', r'\((.)[)]')", "b"),
    (r"REGEXP_EXTRACT('ab', r'(?P<n>b)')", "b"),
    (r"REGEXP_EXTRACT_ALL('a1 b2', r'[a-z](\d)')", ["1", "2"]),
    (r"REGEXP_EXTRACT_ALL('a1 b2', r'x')", []),
    (r"REGEXP_REPLACE('# A # B', r'# (.)', r'<\1>')", "<A> <B>"),
    ("TO_HEX(b'\\x00\\xff')", "00ff"),
    ("FROM_HEX('00ff')", b"\x00\xff"),
    ("TO_HEX(MD5('a'))", "0cc175b9c0f1b6a831c399e269772661"),
    ("LENGTH(SHA256('a'))", 32),
    ("TO_BASE64(b'abc')", "YWJj"),
    ("FROM_BASE64('YWJj')", b"abc"),
    ("SAFE_CONVERT_BYTES_TO_STRING(b'abc')", "abc"),
    ("SAFE_CONVERT_BYTES_TO_STRING(b'\\xff')", None),
]

CASTS = [
    ("CAST(2.5 AS INT64)", 3),
    ("CAST(-2.5 AS INT64)", -3),
    ("CAST('12' AS INT64)", 12),
    ("CAST('0x1F' AS INT64)", 31),
    ("SAFE_CAST('1.5' AS INT64)", None),
    ("SAFE_CAST('abc' AS FLOAT64)", None),
    ("CAST('1.5' AS FLOAT64)", 1.5),
    ("CAST(TRUE AS INT64)", 1),
    ("CAST('TRUE' AS BOOL)", True),
    ("CAST(0 AS BOOL)", False),
    ("SAFE_CAST('1' AS BOOL)", None),
    ("CAST(1.0 AS STRING)", "1"),
    ("CAST(0.1 AS STRING)", "0.1"),
    ("CAST(0.1 + 0.2 AS STRING)", "0.30000000000000004"),
    ("CAST(1e15 AS STRING)", "1e+15"),
    ("CAST(123456.0 AS STRING)", "123456"),
    ("CAST(TRUE AS STRING)", "true"),
    ("CAST(12 AS STRING)", "12"),
    ("CAST(b'ab' AS STRING)", "ab"),
    ("CAST('é' AS BYTES)", "é".encode()),
    ("CAST(DATE '2024-01-02' AS STRING)", "2024-01-02"),
    ("CAST(TIMESTAMP '2024-01-02 03:04:05.1' AS STRING)", "2024-01-02 03:04:05.100+00"),
    ("CAST(TIMESTAMP '2024-01-02 03:04:05' AS STRING)", "2024-01-02 03:04:05+00"),
    ("CAST(DATETIME '2024-01-02 03:04:05.123456' AS STRING)", "2024-01-02 03:04:05.123456"),
    ("CAST('2024-01-02' AS DATE)", date(2024, 1, 2)),
    ("CAST('2024-01-02 03:04:05+01' AS TIMESTAMP)", ts("2024-01-02 02:04:05")),
    ("CAST(TIMESTAMP '2024-01-02 23:04:05' AS DATE)", date(2024, 1, 2)),
    ("SAFE_CAST('2024-13-02' AS DATE)", None),
    ("CAST(NULL AS STRING)", None),
]

TIMES = [
    ("TIMESTAMP '2024-01-01 10:00:00 America/New_York'", ts("2024-01-01 15:00:00")),
    ("TIMESTAMP '2024-01-01T10:00:00Z'", ts("2024-01-01 10:00:00")),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-05-16 13:14:15.5', SECOND)", ts("2024-05-16 13:14:15")),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-05-16 13:14:15', MINUTE)", ts("2024-05-16 13:14:00")),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-05-16 13:14:15', HOUR)", ts("2024-05-16 13:00:00")),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-05-16 13:14:15', DAY)", ts("2024-05-16")),
    # 2024-05-16 is a Thursday
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-05-16 13:14:15', WEEK)", ts("2024-05-12")),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-05-12 13:14:15', WEEK)", ts("2024-05-12")),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-05-12 13:14:15', ISOWEEK)", ts("2024-05-06")),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-05-16 13:14:15', WEEK(MONDAY))", ts("2024-05-13")),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-05-16 13:14:15', WEEK(THURSDAY))", ts("2024-05-16")),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-05-16 13:14:15', WEEK(FRIDAY))", ts("2024-05-10")),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-05-16 13:14:15', MONTH)", ts("2024-05-01")),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-05-16 13:14:15', QUARTER)", ts("2024-04-01")),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-05-16 13:14:15', YEAR)", ts("2024-01-01")),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2021-01-01 13:14:15', ISOYEAR)", ts("2019-12-30")),
    (
        "TIMESTAMP_TRUNC(TIMESTAMP '2024-01-02 03:00:00', DAY, 'America/New_York')",
        ts("2024-01-01 05:00:00"),
    ),
    # the hour that is repeated when summer time ends stays two hours
    (
        "TIMESTAMP_TRUNC(TIMESTAMP '2024-11-03 05:30:00', HOUR, 'America/New_York')",
        ts("2024-11-03 05:00:00"),
    ),
    (
        "TIMESTAMP_TRUNC(TIMESTAMP '2024-11-03 06:30:00', HOUR, 'America/New_York')",
        ts("2024-11-03 06:00:00"),
    ),
    (
        "TIMESTAMP_TRUNC(TIMESTAMP '2024-01-01 10:10:00', HOUR, 'Asia/Kolkata')",
        ts("2024-01-01 09:30:00"),
    ),
    ("TIMESTAMP_ADD(TIMESTAMP '2024-01-31 12:00:00', INTERVAL 1 DAY)", ts("2024-02-01 12:00:00")),
    ("TIMESTAMP_SUB(TIMESTAMP '2024-01-01', INTERVAL 90 MINUTE)", ts("2023-12-31 22:30:00")),
    ("TIMESTAMP_ADD(TIMESTAMP '2024-01-01', INTERVAL 2 * 3 HOUR)", ts("2024-01-01 06:00:00")),
    ("TIMESTAMP '2024-01-01' + INTERVAL 1 DAY", ts("2024-01-02")),
    ("TIMESTAMP '2024-01-01' - INTERVAL 30 SECOND", ts("2023-12-31 23:59:30")),
    # whole units that have passed, not boundaries
    ("TIMESTAMP_DIFF(TIMESTAMP '2024-01-02 00:00:01', TIMESTAMP '2024-01-01 23:59:59', DAY)", 0),
    ("TIMESTAMP_DIFF(TIMESTAMP '2001-02-01 01:00:00', TIMESTAMP '2001-02-01 00:00:01', HOUR)", 0),
    ("TIMESTAMP_DIFF(TIMESTAMP '2018-08-14', TIMESTAMP '2018-10-14', DAY)", -61),
    ("TIMESTAMP_DIFF(TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-01 00:00:01.5', SECOND)", -1),
    (
        "TIMESTAMP_DIFF(TIMESTAMP '2024-01-01 00:00:01.5', TIMESTAMP '2024-01-01', MILLISECOND)",
        1500,
    ),
    # boundaries
    ("DATE_DIFF(DATE '2010-07-07', DATE '2008-12-25', DAY)", 559),
    ("DATE_DIFF(DATE '2017-10-15', DATE '2017-10-14', WEEK)", 1),
    ("DATE_DIFF(DATE '2017-10-15', DATE '2017-10-14', ISOWEEK)", 0),
    ("DATE_DIFF(DATE '2017-10-16', DATE '2017-10-15', WEEK(MONDAY))", 1),
    ("DATE_DIFF(DATE '2017-12-30', DATE '2014-12-30', YEAR)", 3),
    ("DATE_DIFF(DATE '2017-12-30', DATE '2014-12-30', ISOYEAR)", 2),
    ("DATE_DIFF(DATE '2024-02-01', DATE '2024-01-31', MONTH)", 1),
    ("DATE_DIFF(DATE '2024-01-31', DATE '2024-02-01', MONTH)", -1),
    ("DATE_DIFF(DATE '2024-04-01', DATE '2024-03-31', QUARTER)", 1),
    (
        "DATETIME_DIFF(DATETIME '2024-01-02 00:00:00', DATETIME '2024-01-01 23:59:59', DAY)",
        1,
    ),
    ("DATE(2024, 2, 29)", date(2024, 2, 29)),
    ("DATE(TIMESTAMP '2024-01-01 03:00:00')", date(2024, 1, 1)),
    ("DATE(TIMESTAMP '2024-01-01 03:00:00', 'America/New_York')", date(2023, 12, 31)),
    ("DATE_TRUNC(DATE '2024-05-16', WEEK)", date(2024, 5, 12)),
    ("DATE_TRUNC(DATE '2024-05-16', MONTH)", date(2024, 5, 1)),
    ("DATE_ADD(DATE '2024-01-31', INTERVAL 1 MONTH)", date(2024, 2, 29)),
    ("DATE_ADD('2024-01-01', INTERVAL 2 WEEK)", date(2024, 1, 15)),
    ("DATE_SUB(DATE '2024-02-29', INTERVAL 1 YEAR)", date(2023, 2, 28)),
    ("DATE_SUB(DATE '2024-02-29', INTERVAL 1 QUARTER)", date(2023, 11, 29)),
    ("DATE '2024-01-01' + 5", date(2024, 1, 6)),
    ("CURRENT_DATE() - 1", date(2024, 2, 28)),
    ("LAST_DAY(DATE '2024-02-01')", date(2024, 2, 29)),
    ("DATETIME(2024, 1, 2, 3, 4, 5)", datetime(2024, 1, 2, 3, 4, 5)),
    ("DATETIME(TIMESTAMP '2024-01-01', 'Asia/Tokyo')", datetime(2024, 1, 1, 9)),
    ("TIMESTAMP(DATE '2024-01-01')", ts("2024-01-01")),
    ("TIMESTAMP('2024-01-01 00:00:00', 'Asia/Tokyo')", ts("2023-12-31 15:00:00")),
    ("TIMESTAMP(DATETIME '2024-01-01 05:00:00')", ts("2024-01-01 05:00:00")),
    ("EXTRACT(YEAR FROM DATE '2024-05-16')", 2024),
    ("EXTRACT(QUARTER FROM DATE '2024-05-16')", 2),
    ("EXTRACT(DAYOFWEEK FROM DATE '2024-05-12')", 1),
    ("EXTRACT(DAYOFWEEK FROM DATE '2024-05-11')", 7),
    ("EXTRACT(DAYOFYEAR FROM DATE '2024-12-31')", 366),
    # weeks begin on Sunday; days before the first Sunday are week 0
    ("EXTRACT(WEEK FROM DATE '2024-01-06')", 0),
    ("EXTRACT(WEEK FROM DATE '2024-01-07')", 1),
    ("EXTRACT(WEEK(MONDAY) FROM DATE '2024-01-01')", 1),
    ("EXTRACT(WEEK(MONDAY) FROM DATE '2024-01-08')", 2),
    ("EXTRACT(WEEK FROM DATE '2023-01-01')", 1),
    ("EXTRACT(ISOWEEK FROM DATE '2024-12-30')", 1),
    ("EXTRACT(ISOYEAR FROM DATE '2024-12-30')", 2025),
    ("EXTRACT(HOUR FROM TIMESTAMP '2024-01-01 23:30:00')", 23),
    ("EXTRACT(HOUR FROM TIMESTAMP '2024-01-01 23:30:00' AT TIME ZONE 'Asia/Tokyo')", 8),
    ("EXTRACT(DATE FROM TIMESTAMP '2024-01-01 23:30:00')", date(2024, 1, 1)),
    (
        "EXTRACT(DATE FROM TIMESTAMP '2024-01-01 23:30:00' AT TIME ZONE 'Asia/Tokyo')",
        date(2024, 1, 2),
    ),
    ("EXTRACT(MICROSECOND FROM TIMESTAMP '2024-01-01 00:00:05.123456')", 123456),
    ("EXTRACT(MILLISECOND FROM TIMESTAMP '2024-01-01 00:00:05.123456')", 123),
    ("EXTRACT(SECOND FROM TIMESTAMP '2024-01-01 00:00:05.9')", 5),
    ("UNIX_SECONDS(TIMESTAMP '2024-01-01')", 1704067200),
    ("UNIX_SECONDS(TIMESTAMP '1969-12-31 23:59:59.5')", -1),
    ("UNIX_MILLIS(TIMESTAMP '2024-01-01 00:00:00.0019')", 1704067200001),
    ("UNIX_MICROS(TIMESTAMP '1970-01-01 00:00:01')", 1000000),
    ("UNIX_DATE(DATE '1970-01-11')", 10),
    ("TIMESTAMP_SECONDS(1704067200)", ts("2024-01-01")),
    ("TIMESTAMP_MILLIS(1500)", ts("1970-01-01 00:00:01.500")),
    ("TIMESTAMP_MICROS(-1)", ts("1969-12-31 23:59:59.999999")),
    ("CURRENT_TIMESTAMP()", ts("2024-02-29 12:34:56.789")),
    ("CURRENT_TIMESTAMP", ts("2024-02-29 12:34:56.789")),
    ("CURRENT_DATE", date(2024, 2, 29)),
    ("CURRENT_DATE('Pacific/Kiritimati')", date(2024, 3, 1)),
    ("CURRENT_DATETIME()", datetime(2024, 2, 29, 12, 34, 56, 789000)),
    (
        "FORMAT_TIMESTAMP('%Y-%m-%dT%H:%M:%SZ', TIMESTAMP '2024-01-02 03:04:05')",
        "2024-01-02T03:04:05Z",
    ),
    (
        "FORMAT_TIMESTAMP('%F %T', TIMESTAMP '2024-01-02 03:04:05', 'Asia/Tokyo')",
        "2024-01-02 12:04:05",
    ),
    ("FORMAT_TIMESTAMP('%E3S|%E6S', TIMESTAMP '2024-01-02 03:04:05.6789')", "05.678|05.678900"),
    ("FORMAT_TIMESTAMP('%Z%z%Ez', TIMESTAMP '2024-01-02')", "UTC+0000+00:00"),
    (
        "FORMAT_DATE('%a %d %b %y, %j, week %V of %G, %U %%', DATE '2024-01-07')",
        "Sun 07 Jan 24, 007, week 01 of 2024, 01 %",
    ),
    ("FORMAT_DATE('%A %B %u %w', DATE '2024-01-07')", "Sunday January 7 0"),
    ("FORMAT_DATE('%n%t', DATE '2024-01-07')", "\n\t"),
    ("FORMAT_TIMESTAMP('%I %p', TIMESTAMP '2024-01-02 15:04:05')", "03 PM"),
    ("PARSE_TIMESTAMP('%Y-%m-%d %H:%M:%S', '2024-01-02 03:04:05')", ts("2024-01-02 03:04:05")),
    (
        "PARSE_TIMESTAMP('%Y-%m-%dT%H:%M:%E*SZ', '2024-01-02T03:04:05.25Z')",
        ts("2024-01-02 03:04:05.25"),
    ),
    ("PARSE_TIMESTAMP('%Y-%m-%dT%H:%M:%E*SZ', '2024-01-02T03:04:05Z')", ts("2024-01-02 03:04:05")),
    ("PARSE_TIMESTAMP('%F %R', '2024-01-02 03:04', 'Asia/Tokyo')", ts("2024-01-01 18:04:00")),
    ("PARSE_TIMESTAMP('%F %T%z', '2024-01-02 03:04:05+0100')", ts("2024-01-02 02:04:05")),
    ("PARSE_DATE('%Y%m%d', '20240229')", date(2024, 2, 29)),
    ("PARSE_DATE('%b %d, %Y', 'Jan 5, 2024')", date(2024, 1, 5)),
    ("SAFE.PARSE_DATE('%Y%m%d', 'nonsense')", None),
    ("SAFE.PARSE_DATE('%Y%m%d', '20240101')", date(2024, 1, 1)),
]

ARRAYS = [
    ("[1, 2, 3][OFFSET(0)]", 1),
    ("[1, 2, 3][ORDINAL(3)]", 3),
    ("[1, 2, 3][1]", 2),
    ("[1, 2][SAFE_OFFSET(2)]", None),
    ("[1, 2][SAFE_OFFSET(-1)]", None),
    ("[1, 2][SAFE_ORDINAL(0)]", None),
    ("[1, 2][SAFE_ORDINAL(2)]", 2),
    ("ARRAY<INT64>[1, NULL][OFFSET(1)]", None),
    ("ARRAY<STRING>[]", []),
    ("ARRAY_LENGTH([1, NULL, 3])", 3),
    ("ARRAY_LENGTH(NULL)", None),
    ("ARRAY_CONCAT([1], [2, 3], [4])", [1, 2, 3, 4]),
    ("ARRAY_CONCAT([1], CAST(NULL AS ARRAY<INT64>))", None),
    ("ARRAY_TO_STRING(['a', NULL, 'b'], '-')", "a-b"),
    ("ARRAY_TO_STRING(['a', NULL, 'b'], '-', '?')", "a-?-b"),
    ("ARRAY_REVERSE([1, 2, 3])", [3, 2, 1]),
    ("GENERATE_ARRAY(1, 5)", [1, 2, 3, 4, 5]),
    ("GENERATE_ARRAY(0, 10, 3)", [0, 3, 6, 9]),
    ("GENERATE_ARRAY(10, 0, -5)", [10, 5, 0]),
    ("GENERATE_ARRAY(4, 1)", []),
    (
        "GENERATE_DATE_ARRAY('2024-01-30', '2024-02-02')",
        [date(2024, 1, 30), date(2024, 1, 31), date(2024, 2, 1), date(2024, 2, 2)],
    ),
    (
        "GENERATE_DATE_ARRAY('2024-01-31', '2024-05-30', INTERVAL 1 MONTH)",
        [date(2024, 1, 31), date(2024, 2, 29), date(2024, 3, 31), date(2024, 4, 30)],
    ),
    (
        "GENERATE_DATE_ARRAY(DATE '2024-01-15', DATE '2024-01-01', INTERVAL -1 WEEK)",
        [date(2024, 1, 15), date(2024, 1, 8), date(2024, 1, 1)],
    ),
    ("GENERATE_DATE_ARRAY('2024-01-02', '2024-01-01')", []),
    (
        (
            "GENERATE_TIMESTAMP_ARRAY('2024-01-01 00:00:00', '2024-01-01 01:00:00',"
            " INTERVAL 30 MINUTE)"
        ),
        [ts("2024-01-01 00:00:00"), ts("2024-01-01 00:30:00"), ts("2024-01-01 01:00:00")],
    ),
    ("STRUCT(1 AS a, 'x' AS b)", {"a": 1, "b": "x"}),
    ("STRUCT(1 AS a, STRUCT(2 AS c) AS b).b.c", 2),
    ("STRUCT<a INT64, b STRING>(1, 'x').b", "x"),
    ("STRUCT(5)", {"_field_1": 5}),
    ("[STRUCT(1 AS a), STRUCT(2)][OFFSET(1)].a", 2),
]

DOCUMENTS = [
    ("""JSON_VALUE('{"a": {"b": "x"}}', '$.a.b')""", "x"),
    ("""JSON_VALUE('{"a": {"b": "x"}}', '$.a')""", None),
    ("""JSON_VALUE('{"a": 1.0}', '$.a')""", "1.0"),
    ("""JSON_VALUE('{"a": true}', '$.a')""", "true"),
    ("""JSON_VALUE('{"a": null}', '$.a')""", None),
    ("""JSON_VALUE('{"a": [1, 2]}', '$.a[1]')""", "2"),
    ("""JSON_VALUE('{"a b": 7}', '$."a b"')""", "7"),
    ("""JSON_VALUE('{"a.b": 7}', "$['a.b']")""", "7"),
    ("""JSON_VALUE('{broken', '$.a')""", None),
    ("""JSON_VALUE('"x"')""", "x"),
    ("""JSON_QUERY('{"a": {"b": 1}}', '$.a')""", '{"b":1}'),
    ("""JSON_QUERY('{"a": null}', '$.a')""", None),
    ("""JSON_EXTRACT_SCALAR('{"a": "x"}', '$.a')""", "x"),
    ("""JSON_EXTRACT('{"a": "x"}', '$.a')""", '"x"'),
    ("JSON_VALUE(NULL, '$.a')", None),
]

SCALARS = OPERATORS + NUMBERS + STRINGS + CASTS + TIMES + ARRAYS + DOCUMENTS


@pytest.mark.parametrize(("expression", "value"), SCALARS, ids=[case[0] for case in SCALARS])
def test_expression_has_googlesqls_value(ask, expression, value):
    ((answer,),) = ask(f"SELECT {expression}").rows
    if isinstance(value, float):
        assert type(answer) is float
        assert answer == pytest.approx(value, rel=1e-12)
    else:
        assert answer == value
        assert type(answer) is type(value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1 / 0", "division by zero"),
        ("1.5 / 0.0", "division by zero"),
        ("id / (id - 1)", "division by zero"),
        ("seconds / (seconds - 1.5)", "division by zero"),
        ("DIV(1, 0)", "division by zero"),
        ("MOD(1, id - 1)", "division by zero"),
        ("[1][OFFSET(1)]", "out of bounds"),
        ("[1][OFFSET(-1)]", "out of bounds"),
        ("[1][ORDINAL(0)]", "out of bounds"),
        ("tags[OFFSET(0)]", "out of bounds"),
        ("9223372036854775807 + id", "Overflow"),
        ("9223372036854775807 * 2", "Overflow"),
        ("CAST('1.5' AS INT64)", "not an INT64"),
        ("CAST('1' AS BOOL)", "neither true nor false"),
        ("CAST(1e30 AS INT64)", "out of range"),
        ("SQRT(-1)", "negative"),
        ("LN(0)", "not above 0"),
        ("LOG(-1)", "not above 0"),
        ("POW(-1, 0.5)", "no finite number"),
        ("EXP(1000)", "too large"),
        ("SUBSTR('abc', 1, -1)", "negative"),
        ("REPEAT('a', -1)", "negative"),
        ("LPAD('a', -1)", "negative"),
        ("GENERATE_ARRAY(1, 2, 0)", "step is 0"),
        ("GENERATE_DATE_ARRAY('2024-01-01', '2024-01-02', INTERVAL 0 DAY)", "step is 0"),
        ("(SELECT b.id FROM ci.builds b)", "More than one row"),
        ("DATE_ADD(ts, INTERVAL 1 DAY)", "wants a DATE"),
        ("DATE '2024-13-01'", "date"),
        ("PARSE_DATE('%Y', 'x')", "parse"),
        ("TIMESTAMP_TRUNC(ts, DAY, 'Mars/Base')", "TimeZone"),
    ],
)
def test_what_is_an_error_in_googlesql_is_an_error(ask, expression, message):
    with pytest.raises(duckdb.Error, match=message):
        ask(f"SELECT {expression} FROM ci.builds")


def test_sum_that_does_not_fit_is_an_error(ask):
    with pytest.raises(duckdb.Error, match="out of range"):
        ask("SELECT SUM(x) FROM UNNEST([9223372036854775807, 1]) AS x")


def test_condition_guards_a_division(ask):
    assert ask("SELECT IF(id = 1, 0, 1 / (id - 1)) FROM ci.builds ORDER BY id").rows == [
        (0.0,), (1.0,), (0.5,), (pytest.approx(1 / 3),)
    ]  # fmt: skip


def test_one_quantile_is_computed_alone(ask):
    asked = ask("SELECT APPROX_QUANTILES(seconds, 100)[OFFSET(95)] FROM ci.builds")
    assert asked.rows == [(4.0,)]
    assert asked.translation.sql.count("quantile") == 1
    assert "[" not in asked.translation.sql
