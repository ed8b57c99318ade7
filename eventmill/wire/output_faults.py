"""What does not fit of a workflow's rows, collected column by column and told at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from eventmill.base.errors import OutputError
from eventmill.schema.table import TableId

RowNumbers = Callable[[pa.Array], pa.Array]
"""From places in an array, which may be the elements of lists, to the rows that they are of."""
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Spot:
    """Where in the rows an array stands."""

    path: str
    """Of its column, dotted."""
    rows: RowNumbers

    def below(self, name: str, rows: RowNumbers | None = None) -> Spot:
        """Return the spot of a field in a record that stands here."""
        return Spot(f"{self.path}.{name}" if name else self.path, rows or self.rows)


class OutputFaults:
    """Faults of one table of rows, in the order in which they were found, each once."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, path: str, text: str) -> None:
        """Note what is wrong with a column as a whole."""
        self._found.setdefault(f"{path}: {text}", (0, ""))

    def add_rows(
        self, spot: Spot, is_bad: pa.BooleanArray, what: str, values: pa.Array | None = None
    ) -> None:
        """Note single rows of a column, where any is marked.

        Args:
            spot: where ``values`` stand.
            is_bad: which of them are wrong; null: not.
            what: in words, as of several rows.
            values: of which one is shown; None: it would say no more.
        """
        places = pc.indices_nonzero(is_bad)
        if not len(places):
            return
        rows = pc.unique(spot.rows(places))
        shown = f"{_shown(values, places[0].as_py())} in " if values is not None else ""
        example = f", such as {shown}row {rows[0].as_py()}"
        word = f"{spot.path}: {what}"
        count, first = self._found.get(word, (0, example))
        self._found[word] = (count + len(rows), first)

    def settle(self, table: TableId) -> None:
        """Raise OutputError with all that was noted, or return when that is nothing."""
        if not self._found:
            return
        lines = [
            f"  {word}" + (f": {_rows(count)}{example}" if count else "")
            for word, (count, example) in self._found.items()
        ]
        raise OutputError("\n".join([f"the rows do not fit {table}:", *lines]))


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _shown(values: pa.Array, place: int) -> str:
    """Return one value for people."""
    value = values[place]
    try:
        text = repr(value.as_py())
    except (ValueError, OverflowError):  # a moment that no datetime can be
        text = str(getattr(value, "value", value.type))
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}..."
    return text
