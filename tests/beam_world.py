"""A workflow with a Beam body, in a folder of a test: builds of each builder, within a slot."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

import pyarrow as pa
from store_world import BUILDS, FIRST_SECOND

from eventmill.schema.compile import compile_protos
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import TableId
from eventmill.workflow.definition import WorkflowDefinition, WorkflowInput
from eventmill.workflow.every_slots import EverySlots

ROOT = Path(__file__).resolve().parent.parent
BEAM_PYTHON = ROOT / ".venv-beam" / "bin" / "python"
HOUR = 3_600
SLOT = (FIRST_SECOND - FIRST_SECOND % HOUR, FIRST_SECOND - FIRST_SECOND % HOUR + HOUR)
OUTPUT = TableId("local", "agg", "builders")
PROTO = """
syntax = "proto3";
package agg;
message Builder {
  optional string builder = 1;
  optional int64 builds = 2;
  repeated int64 numbers = 3;
}
"""
PIPELINE = """
from eventmill.beam import Count, FoldedCombine, Union

class PerBuilder(FoldedCombine):
    folds = {"builds": Count(), "numbers": Union()}

    def key(self, row):
        if row["builder"] == "broken":
            raise ValueError("a broken builder")
        return (row["builder"],) if row["builder"] else None

    def parts(self, row):
        return {"builds": row, "numbers": [row["number"]]}

    def row(self, key, values):
        return {"builder": key[0], **values}

def build(pipeline, inputs, slot):
    return inputs["ci.builds"] | PerBuilder()
"""


def definition(folder, pipeline=PIPELINE, *, slot_by="ended_at", timeout_seconds=60.0):
    """Write a workflow into ``folder`` and return its definition."""
    folder.mkdir(exist_ok=True)
    (folder / "builders.proto").write_text(PROTO)
    (folder / "pipeline.py").write_text(textwrap.dedent(pipeline))
    descriptors = compile_protos([str(folder / "builders.proto")])
    return WorkflowDefinition(
        name="builds_per_builder",
        folder=str(folder),
        owner="ci-team@example.com",
        description="",
        inputs=(WorkflowInput(BUILDS, slot_by),),
        output=spec_from_proto(OUTPUT, descriptors, "agg.Builder"),
        timetable=EverySlots(HOUR),
        bodies=("beam",),
        sql=None,
        pipeline_path=str(folder / "pipeline.py"),
        start_at_seconds=None,
        timeout_seconds=timeout_seconds,
    )


def build_rows(rows):
    """Return rows of ``ci.builds`` as Arrow: (number, builder, seconds after the slot's start)."""
    numbers, builders, seconds = zip(*rows, strict=True) if rows else ((), (), ())
    ended = [(SLOT[0] + second) * 1_000_000 for second in seconds]
    return pa.table(
        {
            "number": pa.array(numbers, pa.int64()),
            "builder": pa.array(builders, pa.string()),
            "ended_at": pa.array(ended, pa.timestamp("us", tz="UTC")),
        }
    )


def is_running(pid):
    """Tell whether a process runs; one that has ended and waits for its parent does not."""
    told = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(told.stdout.strip()) and not told.stdout.strip().startswith("Z")
