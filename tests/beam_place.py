"""Pipelines of tests: on the FnApiRunner, named; their rows come back as lists."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import apache_beam as beam
from apache_beam.internal import pickler
from apache_beam.testing.test_pipeline import TestPipeline

from eventmill.beam.counters import counts_of
from eventmill.beam.events_pipeline import RUNNER


def test_pipeline():
    """Return an empty pipeline."""
    return TestPipeline(runner=RUNNER)


test_pipeline.__test__ = False


def run_rows(pipeline, **collections):
    """Run ``pipeline`` now; return the elements of each collection by name, and ``counts``."""
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in collections.items():
            encoded = rows | f"Text of {name}" >> beam.Map(lambda row: pickler.dumps(row).decode())
            _ = encoded | f"Write {name}" >> beam.io.WriteToText(f"{folder}/{name}")
        result = pipeline.run()
        result.wait_until_finish()
        found = {
            name: [
                pickler.loads(line.encode())
                for path in sorted(Path(folder).glob(f"{name}-*"))
                for line in path.read_text().splitlines()
            ]
            for name in collections
        }
    return {**found, "counts": counts_of(result)}


def json_lines(path):
    """Return the documents of a file, one a line."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
