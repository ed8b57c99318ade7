"""What an address opens, and what a slip in one does not leave behind."""

from __future__ import annotations

import pytest

from eventmill.address import connect, open_store
from eventmill.base.errors import UsageError
from eventmill.testing.events import BUILDS, build_spec


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENTMILL_STORE", raising=False)


@pytest.mark.parametrize("kind", ["missing", "empty"])
@pytest.mark.parametrize(
    "words", [{}, {"writer": False}, {"writer": False, "create": True}], ids=str
)
def test_where_no_store_is_none_is_made(tmp_path, kind, words):
    if kind == "empty":
        (tmp_path / "typo").mkdir()
    with pytest.raises(UsageError, match=r"no store at 'typo'.*create=True"):
        open_store("typo", **words)
    assert not list(tmp_path.glob("typo/*"))
    assert (tmp_path / "typo").exists() == (kind == "empty")


def test_who_wants_a_new_store_says_so_and_finds_it_again():
    store = open_store("new", create=True)
    store.apply(build_spec())
    store.close()
    for writer in (True, False):
        store = open_store("new", writer=writer)
        assert [table.id for table in store.tables()] == [BUILDS]
        store.close()


def test_the_address_of_the_settings_is_made_by_writers_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("EVENTMILL_STORE", "deployed")
    with pytest.raises(UsageError):
        open_store(writer=False)
    assert not (tmp_path / "deployed").exists()
    open_store().close()
    assert (tmp_path / "deployed" / "store.db").exists()


def test_a_sender_may_connect_before_there_is_a_store(tmp_path):
    connect("early").close()
    assert (tmp_path / "early" / "store.db").exists()


def test_a_folder_below_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    open_store("~/mine", create=True).close()
    assert (tmp_path / "mine" / "store.db").exists()
    open_store("~/mine", writer=False).close()
