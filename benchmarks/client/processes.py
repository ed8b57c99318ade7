"""Processes of a benchmark: the sink, and one for each contender, in its own environment."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from eventmill.schema.compile import compile_protos
from eventmill.schema.document import table_to_json
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import TableId
from eventmill.store.memory import MemoryStore

ROOT = Path(__file__).resolve().parents[2]
PEERS_PYTHON = ROOT / ".cache" / "peers" / "bin" / "python"
TABLE = TableId("local", "bench", "builds")


def spec():
    """Return the definition of the table that the events are for."""
    proto = Path(__file__).with_name("build.proto")
    return spec_from_proto(TABLE, compile_protos([str(proto)]), "bench.Build", partitioning=None)


class Bench:
    """The files that sinks and contenders are given; a context manager."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="bench-client-")
        self.events = os.path.join(self.folder, "build.binpb")
        self.table = os.path.join(self.folder, "table.json")
        definition = spec()
        Path(self.events).write_bytes(definition.descriptor_set)
        Path(self.table).write_text(json.dumps(table_to_json(MemoryStore().apply(definition))))
        return self

    def __exit__(self, *exc):
        shutil.rmtree(self.folder)

    def spool(self):
        """Return a new folder for what a contender keeps on disk."""
        return tempfile.mkdtemp(dir=self.folder)

    @contextlib.contextmanager
    def sink(self, port=0):
        """Run the trivial sink; yields its URL."""
        command = [sys.executable, "-m", "benchmarks.client.sink", str(port), self.table]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            yield f"http://127.0.0.1:{child.stdout.readline().strip()}"
        finally:
            child.kill()
            child.wait()
            child.stdout.close()

    def command(self, module, **given):
        """Return the command that runs ``module`` for the contender that ``given`` names."""
        given["events"] = self.events
        return [
            str(python_of(given["contender"])),
            "-m",
            f"benchmarks.client.{module}",
            json.dumps(given),
        ]

    def run(self, module, **given):
        """Run ``module`` to its end and return the JSON that it printed."""
        done = subprocess.run(
            self.command(module, **given),
            cwd=ROOT,
            env=loopback_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{given['contender']} ended with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)


def python_of(contender):
    """Return the Python whose environment has the contender's library."""
    return Path(sys.executable) if contender in OWN else PEERS_PYTHON


OWN = ("eventmill",)
"""Contenders of the product's own environment."""


def loopback_environment():
    """Return the environment of a contender: no proxy stands between it and the sink."""
    return {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def counts(url):
    """Return what has come to the sink at ``url``."""
    with urllib.request.urlopen(f"{url}/counts", timeout=60) as answer:
        return json.load(answer)


def free_port():
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
