"""What an embedded store can be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """Settings of one embedded store; every default is one that loses nothing."""

    segment_bytes: int = 48_000_000
    """A segment is sealed when it has grown to this; it bounds what a query decodes afresh."""
    seal_after_seconds: float = 60.0
    """A segment that holds rows is sealed after this long, so that a quiet table's rows reach
    Parquet too."""
    sealed_bytes_max: int = 512_000_000
    """Bytes of a table that may wait for compaction; beyond it senders are asked to pause."""
    dedup_window_seconds: float = 86_400.0
    """An insert ID seen within this time is answered with *duplicate*; about 100 bytes of memory
    each. 0: never."""
    file_grace_seconds: float = 600.0
    """A file taken out of the lake stays on disk this long for queries that are reading it."""
    compact_every_seconds: float = 1.0
    """How often the compactor looks for sealed segments."""
    query_seconds_max: float | None = 60.0
    """A query is stopped after this long unless its caller says otherwise; None: never."""
    memory_limit: str = ""
    """Memory that one process's queries may use, such as ``4GB``; empty: DuckDB's default of 80 %
    of the machine."""
