"""What a load job does: read an uploaded file, judge every row, store all of them or none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from eventmill.schema.problem import EventProblem
from eventmill.schema.table import Column, Table
from eventmill.server.bigquery.definitions import columns_of
from eventmill.server.bigquery.destinations import Destinations, wish_of
from eventmill.server.bigquery.dialect import KnownNames, bigquery_encoder
from eventmill.server.bigquery.documents import check_keys, number_of
from eventmill.server.bigquery.errors import ApiError, Fault, fault_of, unsupported
from eventmill.server.bigquery.insert_all import without_own
from eventmill.server.bigquery.job_runner import Attempt, Outcome
from eventmill.server.bigquery.load_sources import Source, source_of
from eventmill.server.bigquery.query_work import begins
from eventmill.server.bigquery.row_writer import RowWriter
from eventmill.server.bigquery.uploads import Uploads
from eventmill.store.own_columns import INGESTED_AT, INSERT_ID, OWN_FIELDS
from eventmill.wire.event_limits import event_size_problem

FORMATS = ("NEWLINE_DELIMITED_JSON", "PARQUET")
"""The forms of files that can be loaded."""
_TAKEN = (
    "destinationTable",
    "destinationTableProperties",
    "schema",
    "createDisposition",
    "writeDisposition",
    "schemaUpdateOptions",
    "sourceFormat",
    "autodetect",
    "ignoreUnknownValues",
    "maxBadRecords",
    "timePartitioning",
    "clustering",
)
# What has no meaning for these two formats, or changes nothing here.
_IGNORED = (
    "encoding",
    "fieldDelimiter",
    "quote",
    "skipLeadingRows",
    "allowQuotedNewlines",
    "allowJaggedRows",
    "nullMarker",
    "nullMarkers",
    "parquetOptions",
    "decimalTargetTypes",
    "useAvroLogicalTypes",
    "preserveAsciiControlCharacters",
)
_FAULTS_TOLD_MAX = 10
_OWN = frozenset(field.name for field in OWN_FIELDS)


def check_load(configuration: Mapping[str, Any]) -> None:
    """Refuse by name what a load job says that would not be kept to."""
    if configuration.get("sourceUris"):
        raise unsupported("loading from Cloud Storage (sourceUris)", "upload the file with the job")
    check_keys(configuration, _TAKEN, _IGNORED, "load job")
    if _format_of(configuration) not in FORMATS:
        raise unsupported(
            f"sourceFormat {_format_of(configuration)}", f"load one of {', '.join(FORMATS)}"
        )


def _format_of(configuration: Mapping[str, Any]) -> str:
    return str(configuration.get("sourceFormat") or "CSV").upper()


@dataclass(slots=True)
class _Tally:
    """What was found in a file."""

    read: int = 0
    bad: int = 0
    faults: list[Fault] = field(default_factory=list)


class LoadWork:
    """Runs load jobs."""

    def __init__(self, destinations: Destinations, writer: RowWriter, uploads: Uploads) -> None:
        self._destinations = destinations
        self._writer = writer
        self._uploads = uploads

    def load(self, attempt: Attempt) -> Outcome:
        """Run a load job; its file is removed once it has ended, well or not."""
        upload_id = str(attempt.job.said["upload"])
        path = self._uploads.path(upload_id)
        attempt.at_end.append(lambda: self._uploads.forget(upload_id))
        configuration = attempt.job.configuration["load"]
        source = source_of(path, _format_of(configuration))
        wish = wish_of(configuration, "WRITE_APPEND")
        size = os.path.getsize(path)
        columns: tuple[Column, ...] | None = None
        if configuration.get("schema"):
            columns = columns_of(configuration["schema"])
        tally = _Tally()
        with self._destinations.turn(wish.table):
            # A Parquet file says what its columns are; of JSON text that is guessed, if at all.
            may_tell = configuration.get("autodetect") or _format_of(configuration) == "PARQUET"
            if (
                columns is None
                and may_tell
                and (wish.may_add or not self._destinations.is_there(wish.table))
            ):
                columns = tuple(each for each in source.columns() if each.name not in _OWN)
            is_begun = bool(attempt.job.said.get("begun"))
            found = self._destinations.ready(wish, columns, is_begun=is_begun)
            table = self._destinations.made(attempt.principal, found, wish)
            count = self._writer.write(
                attempt.job.key,
                table,
                _events(source, table, configuration, tally),
                before_first=begins(attempt),
                cancel=attempt.cancel,
                principal=attempt.principal,
            )
        statistics = {
            "inputFiles": "1",
            "inputFileBytes": str(size),
            "outputRows": str(count),
            "outputBytes": str(size),
            "badRecords": str(tally.bad),
        }
        return Outcome(statistics, warnings=tuple(tally.faults))


def _events(
    source: Source, table: Table, configuration: Mapping[str, Any], tally: _Tally
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the good rows as events, with the insert IDs that they bring, empty for none.

    More bad rows than the job allows stop it.
    """
    encoder = bigquery_encoder(table.spec.descriptor_set, table.spec.message)
    encode: Callable[[Any], bytes] = encoder.encode
    if configuration.get("ignoreUnknownValues"):
        known = KnownNames(table.spec.columns)
        encode = lambda row: encoder.encode(known.of(row))  # noqa: E731
    bad_max = number_of(configuration, "maxBadRecords") or 0
    for row in source.rows():
        tally.read += 1
        try:
            if isinstance(row, EventProblem):
                raise row
            insert_id = b""
            if INSERT_ID in row or INGESTED_AT in row:
                row, insert_id = without_own(row)
            event = encode(row)
            problem = event_size_problem(len(event))
            if problem is not None:
                raise problem
        except EventProblem as problem:
            tally.bad += 1
            fault = fault_of(problem)
            place = f"row {tally.read}" + (f", field {fault.location}" if fault.location else "")
            if len(tally.faults) < _FAULTS_TOLD_MAX:
                told = f"Error while reading data, error message: {fault.message} ({place})"
                tally.faults.append(Fault("invalid", told, fault.location))
            if tally.bad > bad_max:
                first = tally.faults[0]
                raise ApiError(
                    400,
                    "invalid",
                    f"{first.message}; {tally.bad} of {tally.read} rows are bad and maxBadRecords"
                    f" is {bad_max}: nothing was stored",
                    first.location,
                ) from None
            continue
        yield insert_id, event
