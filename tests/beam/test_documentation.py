"""The examples of docs/beam.md do what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from types import ModuleType

import apache_beam as beam
from apache_beam.testing import test_pipeline as beam_testing
from apache_beam.testing.util import assert_that, equal_to
from beam_place import run_rows, test_pipeline
from beam_world import ROOT, definition
from hypothesis import given
from hypothesis import strategies as st

import eventmill.beam
from eventmill.beam import BeamSlot, check_merge_laws
from eventmill.beam.folds import Fold
from eventmill.store.local.store import LocalStore
from eventmill.store.slots import SlotKey
from eventmill.wire.columns_arrow import arrow_schema_of

PAGE = (ROOT / "docs" / "beam.md").read_text("utf-8")
PIPELINE, FOLDED, PROGRAM, TESTS = re.findall(
    r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
)
EVENTS = [{"builder": "linux"}, {"builder": None}, {"builder": "linux"}]


def run_text(text, **names):
    module = ModuleType("pipeline")
    module.__dict__.update(names)
    exec(compile(text, "docs/beam.md", "exec"), module.__dict__)
    return module


def test_the_first_pipeline_counts():
    module = run_text(PIPELINE)
    pipeline = test_pipeline()
    inputs = {"ci.builds": pipeline | beam.Create(EVENTS)}
    slot = BeamSlot.of_seconds(0, 3600)
    rows, dead = module.build(pipeline, inputs, slot)
    assert run_rows(pipeline, rows=rows, dead=dead) == {
        "rows": [{"builder": "linux", "builds": 2}],
        "dead": [],
        "counts": {"rows_skipped": 1},
    }


def test_the_tests_of_the_page_pass():
    names = {
        "TestPipeline": beam_testing.TestPipeline,
        "beam": beam,
        "events": EVENTS,
        "CountByBuilder": run_text(PIPELINE).CountByBuilder,
        "assert_that": assert_that,
        "equal_to": equal_to,
        "given": given,
        "st": st,
        "check_merge_laws": check_merge_laws,
    }
    module = run_text(TESTS, **names)
    module.test_the_order_of_builds_does_not_matter()
    assert module.pipeline.result.state == "DONE"


def test_the_folds_of_the_page_are_those_that_there_are():
    folds = {name for name in dir(eventmill.beam) if isinstance(made(name), Fold)}
    assert set(re.findall(r"`([A-Z]\w+)\(\)`", PAGE)) == folds | {"Counters"}
    names = {name: getattr(eventmill.beam, name) for name in [*folds, "FoldedCombine"]}
    assert set(run_text(FOLDED, **names).Attempts.folds) == set(
        re.findall(r'"(\w+)": [A-Z]', FOLDED)
    )


def made(name):
    kind = getattr(eventmill.beam, name)
    return (
        kind() if isinstance(kind, type) and issubclass(kind, Fold) and kind is not Fold else None
    )


def test_the_transforms_of_the_page_are_those_that_there_are():
    told = set(re.findall(r"^\| `(\w+)", PAGE.partition("### KeyedCombine")[0], re.MULTILINE))
    told |= set(re.findall(r"`([A-Z]\w+)\(\)`", PAGE))
    assert told == set(eventmill.beam.__all__) - {"BeamSlot", "Fold"}


def test_the_program_writes_a_file_and_replaces_its_slot(tmp_path):
    store = LocalStore.open(str(tmp_path / "data"))
    output = definition(tmp_path / "workflow").output
    rows = [{"builder": "a, b", "builds": 2, "numbers": []}]
    for name in ("builders", "copies"):
        table = type(output.table)("local", "agg", name)
        store.apply(type(output)(**{**fields_of(output), "table": table}))
    schema = arrow_schema_of(output.columns)
    table = type(output.table)("local", "agg", "builders")
    filled = schema.empty_table().from_pylist(rows, schema)
    store.replace_slot(table, SlotKey("fill", 0, 3600), filled, generation=1)
    store.close()
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", PROGRAM, "--store=data"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("builders.csv-*")
    assert written.read_text() == 'builder,builds\n"a, b",2\n\n'
    reader = LocalStore.open(str(tmp_path / "data"), writer=False)
    copies = list(reader.query("SELECT _insert_id AS id, builder, builds FROM agg.copies"))
    reader.close()
    day = datetime(2026, 1, 2, tzinfo=UTC)
    assert copies == [{"id": f"copies/{day:%Y%m%dT%H%M%SZ}/0", "builder": "a, b", "builds": 2}]


def fields_of(spec):
    return {name: getattr(spec, name) for name in type(spec).__dataclass_fields__}
