"""Where a pipeline's rows come from: a store by its address, or Arrow files by table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa

from eventmill.base.errors import TableNotFoundError


class RowSource(Protocol):
    """Answers GoogleSQL. Can be pickled: workers on other machines have one each."""

    def answer(self, sql: str, params: Mapping[str, Any]) -> pa.Table:
        """Return all rows of one query."""
        ...


@dataclass(frozen=True, slots=True)
class StoreSource:
    """The store at an address, opened for reading; its key is what the worker's settings say."""

    address: str

    def answer(self, sql: str, params: Mapping[str, Any]) -> pa.Table:
        """Return all rows of one query (see ``Store.query``)."""
        from eventmill.address import open_store  # opens what the address asks for

        store = open_store(self.address, writer=False)
        try:
            return store.query(sql, params, row_limit=None).to_arrow()
        finally:
            store.close()

    @property
    def is_google(self) -> bool:
        """Whether Beam's own BigQuery connector reaches it."""
        parts = urlsplit(self.address)
        return parts.scheme == "bigquery" and "endpoint" not in parse_qs(parts.query)

    @property
    def project(self) -> str:
        """The project of a ``bigquery://`` address."""
        return urlsplit(self.address).netloc


@dataclass(frozen=True, slots=True)
class FileSource:
    """Arrow files of this machine, one a table."""

    files: Mapping[str, str]
    """Path by full name of the table."""

    def answer(self, sql: str, params: Mapping[str, Any]) -> pa.Table:
        """Return all rows of one query over the files.

        Raises:
            QueryError: the SQL cannot be answered.
            TableNotFoundError: it reads a table that has no file.
        """
        from eventmill.store.engine import Engine, Source  # starts DuckDB: not where it is only
        from eventmill.store.googlesql import translate  # read from a store

        translation = translate(sql, params)
        sources = {}
        for table in translation.tables:
            path = self.files.get(str(table))
            if path is None:
                raise TableNotFoundError(
                    f"there are no rows for the table {table}; there are some for"
                    f" {', '.join(self.files) or 'none'}"
                )
            with pa.memory_map(path) as file:
                sources[table] = Source(pa.ipc.open_file(file).read_all())
        engine = Engine()
        try:
            return engine.run(translation, sources, row_limit=None, timeout_seconds=None).to_arrow()
        finally:
            engine.close()
