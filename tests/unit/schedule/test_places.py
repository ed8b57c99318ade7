"""Where workflows are read from, and where the run book lies."""

from __future__ import annotations

import os

import pytest
from schedule_project import write_workflow

from eventmill.base.errors import UsageError
from eventmill.schedule.place import book_path
from eventmill.schedule.workflow_folder import WorkflowFolder
from eventmill.workflow.reading import read_workflow


@pytest.fixture
def folder(tmp_path):
    write_workflow(tmp_path, "one")
    write_workflow(tmp_path, "two")
    return WorkflowFolder(str(tmp_path), counting)


reads = []


def counting(path):
    reads.append(os.path.basename(path))
    return read_workflow(path)


@pytest.fixture(autouse=True)
def _fresh():
    reads.clear()


def test_a_folder_is_read_when_it_has_changed(folder, tmp_path):
    assert folder.look()
    assert sorted(folder.definitions) == ["one", "two"]
    assert not folder.look()
    (tmp_path / "one" / "query.sql").write_text((tmp_path / "one" / "query.sql").read_text() + "\n")
    assert folder.look()
    assert sorted(reads) == ["one", "one", "two"]


def test_a_broken_one_keeps_its_last_good_definition_and_is_told(folder, tmp_path):
    folder.look()
    good = folder.definitions["one"]
    path = tmp_path / "one" / "workflow.toml"
    text = path.read_text()
    path.write_text(text + "nonsense = 1\n")
    assert folder.look()
    assert folder.definitions["one"] is good
    assert "nonsense" in folder.faults["one"]
    path.write_text(text + "# mended\n")
    assert folder.look()
    assert folder.faults == {}


def test_what_is_gone_and_what_is_no_workflow(folder, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.me").write_text("")
    (tmp_path / "one" / "tests").mkdir()
    folder.look()
    (tmp_path / "one" / "tests" / "case.toml").write_text("")
    assert not folder.look()  # no run depends on a case
    os.rename(tmp_path / "two", tmp_path / ".two")
    assert folder.look()
    assert list(folder.definitions) == ["one"]
    assert not WorkflowFolder(str(tmp_path / "nowhere"), read_workflow).look()


@pytest.mark.parametrize("call", ["scandir", "stat"])
@pytest.mark.parametrize("place", [".", "one"])
def test_what_cannot_be_read_is_a_fault_and_is_not_gone(folder, tmp_path, monkeypatch, call, place):
    folder.look()
    good = dict(folder.definitions)
    path = tmp_path / place
    real = getattr(os, call)

    def refuse(asked):
        if os.fspath(asked).startswith(str(path)):
            raise PermissionError(13, "Permission denied", asked)
        return real(asked)

    (tmp_path / "one" / "more.sql").write_text("")  # so that it is walked again
    monkeypatch.setattr(os, call, refuse)
    assert folder.look()
    assert folder.definitions == good
    assert "cannot be read: Permission denied" in folder.faults["one"]
    assert ("two" in folder.faults) is (place == ".")
    assert not folder.look()  # told once
    monkeypatch.setattr(os, call, real)
    assert folder.look()
    assert folder.faults == {}
    os.rename(tmp_path / "one", tmp_path / ".one")
    assert folder.look()
    assert list(folder.definitions) == ["two"]


def test_the_book_lies_with_the_data_or_where_the_setting_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert book_path("./data", None, is_folder=True) == str(tmp_path / "data" / "schedule.db")
    given = book_path("./data", "elsewhere", is_folder=True)
    assert given == str(tmp_path / "elsewhere" / "schedule.db")
    home = os.path.expanduser("~")
    server = book_path("http://host:8484", None, is_folder=False)
    assert server.startswith(f"{home}/.local/state/eventmill/schedule/host-8484-")
    assert book_path("http://HOST:8484/", None, is_folder=False) == server
    assert book_path("https://host:8484", None, is_folder=False) != server
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert book_path("bigquery://p", None, is_folder=False).startswith(f"{tmp_path}/eventmill/")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(UsageError, match=r"schedule\.folder"):
        book_path("http://host", None, is_folder=False)
