"""``eventmill table code`` on a store in a folder, as a person would call it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from eventmill.cli.table import table
from eventmill.cli.table_code import LANGUAGES, SEND_FORMS, code
from eventmill.schema.generate import OTHER_LANGUAGES
from eventmill.schema.snippets import SNIPPETS


@pytest.fixture
def coded(shop, monkeypatch):
    """The command line with the table ``shop.sales`` and the command, registered or not."""
    monkeypatch.setitem(table.commands, "code", code)
    return lambda *words: shop("table", "code", *words)


def test_the_words_of_the_options_are_those_of_the_rooms_below():
    assert ("python", *OTHER_LANGUAGES) == LANGUAGES
    assert SEND_FORMS == SNIPPETS


def test_python_code_is_written_printed_and_can_be_imported(coded, tmp_path):
    answer = coded("shop.sales", "--out", "gen")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == ["gen/sale_pb2.pyi", "gen/sale_pb2.py"]
    assert f"with {tmp_path / 'gen'} on the path" in answer.err
    (line,) = [one for one in answer.err.splitlines() if one.startswith("from ")]
    script = f"{line}\nprint(Sale(item='tea', pieces=2).pieces)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "gen", capture_output=True, text=True
    )
    assert done.stdout == "2\n", done.stderr


def test_without_a_folder_the_code_stands_here_and_again_after_a_second_call(coded, tmp_path):
    assert coded("shop.sales").code == 0
    assert coded("shop.sales").code == 0
    assert (tmp_path / "sale_pb2.py").exists()
    (tmp_path / "sale_pb2.py").write_text("mine = 1\n")
    refused = coded("shop.sales")
    assert refused.code == 2
    assert "sale_pb2.py: not made by the protocol buffer compiler" in refused.err
    assert (tmp_path / "sale_pb2.py").read_text() == "mine = 1\n"
    assert coded("shop.sales", "--force").code == 0
    assert "mine" not in (tmp_path / "sale_pb2.py").read_text()


@pytest.mark.parametrize(("lang", "tool"), [("java", "with protoc installed"), ("go", "gen-go")])
def test_other_languages_get_a_descriptor_set_and_a_command(coded, tmp_path, lang, tool):
    answer = coded("shop.sales", "--lang", lang, "--out", "gen")
    assert answer.code == 0, answer.err
    assert answer.out.startswith(
        f"protoc --descriptor_set_in=gen/shop.Sale.binpb --{lang}_out=gen "
    )
    assert answer.out.endswith(" sale.proto\n")
    assert tool in answer.err
    assert (tmp_path / "gen" / "shop.Sale.binpb").stat().st_size > 100


@pytest.mark.parametrize("form", SEND_FORMS)
def test_an_example_is_printed_and_no_code_is_written(coded, tmp_path, form):
    answer = coded("shop.sales", "--send", form, "--out", "gen")
    assert answer.code == 0, answer.err
    assert not (tmp_path / "gen").exists()
    if form == "curl":
        assert "run `eventmill serve --data ./eventmill-data`" in answer.err
        assert "http://127.0.0.1:8484/api/v1/tables/local.shop.sales/events" in answer.out
    else:
        assert "./eventmill-data" in answer.out
    assert coded("shop.sales", "--snippet", form).code == 0


def test_the_example_is_accepted_when_it_is_sent(coded, shop, lines):
    text = coded("shop.sales", "--send", "shell").out
    (line,) = [one for one in text.splitlines() if one.startswith("{")]
    assert json.loads(line)["item"] == "example"
    assert shop("send", "shop.sales", lines(line.encode())).rows[0]["accepted"] == 1


def test_a_table_that_is_not_there_is_said(coded):
    answer = coded("shop.sale")
    assert answer.code == 1
    assert "shop.sale" in answer.err
    assert "Traceback" not in answer.err
