"""A store in a folder with one table, and the command line called within this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from eventmill.cli.main import run

PROTO = """\
syntax = "proto3";
package shop;
import "eventmill/options.proto";
import "google/protobuf/timestamp.proto";
// A thing that was sold.
message Sale {
  option (eventmill.table) = {
    id: "shop.sales"
    partition { field: "sold_at" granularity: "DAY" }
    owner: "till@example.com"
  };
  // What it was.
  string item = 1;
  int64 pieces = 2;
  google.protobuf.Timestamp sold_at = 3;
  optional double price = 4;
}
"""


@dataclass
class Answer:
    """What one call of the command line gave."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict]:
        """The lines of stdout as JSON."""
        return [orjson.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def proto(tmp_path: Path) -> str:
    path = tmp_path / "sale.proto"
    path.write_text(PROTO)
    return str(path)


@pytest.fixture
def call(tmp_path: Path, monkeypatch, capsys):
    """Call ``eventmill`` on a store in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def called(*words: str) -> Answer:
        code = run(list(words))
        told = capsys.readouterr()
        return Answer(code, told.out, told.err)

    return called


@pytest.fixture
def shop(call, proto):
    """The same, with the table ``shop.sales``."""
    applied = call("table", "apply", "--proto", proto, "--message", "shop.Sale", "--yes")
    assert applied.code == 0, applied.err
    return call


@pytest.fixture
def lines(tmp_path: Path):
    """Write lines to a file, and return its path."""

    def written(*content: bytes) -> str:
        path = tmp_path / "events.ndjson"
        path.write_bytes(b"".join(content))
        return str(path)

    return written


@pytest.fixture
def readings(call, tmp_path: Path):
    """The command line with a table whose one column is an array of floats."""
    path = tmp_path / "reading.proto"
    path.write_text(
        'syntax = "proto3";\npackage lab;\n// Readings.\nmessage Reading {\n'
        "  // What was read.\n  repeated double values = 1;\n}\n"
    )
    applied = call(
        *("table", "apply", "--proto", str(path), "--message", "lab.Reading"),
        *("--table", "lab.readings", "--yes"),
    )
    assert applied.code == 0, applied.err
    return call
