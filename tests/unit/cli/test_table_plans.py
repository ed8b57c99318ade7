"""Plans of many tables, and plans in files."""

import json
from pathlib import Path

import pytest

FIRST = """\
syntax = "proto3";
package ops;
import "eventmill/options.proto";
import "common.proto";
message Build {
  option (eventmill.table) = { id: "ops.builds" };
  int64 number = 1;
  Common common = 2;
}
message NoTable { string a = 1; }
"""
SECOND = """\
syntax = "proto3";
package ops;
import "eventmill/options.proto";
import "common.proto";
message Test {
  option (eventmill.table) = { id: "ops.tests" };
  string name = 1;
  Common common = 2;
}
"""
COMMON = 'syntax = "proto3"; package ops; message Common { string host = 1; }'


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    folder = tmp_path / "protos"
    (folder / "deep").mkdir(parents=True)
    (folder / "build.proto").write_text(FIRST)
    (folder / "deep" / "test.proto").write_text(SECOND)
    (folder / "common.proto").write_text(COMMON)
    return folder


def apply(call, protos, *more):
    return call("table", "apply", "--proto", str(protos), "-I", str(protos), "--yes", *more)


def test_a_folder_makes_a_table_of_each_message_that_names_one(call, protos):
    made = apply(call, protos)
    assert made.code == 0, made.err
    assert [row["table"] for row in made.rows] == ["local.ops.builds", "local.ops.tests"]
    assert [row["table"] for row in call("table", "list").rows] == [
        "local.ops.builds",
        "local.ops.tests",
    ]
    assert apply(call, protos, "--check").code == 0
    # A table keeps of the files what it needs, so that a change elsewhere is none of its own.
    (protos / "deep" / "test.proto").write_text(SECOND.replace("string name = 1;", ""))
    build, test = apply(call, protos, "--check").rows
    assert (build["action"], test["action"] != "none") == ("none", True) or build["changes"] == []


def test_one_refusal_stops_them_all_and_says_file_and_line(call, protos):
    assert apply(call, protos).code == 0
    (protos / "build.proto").write_text(FIRST.replace("int64 number = 1;", "string number = 1;"))
    changed = SECOND.replace("string name = 1;", "string name = 1; string more = 3;")
    (protos / "deep" / "test.proto").write_text(changed)
    refused = apply(call, protos)
    assert refused.code == 1
    assert "build.proto:7" in refused.err
    assert "local.ops.builds is not changed" in refused.err
    assert [row["version"] for row in call("table", "list").rows] == [1, 1]


def test_flags_about_one_table_are_refused_with_several(call, protos):
    refused = apply(call, protos, "--cluster-by", "number")
    assert refused.code == 2
    assert "--cluster-by" in refused.err
    one = apply(call, protos, "--message", "ops.Build", "--cluster-by", "number")
    assert one.code == 0
    assert call("table", "show", "ops.builds").rows[0]["clustering"] == ["number"]


def test_a_folder_without_tables_and_no_proto_at_all_are_said(call, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no .proto file in" in call("table", "plan", "--proto", str(tmp_path / "empty")).err
    (tmp_path / "common.proto").write_text(COMMON)
    told = call("table", "plan", "--proto", str(tmp_path / "common.proto"))
    assert (told.code, "--message" in told.err) == (2, True)
    assert call("table", "plan").code == 2


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_a_saved_plan_is_carried_out_without_the_proto(call, protos, tmp_path, form):
    path = tmp_path / f"plan.{form}"
    planned = call("table", "plan", "--proto", str(protos), "-I", str(protos), "-o", str(path))
    assert planned.code == 0
    for file in protos.rglob("*.proto"):
        file.unlink()
    assert call("table", "apply", "--plan", str(path), "--check").code == 4
    done = call("table", "apply", "--plan", str(path), "--yes")
    assert done.code == 0, done.err
    assert len(call("table", "list").rows) == 2
    again = call("table", "apply", "--plan", str(path), "--yes")
    assert again.code == 1
    assert "is at version 1, the plan was made on version 0: plan it again" in again.err


def test_a_saved_plan_that_was_edited_or_is_none_is_refused(call, protos, tmp_path):
    path = tmp_path / "plan.ndjson"
    call("table", "plan", "--proto", str(protos), "-I", str(protos), "-o", str(path))
    lines = path.read_text().splitlines()
    edited = json.loads(lines[0])
    edited["wanted"]["owner"] = "me"
    path.write_text(json.dumps(edited))
    assert "plan" in call("table", "apply", "--plan", str(path), "--yes").err
    assert call("table", "list").rows == [] or call("table", "list").code
    path.write_text("nonsense")
    assert call("table", "apply", "--plan", str(path), "--yes").code in (1, 2)
    assert call("table", "apply", "--plan", str(tmp_path / "none"), "--yes").code == 2
    both = call("table", "apply", "--plan", str(path), "--proto", str(protos), "--yes")
    assert (both.code, "no other option" in both.err) == (2, True)


def test_a_table_of_the_store_itself_is_refused_when_it_is_planned(call, proto):
    planned = call(
        *("table", "plan", "--proto", proto, "--message", "shop.Sale"),
        *("--table", "eventmill.quarantine"),
    )
    assert planned.code == 1
    assert "kept by the store itself" in planned.err


def test_two_messages_that_name_one_table_are_both_named(call, tmp_path):
    for name in ("One", "Two"):
        (tmp_path / f"{name}.proto").write_text(
            f'syntax = "proto3";\npackage {name.lower()};\nimport "eventmill/options.proto";\n'
            f'message {name} {{ option (eventmill.table) = {{ id: "a.b" }}; string x = 1; }}\n'
        )
    planned = call("table", "plan", "--proto", str(tmp_path))
    assert planned.code == 2
    assert "one.One and two.Two both name the table local.a.b" in planned.err


def test_show_tells_what_a_query_must_have_and_how_new_the_table_is(shop, proto, lines):
    assert shop("send", "shop.sales", lines(b'{"sold_at": "2026-01-05T06:07:08Z"}\n')).code == 0
    wanted = ("--proto", proto, "--message", "shop.Sale", "--require-partition-filter", "--yes")
    assert shop("table", "apply", *wanted).code == 0
    shown = shop("table", "show", "shop.sales", "--format", "table").out
    assert "DAY of sold_at, kept for good, a query must filter by it" in shown
    assert "newest event  2026-01-05 06:07:08Z" in shown
    assert shop("table", "show", "shop.sales").rows[0]["newest_event_at"].startswith("2026-01-05")
