"""Thirty-seven bad events, planted among the flights: each must end in quarantine, none be lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message

from eventmill.client.uploader import Uploader
from eventmill.schema.table import Table
from eventmill.wire.batch import Batch
from eventmill.wire.sink import Sink
from eventmill.wire.verdict import Verdict, join_verdicts

FAULTS_COUNT = 37

_WRONG_TYPE = 12
_UNKNOWN_FIELD = 8
_OUT_OF_RANGE = 6
_INVALID_UTF8 = 6
_NO_MESSAGE = 5
_YEAR_10000 = 253_402_300_800
"""Seconds since 1970 at its beginning."""


def put_faults(sink: Sink, table: Table, flight: Callable[..., Message]) -> Verdict:
    """Put the bad events, and return what the sink says of them.

    Some are rows, as a script without generated code sends them; some are bytes, as a sender
    in another language or a broken cable might.

    Args:
        sink: where they go.
        table: ``demo.flights``, as it is there.
        flight: makes a ``demo.Flight`` of its fields.
    """
    rows = _rows()
    names = [f"planted-row-{number}" for number in range(len(rows))]
    of_rows = Uploader(sink, table.id).put(rows, insert_ids=names)
    events = _events(flight)
    ids = [f"planted-bytes-{number}".encode() for number in range(len(events))]
    of_events = sink.put(Batch.build(table.id, table.spec.fingerprint, ids, events))
    return join_verdicts((of_rows, of_events))


def _rows() -> list[dict[str, Any]]:
    hour = datetime(2013, 2, 9, 12, tzinfo=UTC)
    good = {"time_hour": hour, "carrier": "UA", "origin": "EWR", "dest": "IAH"}
    wrong = [{**good, "flight": f"about {number}"} for number in range(_WRONG_TYPE)]
    unknown = [{**good, "gate": f"C{number}"} for number in range(_UNKNOWN_FIELD)]
    return wrong + unknown


def _events(flight: Callable[..., Message]) -> list[bytes]:
    good = flight(carrier="UA", origin="EWR", dest="IAH").SerializeToString()
    # The text of field 5, which must be UTF-8, begins with a byte that UTF-8 never has.
    latin = [good.replace(b"UA", b"\xff" + b"%d" % number) for number in range(_INVALID_UTF8)]
    # A timestamp column ends with the year 9999.
    late = [
        flight(carrier="UA", time_hour={"seconds": _YEAR_10000 + number}).SerializeToString()
        for number in range(_OUT_OF_RANGE)
    ]
    # A message that ends in the middle of field 1, which says that it has 127 bytes.
    torn = [good + b"\x0a\x7f" + bytes(number) for number in range(_NO_MESSAGE)]
    return latin + late + torn
