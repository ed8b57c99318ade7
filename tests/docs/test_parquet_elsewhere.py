"""The programs of docs/bigquery.md that read a table's Parquet count what the store counts."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from eventmill.cli.main import run
from eventmill.client.uploader import Uploader
from eventmill.schema.compile import compile_protos
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import Partitioning, TableId
from eventmill.store.local.compaction import MERGE_FILES_MIN, compact_once
from eventmill.store.local.store import LocalStore

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "bigquery.md").read_text("utf-8")
SECTION = PAGE.partition("## The same Parquet elsewhere\n")[2]
BUILDS = TableId("local", "ops", "builds")
FIRST = """\
syntax = "proto3";
package ops;
import "google/protobuf/timestamp.proto";
message Step { string name = 1; int64 us = 2; google.protobuf.Timestamp began_at = 3; }
message Build {
  string builder = 1;
  google.protobuf.Timestamp ended_at = 2;
  double seconds = 3;
  repeated string tags = 4;
  repeated Step steps = 5;
}
"""
SECOND = FIRST.replace("began_at = 3; }", "began_at = 3; string host = 4; }").replace(
    "steps = 5;", "steps = 5;\n  optional string branch = 6;"
)
ROUNDS = MERGE_FILES_MIN + 1
SQL = """
    SELECT COUNT(*) AS n, COUNT(branch) AS branches, SUM(seconds) AS seconds,
        UNIX_MICROS(MIN(ended_at)) AS first, UNIX_MICROS(MAX(ended_at)) AS last,
        SUM(ARRAY_LENGTH(tags)) AS tags, SUM(ARRAY_LENGTH(steps)) AS steps,
        SUM((SELECT SUM(s.us) FROM UNNEST(steps) AS s)) AS us,
        SUM((SELECT COUNT(s.host) FROM UNNEST(steps) AS s WHERE s.host <> '')) AS hosts
    FROM ops.builds"""
POLARS = """
step = builds.select(polars.col("steps").explode().struct.unnest())
one = lambda frame: frame.collect().to_dicts()[0]
column = polars.col
print(json.dumps({
    **one(builds.select(
        polars.len().alias("n"), column("branch").count().alias("branches"),
        column("seconds").sum(), column("tags").list.len().sum(), column("steps").list.len().sum(),
        column("ended_at").min().dt.epoch("us").alias("first"),
        column("ended_at").max().dt.epoch("us").alias("last"),
    )),
    **one(step.select(column("us").sum(), (column("host") != "").sum().alias("hosts"))),
}))
"""
SPARK = """
found = spark.sql('''
    SELECT COUNT(*) AS n, COUNT(branch) AS branches, SUM(seconds) AS seconds,
        unix_micros(MIN(ended_at)) AS first, unix_micros(MAX(ended_at)) AS last,
        SUM(size(tags)) AS tags, SUM(size(steps)) AS steps,
        SUM(aggregate(steps, 0L, (sum, step) -> sum + step.us)) AS us,
        SUM(size(filter(steps, step -> step.host <> ''))) AS hosts
    FROM builds
''').first().asDict()
found["workers"] = spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1
print(json.dumps(found))
home = os.path.dirname(pyspark.__file__)
work = os.path.join(home, "work", spark.sparkContext.applicationId)
spark.stop()
shutil.rmtree(work, ignore_errors=True)
"""


def program(tool: str) -> str:
    """Return the example of the page that imports ``tool``."""
    found = re.findall(r"^```py\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
    (chosen,) = [text for text in found if f"{tool}" in text]
    return chosen


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A folder with the table's files as the page says, beside it the store; what it counts."""
    folder = tmp_path_factory.mktemp("lake")
    data = str(folder / "eventmill-data")
    with LocalStore.open(data) as store:
        for turn in range(ROUNDS):
            text = FIRST if turn < 2 else SECOND
            (folder / "builds.proto").write_text(text)
            compiled = compile_protos([str(folder / "builds.proto")])
            partitioning = Partitioning(column="ended_at")
            store.apply(spec_from_proto(BUILDS, compiled, "ops.Build", partitioning=partitioning))
            assert Uploader(store, BUILDS).put(rows(turn, is_second=text is SECOND)).ok
            store.seal()
            assert compact_once(data).errors == []
        # One more of the second definition than are merged, so that small files are left.
        assert Uploader(store, BUILDS).put(rows(ROUNDS, is_second=True)).ok
        store.seal()
        assert compact_once(data).errors == []
        (counted,) = store.query(SQL)
    (command,) = re.findall(r"^eventmill (table files .*)$", SECTION, re.MULTILINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run([*shlex.split(command), "--store", data, "-o", "files.ndjson"]) == 0
    listed = [json.loads(line) for line in (folder / "files.ndjson").read_text().splitlines()]
    assert sum(file["rows"] for file in listed) == counted["n"]
    return folder, dict(counted)


def rows(turn: int, *, is_second: bool) -> list[dict]:
    made = []
    for number in range(30):
        step = {"name": "fetch", "us": number, "began_at": f"2026-11-0{1 + number % 3}T00:00:00Z"}
        row = {
            "builder": f"b{turn}",
            "ended_at": f"2026-11-0{1 + number % 3}T12:00:{number:02}.{turn:06}Z",
            "seconds": number / 4,
            "tags": ["a", "b"][: number % 3],
            "steps": [step] * (number % 4),
        }
        if is_second:
            row["branch"] = "main"
            row["steps"] = [{**step, "host": "h1" if number % 2 else ""}] * (number % 4)
        if number == 0:
            del row["ended_at"]  # its partition is that of no time
        made.append(row)
    return made


def counts_of(code: str, folder: Path) -> dict:
    """Run a program in ``folder``; return the JSON of its last line."""
    imports = "import json, os, shutil\n"
    done = subprocess.run(
        [sys.executable, "-c", imports + code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_folder_itself_holds_merged_rows_twice(lake):
    """What the page warns of is so: without `table files` some rows would count twice."""
    folder, counted = lake
    below = list(
        (folder / "eventmill-data" / "tables").glob("local.ops.builds.*/lake/**/*.parquet")
    )
    linked = list((folder / "builds-parquet").glob("**/*.parquet"))
    assert len(below) >= len(linked) + MERGE_FILES_MIN
    assert {path.parent.name for path in linked} == {
        f"DAY={day}" for day in ("2026-11-01", "2026-11-02", "2026-11-03", "__NULL__")
    }
    assert counted["n"] == 30 * (ROUNDS + 1)
    assert 0 < counted["branches"] < counted["n"]
    assert 0 < counted["hosts"] < counted["steps"]


def test_polars_counts_what_the_store_counts(lake):
    folder, counted = lake
    assert counts_of(program("polars") + POLARS, folder) == counted


@pytest.mark.slow
def test_spark_counts_what_the_store_counts_as_a_cluster_of_two_workers(lake):
    folder, counted = lake
    cluster = (
        '"local-cluster[2,1,1024]")'
        '.config("spark.ui.enabled", "false").config("spark.driver.host", "127.0.0.1")'
        '.config("spark.driver.bindAddress", "127.0.0.1").config("spark.sql.shuffle.partitions", 2)'
        # Five short stages are over before a compiler has paid for itself.
        '.config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1")'
        '.config("spark.executor.extraJavaOptions", "-XX:TieredStopAtLevel=1")'
    )
    code = "import pyspark\n" + program("pyspark").replace('"local[2]")', cluster)
    assert "local-cluster" in code
    assert counts_of(code + SPARK, folder) == {**counted, "workers": 2}
