"""Rows as CSV that any reader reads back."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam

from eventmill.beam.rows import as_dict
from eventmill.wire.rows_text import cell_value


class ConvertToCSV(beam.CombineFn):
    """All rows as one text: ``rows | beam.CombineGlobally(ConvertToCSV(header))``.

    Rows are dicts, NamedTuples or lists. Values that hold a comma, a quote or a line's end are
    quoted (RFC 4180, with lines that end in a newline). None is empty. Lines are sorted, so that
    the text does not depend on the order of the input.
    """

    def __init__(self, header: Sequence[str] | None = None) -> None:
        """Prepare.

        Args:
            header: names of the columns, also the first line, once, with or without rows; dicts
                are written in its order, with an empty cell for a key that a row lacks. None: no
                such line, and dicts are written in the order of their sorted keys.
        """
        self._header = None if header is None else list(header)

    def create_accumulator(self) -> list[str]:
        """Return no lines."""
        return []

    def add_input(self, accumulator: list[str], row: object) -> list[str]:
        """Add the line of one row; ValueError when it does not fit the header."""
        accumulator.append(self._line(self._cells(row)))
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[list[str]]) -> list[str]:
        """Return the lines of all."""
        return [line for lines in accumulators for line in lines]

    def extract_output(self, accumulator: list[str]) -> str:
        """Return the text."""
        head = [] if self._header is None else [self._line(self._header)]
        return "".join([*head, *sorted(accumulator)])

    def _cells(self, row: object) -> Sequence[object]:
        if isinstance(row, (list, tuple)) and not hasattr(row, "_asdict"):
            if self._header is not None and len(row) != len(self._header):
                raise ValueError(f"{row!r} has {len(row)} cells, and the header {self._header}")
            return row
        cells: Mapping[str, Any] = as_dict(row)
        if self._header is None:
            return [cells[name] for name in sorted(cells)]
        if unknown := sorted(set(cells) - set(self._header)):
            raise ValueError(f"{unknown[0]!r} of {row!r} is not in the header {self._header}")
        return [cells.get(name) for name in self._header]

    @staticmethod
    def _line(cells: Sequence[object]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([cell_value(cell) for cell in cells])
        return text.getvalue()
