"""Answers do not depend on where the machine stands."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
from eventmill.store.memory import MemoryStore
from datetime import datetime, timezone
store = MemoryStore()
(row,) = store.query(
    "SELECT TIMESTAMP '2026-01-01 09:30:00' AS t, FORMAT_TIMESTAMP('%H', @at) AS hour,"
    " CAST(@at AS STRING) AS text, EXTRACT(DAY FROM @at) AS day",
    {"at": datetime(2026, 1, 1, 2, tzinfo=timezone.utc)},
)
print(row["t"].isoformat(), row["hour"], row["text"], row["day"])
"""


@pytest.mark.slow
def test_times_in_sql_are_utc_whatever_the_zone_of_the_machine():
    told = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for zone in ("UTC", "America/New_York", "Asia/Kolkata")
    }
    assert told == {"2026-01-01T09:30:00+00:00 02 2026-01-01 02:00:00+00 1\n"}
