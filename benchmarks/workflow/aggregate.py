"""``cq_attempts`` over all events as one slot: by SQL, by hand in DuckDB, and by Beam."""

import os
import re
from pathlib import Path

import duckdb

from benchmarks.pairs import Measure, pair
from benchmarks.workflow.world import timed
from eventmill.workflow.beam import BeamOptions
from eventmill.workflow.slot_run import run_slot

BEAM_PYTHON = Path(__file__).parent.parent.parent / ".venv-beam" / "bin" / "python"
_HERE = Path(__file__).parent


class ByHand:
    """Somebody's script: DuckDB over the same files, rows to zstd Parquet, and the counts."""

    def __init__(self, world):
        low, high = (second * 1_000_000 for second in world.slot)
        self._values = {"files": world.files(), "low": low, "high": high}
        self._out = os.path.join(world.folder, "by_hand.parquet")
        self._rows = (_HERE / "by_hand.sql").read_text()
        self._counts = (_HERE / "by_hand_counts.sql").read_text()
        self._db = duckdb.connect()
        self.counts = {}

    def run(self):
        """Make the rows and the counts."""
        copy = f"COPY ({self._rows}) TO '{self._out}' (FORMAT parquet, COMPRESSION zstd)"
        self._db.execute(copy, self._values)
        answer = self._db.execute(self._counts, self._values)
        names = [column[0] for column in answer.description]
        (values,) = answer.fetchall()
        self.counts = dict(zip(names, values, strict=True))

    def rows(self):
        """Return the rows, sorted."""
        return sorted_rows(self._db.sql(f"FROM '{self._out}'").to_arrow_table())


def sorted_rows(table):
    """Return the rows of the output in an order of their own."""
    names = ("attempt_start_msec", "cq_name", "issue", "patchset")
    return sorted(table.to_pylist(), key=lambda row: [row[name] for name in names])


def stored_rows(world):
    """Return what the output table has."""
    sql = f"SELECT * FROM {world.definition.output.table.dataset}.cq_attempts"
    return sorted_rows(world.store.query(sql, row_limit=None).to_arrow())


def bench_sql(world, runs, at_most):
    """Yield the SQL body through ``run_slot`` beside the script, in turns."""
    script = ByHand(world)
    results = []

    def workflow():
        results.append(
            run_slot(
                world.definition, world.store, world.slot, generation=world.next_generation(),
                body="sql", log=lambda _: None,
            )
        )  # fmt: skip

    workflow()
    script.run()  # once each, for the caches
    ours, by_hand = [], []
    for turn in range(runs):
        first, second = (workflow, ours), (script.run, by_hand)
        for call, taken in (first, second) if turn % 2 else (second, first):
            taken.append(timed(call)[0])
    rows = stored_rows(world)
    assert rows == script.rows()
    assert len(rows) == results[-1].output_rows
    assert script.counts.items() <= results[-1].counts.items()
    yield Measure("events", world.events, "events")
    yield Measure("attempts that they make", len(rows), "rows")
    yield pair("cq_attempts by SQL, run_slot / DuckDB by hand", ours, by_hand, "s", at_most=at_most)
    world.sql_seconds = sorted(ours)[len(ours) // 2]


def bench_beam(world):
    """Yield the Beam body on the FnApiRunner beside the SQL body, through ``run_slot`` as well."""
    by_sql = stored_rows(world)
    lines = []

    def beam():
        run_slot(
            world.definition, world.store, world.slot, generation=world.next_generation(),
            body="beam", log=lines.append, beam=BeamOptions(python=str(BEAM_PYTHON)),
        )  # fmt: skip

    taken, _ = timed(beam)
    assert stored_rows(world) == by_sql
    ours = [world.sql_seconds]
    yield pair("cq_attempts by Beam, FnApiRunner / by SQL", [taken], ours, "s", at_least=20)
    (inner,) = re.findall(r"is done in ([0-9.]+) s", "\n".join(lines))
    yield pair("its pipeline alone, without its process / by SQL", [float(inner)], ours, "s")
