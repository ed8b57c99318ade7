"""``eventmill doctor``: each place where the way of an event can end is named."""

from __future__ import annotations

import json

import pytest

from eventmill.base.settings import ServerSettings
from eventmill.server.bigquery_write.listener import WriteListener
from eventmill.server.run import Server
from eventmill.store.local.store import LocalStore


def outcomes(answer):
    """Return outcome by step."""
    return {row["step"]: row["outcome"] for row in answer.rows}


def detail(answer, step):
    (found,) = [row["detail"] for row in answer.rows if row["step"] == step]
    return found


@pytest.fixture
def served(tmp_path):
    with LocalStore.open(str(tmp_path / "served")) as store:
        yield store


@pytest.fixture
def server(served):
    with Server(served, ServerSettings(port=0)) as server:
        yield server


@pytest.fixture
def warehouse(served, server):
    """The options that reach the server by both of BigQuery's APIs."""
    with WriteListener(served, server.access, folder=served.path) as listener:
        yield (
            f"endpoint={server.url}&write_endpoint={listener.address}&write=storage"
            "&own_dataset=warehouse"
        )


ALL_OK = dict.fromkeys(("program", "store", "open", "table", "send", "query"), "ok")


def test_an_event_comes_through_a_folder_that_was_not_there(call, tmp_path):
    checked = call("doctor", "--store", "fresh")
    assert (checked.code, outcomes(checked)) == (0, ALL_OK)
    assert "fresh (flag)" in detail(checked, "store")
    assert "acked after" in detail(checked, "send")
    (row,) = call("query", "--store", "fresh", "SELECT COUNT(*) AS n FROM doctor.tracer").rows
    assert row["n"] == 1


def test_people_read_a_line_a_step_and_programs_their_format(call, tmp_path):
    shown = call("doctor", "--store", "fresh", "--format", "table")
    assert shown.code == 0
    assert [line.split()[:2] for line in shown.out.splitlines()] == [
        ["ok", step] for step in ALL_OK
    ]
    as_json = call("doctor", "--store", "fresh", "--format", "json")
    assert [step["outcome"] for step in json.loads(as_json.out)] == ["ok"] * len(ALL_OK)
    written = call("doctor", "--store", "fresh", "--format", "csv", "-o", "steps.csv")
    assert (written.code, written.out) == (0, "")
    head, *rows = (tmp_path / "steps.csv").read_text().splitlines()
    assert head == "step,outcome,seconds,detail"
    assert len(rows) == len(ALL_OK)


def test_a_server_that_runs_is_passed_and_one_that_does_not_is_told(call, server):
    assert outcomes(call("doctor", "--store", server.url)) == ALL_OK
    url = server.url
    server.stop()
    checked = call("doctor", "--store", url)
    assert checked.code == 1
    assert outcomes(checked)["table"] == "failed"
    assert "send" not in outcomes(checked)
    assert "error: the way ends at: table" in checked.err


def test_a_missing_key_is_told(call, server, tmp_path):
    made = call("key", "create", "ci", "--grant", "editor:*", "--store", str(tmp_path / "served"))
    server.access.look()  # by itself it looks four times a second
    checked = call("doctor", "--store", server.url)
    assert (checked.code, outcomes(checked)["table"]) == (1, "failed")
    assert "key" in detail(checked, "table")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("EVENTMILL_KEY", made.rows[0]["key"])
        assert outcomes(call("doctor", "--store", server.url)) == ALL_OK


@pytest.mark.parametrize("project", ["local", "my-project"])
def test_bigquery_is_passed_and_says_as_whom(call, warehouse, project):
    checked = call("doctor", "--store", f"bigquery://{project}?{warehouse}")
    assert (checked.code, outcomes(checked)) == (
        0,
        ALL_OK | {"identity": "ok", "permissions": "ok"},
    )
    assert detail(checked, "identity").startswith("nobody: no credentials")


def test_a_role_that_was_taken_away_is_named_with_what_is_missing(
    call, warehouse, server, tmp_path
):
    folder = str(tmp_path / "served")

    def key(name, *grants):
        made = call(
            *("key", "create", name, "--google", "-o", f"{name}.json", "--store", folder),
            *("--server-url", server.url),
            *(word for grant in grants for word in ("--grant", grant)),
        )
        assert made.code == 0, made.err
        server.access.look()
        return f"bigquery://local?{warehouse}&credentials={tmp_path / f'{name}.json'}"

    whole = call("doctor", "--store", key("whole", "editor:*"))
    assert (whole.code, outcomes(whole)["permissions"]) == (0, "ok"), whole.out
    assert detail(whole, "identity").startswith("service account whole@")
    less = call("doctor", "--store", key("less", "reader:*"))
    assert less.code == 1
    assert outcomes(less)["send"] == "failed"
    assert "bigquery.tables.updateData (to write events)" in detail(less, "permissions")
    assert "bigquery.tables.getData" not in detail(less, "permissions")
    assert "roles/bigquery.dataEditor" in detail(less, "permissions")
    none = call("doctor", "--store", key("none", "reader:elsewhere.*"))
    assert none.code == 1
    assert outcomes(none)["table"] == outcomes(none)["permissions"] == "failed"


def test_what_cannot_be_asked_before_the_table_is_there_is_said(call, warehouse, server, tmp_path):
    made = call(
        *("key", "create", "reads", "--google", "-o", "reads.json", "--grant", "reader:*"),
        *("--store", str(tmp_path / "served"), "--server-url", server.url),
    )
    assert made.code == 0, made.err
    server.access.look()
    address = f"bigquery://local?{warehouse}&credentials={tmp_path / 'reads.json'}"
    checked = call("doctor", "--store", address)
    assert checked.code == 1
    assert outcomes(checked)["table"] == "failed"
    assert "bigquery.tables.create" in detail(checked, "permissions")


def test_commands_name_the_tables_and_rejects_of_the_project_that_is_meant(
    call, warehouse, proto, lines
):
    store = ("--store", f"bigquery://my-project?{warehouse}")
    applied = call(*("table", "apply", "--proto", proto, "--message", "shop.Sale", "--yes", *store))
    assert applied.code == 0, applied.err
    assert call("send", "shop.sales", lines(b'{"pieces": "many"}\n'), *store).code == 3
    listed = call("quarantine", "list", "--table", "shop.sales", *store)
    (row,) = listed.rows
    assert (row["table"], row["reason"]) == ("my-project.shop.sales", "wrong_type")
    (shown,) = call("quarantine", "show", row["insert_id"], *store).rows
    assert shown["insert_id"] == row["insert_id"]
    removed = call("table", "rm", "shop.sales", "--yes", *store)
    assert "my-project.shop.sales is removed" in removed.err
