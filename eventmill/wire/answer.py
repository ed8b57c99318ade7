"""A query's answer: typed columns and rows, from any store and over any hop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from eventmill.base.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class QueryStats:
    """What answering took."""

    seconds: float
    bytes_scanned: int
    """Bytes of the files and log segments that the query had to open, after partition pruning;
    an upper bound, as columns that are not named are not read."""
    truncated: bool
    """Whether rows beyond the row limit were left out."""
    row_limit: int


class QueryResult:
    """Rows of an answer. Holds an Arrow table; iterating yields one dict a row."""

    def __init__(self, table: pa.Table, stats: QueryStats) -> None:
        self._table = table
        self.stats = stats

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._table.to_batches(max_chunksize=1024):
            yield from batch.to_pylist()

    def __repr__(self) -> str:
        return f"<QueryResult [{len(self)} rows: {', '.join(self.column_names)}]>"

    @property
    def column_names(self) -> Sequence[str]:
        """Names of the columns, in order."""
        return list(self._table.column_names)

    def to_arrow(self) -> pa.Table:
        """Return the answer as an Arrow table."""
        return self._table

    def to_pandas(self) -> Any:  # noqa: ANN401 - pandas has no types here
        """Return the answer as a pandas DataFrame; UsageError when pandas is not installed."""
        _require("pandas")
        return self._table.to_pandas()

    def to_polars(self) -> Any:  # noqa: ANN401 - nor has polars
        """Return the answer as a polars DataFrame; UsageError when polars is not installed."""
        _require("polars")
        import polars  # an optional guest of the caller's

        return polars.from_arrow(self._table)


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise UsageError(
            f"to_{package}() needs the package {package}: `pip install {package}`, or take the"
            " rows with to_arrow() or by iterating"
        )
