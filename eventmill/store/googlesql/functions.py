"""The allow list: every function that the embedded store knows, by its GoogleSQL name."""

from __future__ import annotations

from eventmill.store.googlesql.aggregates import AGGREGATES, WINDOWS
from eventmill.store.googlesql.arrays import ARRAYS
from eventmill.store.googlesql.call import Rules
from eventmill.store.googlesql.documents import DOCUMENTS
from eventmill.store.googlesql.numeric import NUMBERS
from eventmill.store.googlesql.strings import STRINGS
from eventmill.store.googlesql.timeformats import TIME_FORMATS
from eventmill.store.googlesql.times import TIMES

FUNCTIONS: Rules = {
    **STRINGS,
    **NUMBERS,
    **TIMES,
    **TIME_FORMATS,
    **ARRAYS,
    **DOCUMENTS,
    **AGGREGATES,
    **WINDOWS,
}

INSTEAD = {
    "FORMAT": "use CONCAT, ROUND and LPAD",
    "FARM_FINGERPRINT": "use TO_HEX(MD5(x))",
    "RAND": "the same query gives the same answer here; order by a hash such as MD5(x)",
    "GENERATE_UUID": "the same query gives the same answer here",
    "SESSION_USER": "the embedded store has no users",
    "TO_JSON_STRING": "name the columns you need",
    "CONTAINS_SUBSTR": "use STRPOS(LOWER(x), 'text') > 0",
    "SPLIT_PART": "use SPLIT(x, ',')[SAFE_OFFSET(n)]",
    "DATE_PART": "use EXTRACT(part FROM x)",
    "NOW": "use CURRENT_TIMESTAMP()",
    "MEDIAN": "use APPROX_QUANTILES(x, 2)[OFFSET(1)]",
    "LEN": "use LENGTH(x)",
}
"""What to write in place of functions that people try first."""
