"""workflow.toml read: what each key means, and what is said of every wrong one."""

from __future__ import annotations

import os
import re

import pytest
from workflow_world import PROTO, SQL, TOML, make_workflow

from eventmill.base.errors import QueryError, UsageError
from eventmill.schema.table import Partitioning, TableId
from eventmill.workflow.cron_slots import CronSlots
from eventmill.workflow.every_slots import EverySlots
from eventmill.workflow.reading import (
    SHIPPED_FOLDER,
    find_workflow,
    list_workflows,
    read_workflow,
)

PIPELINE = "def build(pipeline, inputs, slot):\n    return inputs['ci.builds']\n"


def test_a_folder_becomes_a_definition(tmp_path):
    folder = make_workflow(tmp_path)
    found = read_workflow(str(folder))
    assert found.name == "per-builder"
    assert found.folder == str(folder)
    assert found.owner == "ci-team@example.com"
    assert found.job_name == "dataflow-workflow-per-builder"
    assert [str(one.table) for one in found.inputs] == ["local.ci.builds"]
    assert found.inputs[0].slot_by is None
    assert found.inputs[0].required
    assert found.inputs[0].spec is None
    assert found.output.table == TableId("local", "ci", "builds_per_builder")
    assert [c.name for c in found.output.columns][:2] == ["slot_start", "builder"]
    assert found.timetable == EverySlots(3_600)
    assert (found.bodies, found.sql, found.pipeline_path) == (("sql",), SQL, None)
    assert found.start_at_seconds is None
    defaults = (found.delay_seconds, found.lateness_seconds, found.freshness_seconds)
    assert defaults == (60, 2 * 86_400, None)
    assert (found.retries, found.timeout_seconds, found.missed) == (3, 3_600, "all")
    assert (found.overlap, found.parallel_slots, found.labels) == ("queue", 1, {})


def test_every_key_is_read(tmp_path):
    toml = TOML + '\n[labels]\ncost = "ci"\n'
    schedule = """\
cron = "30 2 * * *"
timezone = "Europe/Berlin"
start = 2026-01-01T00:00:00Z
delay = "1m"
lateness = "3d"
freshness = "20m"
timeout = 90
retries = 0
retry_base = "1s"
missed = "latest"
missed_slots_max = 5
overlap = "skip"
parallel_slots = 2"""
    keys = 'slot_by = "TIMESTAMP_TRUNC(ended_at, HOUR) -- an hour"\nrequired = false'
    folder = make_workflow(
        tmp_path, toml=toml, schedule=schedule, input_keys=keys, files={"pipeline.py": PIPELINE}
    )
    found = read_workflow(str(folder))
    assert found.timetable == CronSlots("30 2 * * *", "Europe/Berlin")
    assert found.start_at_seconds == 1_767_231_000  # 2026-01-01T01:30:00Z, the first slot's start
    assert (found.delay_seconds, found.lateness_seconds) == (60, 3 * 86_400)
    assert (found.freshness_seconds, found.timeout_seconds) == (1_200, 90)
    assert (found.retries, found.retry_base_seconds) == (0, 1)
    assert (found.missed, found.missed_slots_max) == ("latest", 5)
    assert (found.overlap, found.parallel_slots) == ("skip", 2)
    assert found.inputs[0].slot_by == "TIMESTAMP_TRUNC(ended_at, HOUR) -- an hour"
    assert not found.inputs[0].required
    assert found.labels == {"cost": "ci"}
    assert found.bodies == ("sql", "beam")
    assert found.pipeline_path == str(folder / "pipeline.py")


def test_the_output_is_as_the_options_in_its_proto_say(tmp_path):
    proto = PROTO.replace(
        "message PerBuilder {",
        """message PerBuilder {
  option (eventmill.table) = {
    id: "ci.from_options"
    partition { field: "slot_start" granularity: "DAY" expiration_days: 400 }
    clustering: "builder"
    owner: "ci-team@example.com"
  };""",
    ).replace("import", 'import "eventmill/options.proto";\nimport', 1)
    toml = TOML.replace('table = "ci.builds_per_builder"\n', "").replace(
        'message = "ci.PerBuilder"\n', ""
    )
    output = read_workflow(str(make_workflow(tmp_path, toml=toml, proto=proto))).output
    assert str(output.table) == "local.ci.from_options"
    assert output.message == "ci.PerBuilder"
    assert output.partitioning == Partitioning(column="slot_start", expiration_seconds=400 * 86_400)
    assert output.clustering == ("builder",)


def test_protos_import_what_lies_beside_them_and_inputs_have_theirs(tmp_path):
    proto = PROTO.replace('import "google', 'import "parts/status.proto";\nimport "google', 1)
    proto = proto.replace("int64 builds = 3;", "int64 builds = 3;\n  parts.Status status = 5;")
    files = {
        "parts/status.proto": 'syntax = "proto3";\npackage parts;\nenum Status { UNKNOWN = 0; }\n',
        "builds.proto": 'syntax = "proto3";\npackage ci;\nmessage Build { string builder = 1; }\n',
    }
    keys = 'proto = "builds.proto"'
    found = read_workflow(
        str(make_workflow(tmp_path, proto=proto, input_keys=keys, sql=SQL, files=files))
    )
    assert "status" in [column.name for column in found.output.columns]
    spec = found.inputs[0].spec
    assert spec is not None
    assert (str(spec.table), spec.message) == ("local.ci.builds", "ci.Build")


def test_the_same_protos_are_compiled_once(tmp_path, monkeypatch):
    from eventmill.workflow import output_proto

    compiled = []
    real = output_proto.compile_protos
    monkeypatch.setattr(
        output_proto, "compile_protos", lambda *args: compiled.append(args) or real(*args)
    )
    proto = PROTO + "// compiled once\n"
    for name in ("first", "second", "third"):
        read_workflow(str(make_workflow(tmp_path, name, proto=proto)))
    assert len(compiled) == 1
    changed = proto.replace("int64 builds", "int64 number_of_builds")
    found = read_workflow(str(make_workflow(tmp_path, "first", proto=changed)))
    assert "number_of_builds" in [column.name for column in found.output.columns]
    assert len(compiled) == 2


def in_schedule(text, told):
    return {"schedule": text}, f"workflow.toml: schedule.{told}"


def in_sql(text, told):
    return {"sql": text}, f"query.sql: {told}"


def swap(old, new, told):
    assert old in TOML
    return {"toml": TOML.replace(old, new)}, f"workflow.toml: {told}"


WRONG = [
    swap("{name}", "other", "name: 'other' is not the folder's name, 'per-builder'"),
    swap("{name}", "Per_Builder", "name: 'Per_Builder' is no name of a workflow: use 2 to 40"),
    swap('name = "{name}"', "", "name: it is missing: write name = \"per-builder\""),
    swap('name = "{name}"', "name = 1", "name: a whole number is given: write a text"),
    swap('owner = "ci-team@example.com"', 'owner = ""', "owner: it is empty"),
    swap("owner", "ownr", r"ownr: no such key: allowed are .*; did you mean owner\?"),
    swap("[[input]]", "[input]", "input: a table is given: write a list"),
    swap(
        '[[input]]\ntable = "ci.builds"',
        "[[inputs]]",
        r"input: it is missing: add \[\[input.*; there is no key inputs: did you mean input\?",
    ),
    swap('"ci.builds"', '"builds"', r"input\[0\].table: 'builds' is not a table name"),
    swap('"ci.builds"', '"eventmill.audit"', r"input\[0\].table: .*eventmill"),
    swap('"ci.builds"', '"ci.builds"\nslotby = "x"', r"input\[0\].slotby: no such key.*slot_by\?"),
    swap('"ci.builds"', '"ci.builds"\nslot_by = "a +"', r"input\[0\].slot_by: "),
    swap('"ci.builds"', '"ci.builds"\nslot_by = "NOFUN(a)"', r"input\[0\].slot_by: the function "),
    swap(
        '"ci.builds"',
        '"ci.builds"\nslot_by = "(SELECT MAX(t) FROM ci.other)"',
        r"input\[0\].slot_by: it reads other tables than local.ci.builds",
    ),
    swap('"ci.builds"', '"ci.builds"\nproto = "no.proto"', r"input\[0\].proto: no.proto: there is"),
    swap('"ci.builds"', '"ci.builds"\nmessage = "x.Y"', r"input\[0\].message: it needs the key pr"),
    swap('"ci.builds"', '"ci.builds"\n[[input]]\ntable = "ci.builds"', "input: .* is named twice"),
    swap('"ci.builds_per_builder"', '"ci.builds"', "output: .* is an input too"),
    swap("per_builder.proto", "missing.proto", "output.proto: missing.proto: there is no file"),
    swap('proto = "per_builder.proto"\n', "", "output.proto: it is missing"),
    swap('"ci.PerBuilder"', '"ci.Nothing"', "output.proto: .*ci.Nothing"),
    swap('table = "ci.builds_per_builder"\n', "", "output.proto: .*no table is named"),
    swap("[schedule]\n{schedule}", "", "schedule: it is missing"),
    ({"proto": PROTO.replace("int64 builds", "int65 builds")}, r"output.proto: .*int65"),
    ({"proto": PROTO + "message B { int64 a = 1; }", "toml": TOML.replace(
        'message = "ci.PerBuilder"', "")}, "output.proto: .* has ci.PerBuilder, ci.B: say which"),
    in_schedule("", "every: give either every = "),
    in_schedule('every = "1h"\ncron = "0 0 * * *"', "every: give either"),
    in_schedule('evry = "1h"', r"every: give .*; there is no key evry: did you mean every\?"),
    in_schedule('corn = "0 0 * * *"', r"every: give .*; there is no key corn: did you mean cron"),
    in_schedule('every = "1 fortnight"', "every: '1 fortnight' is not a length of time"),
    in_schedule('every = "0s"', "every: '0s' is not a length of time from 1 "),
    in_schedule('every = "1.5s"', "every: 1.5 is not a whole number of seconds"),
    in_schedule("every = true", "every: true or false is given: write a length of time"),
    in_schedule('every = "400d"', "every: slots of 400d"),
    in_schedule('every = "1h"\noffset = "2h"', "every: an offset of 2h"),
    in_schedule('every = "1h"\ntimezone = "UTC"', "timezone: slots of a fixed length"),
    in_schedule('cron = "0 0 * * *"\noffset = "2h"', "offset: it is for every"),
    in_schedule('cron = "0 0 0 * * *"', "cron: .* seconds are not taken"),
    in_schedule('cron = "0 0 * * *"\ntimezone = "Mars/Base"', "cron: 'Mars/Base' is not a time"),
    in_schedule('every = "1h"\nstart = "soon"', "start: 'soon' is not a time"),
    in_schedule('every = "1h"\nstart = 2026-01-01T00:00:00', "start: .* has no time zone"),
    in_schedule('every = "1h"\nstart = 9999-01-01T00:00:00Z', "start: .* has no slot after it"),
    in_schedule('every = "1h"\ndelay = "-5s"', "delay: '-5s' is not a length of time"),
    in_schedule('every = "1h"\nlateness = "999999d"', "lateness: .* from 0 seconds to 36,525 d"),
    in_schedule('every = "1h"\ndelay = nan', "delay: nan is not a length of time"),
    in_schedule('every = "1h"\nfreshness = "1m"', "freshness: a slot cannot be done before"),
    in_schedule('every = "1h"\nretries = -1', "retries: -1 is not from 0 to"),
    in_schedule('every = "1h"\nretries = 1.5', "retries: a number is given: write a whole number"),
    in_schedule('every = "1h"\nmissed = "some"', "missed: 'some' is not one of all, latest, none"),
    in_schedule('every = "1h"\noverlap = "x"', "overlap: 'x' is not one of queue, skip, cancel"),
    in_schedule('every = "1h"\nparallel_slots = 0', "parallel_slots: 0 is not from 1 to 64"),
    in_schedule('every = "1h"\nlatenes = "1h"', r"latenes: no such key.*did you mean lateness\?"),
    in_schedule("every = ", ".*"),
    in_sql("SELECT 1 AS x", "it uses neither @slot_start nor @slot_end"),
    in_sql("SELECT @slot_begin AS x", "the query uses @slot_begin"),
    in_sql("SELECT FROB(@slot_start) AS x", "the function FROB"),
    in_sql("DELETE FROM ci.builds WHERE @slot_start < @slot_end", ""),
    in_sql("SELECT @slot_start AS a; SELECT @slot_end AS b", ""),
    ({"sql": SQL.replace("ci.builds", "ci.tests")}, r"query.sql reads local.ci.tests, which is no"),
    ({"sql": None}, "has no body: write query.sql"),
    ({"toml": TOML + '\n[labels]\na = 1\n'}, "labels.a: a whole number is given: write a text"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), WRONG, ids=[told[-40:] for _, told in WRONG])
def test_a_wrong_folder_says_file_key_reason_and_remedy(tmp_path, changes, told):
    folder = make_workflow(tmp_path, **changes)
    if told.endswith("schedule..*"):
        told = "workflow.toml is not TOML"
    with pytest.raises(UsageError if "query.sql: " not in told else QueryError) as caught:
        read_workflow(str(folder))
    assert str(folder) in str(caught.value)
    assert re.search(told, str(caught.value), re.DOTALL), caught.value


def test_a_broken_folder_is_told_and_hides_no_other(tmp_path):
    make_workflow(tmp_path, "good-one")
    make_workflow(tmp_path, "bad-one", schedule="every = 'x'")
    make_workflow(tmp_path, "no-toml")
    (tmp_path / "no-toml" / "workflow.toml").unlink()
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").write_text("not a workflow")
    found = list_workflows([str(tmp_path), str(tmp_path / "missing")])
    assert [one.name for one in found.definitions] == ["good-one"]
    assert [one.name for one in found.broken] == ["bad-one", "no-toml"]
    assert "schedule.every" in found.broken[0].error
    assert "workflow.toml cannot be read" in found.broken[1].error


def test_a_folder_that_cannot_be_looked_into_is_broken(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "notes").mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in path and real(path, mode))
    assert [one.name for one in list_workflows([str(tmp_path)]).broken] == ["closed"]


def test_the_first_folder_that_has_a_name_counts(tmp_path):
    make_workflow(tmp_path / "own", "shared")
    make_workflow(tmp_path / "shipped", "shared")
    make_workflow(tmp_path / "shipped", "alone")
    folders = [str(tmp_path / "own"), str(tmp_path / "shipped")]
    assert find_workflow("shared", folders).folder == str(tmp_path / "own" / "shared")
    assert find_workflow("alone", folders).folder == str(tmp_path / "shipped" / "alone")
    names = [one.name for one in list_workflows(folders).definitions]
    assert names == ["alone", "shared"]
    with pytest.raises(UsageError, match="there are: alone, shared"):
        find_workflow("nothing", folders)


def test_what_ships_can_be_read():
    found = list_workflows([SHIPPED_FOLDER])
    assert found.broken == ()
    assert {"cq_attempts"} <= {one.name for one in found.definitions}


def test_a_file_that_is_no_text_is_told(tmp_path):
    folder = make_workflow(tmp_path)
    (folder / "query.sql").write_bytes(b"SELECT '\xff'")
    with pytest.raises(UsageError, match=r"query\.sql cannot be read as text in UTF-8"):
        read_workflow(str(folder))
    (folder / "workflow.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(UsageError, match=r"workflow\.toml is not TOML"):
        read_workflow(str(folder))
