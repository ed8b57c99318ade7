"""Settings: their defaults are promises, and a mistake in one is told by name."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventmill.base.errors import UsageError
from eventmill.base.settings import (
    PROJECT_FILE,
    SECTIONS,
    USER_FILE,
    Settings,
    environment_name,
    load_settings,
)

PROMISED = {
    "server": {
        "host": "127.0.0.1",
        "port": 8484,
        "write_api_port": None,
        "in_flight_bytes_max": 134_217_728,
        "query_seconds_max": 60.0,
        "queries_running_max": 4,
        "table_events_per_second": None,
        "table_bytes_per_day": None,
    },
    "store": {
        "segment_bytes": 48_000_000,
        "seal_after_seconds": 60.0,
        "sealed_bytes_max": 512_000_000,
        "dedup_window_seconds": 86_400.0,
        "file_grace_seconds": 600.0,
        "compact_every_seconds": 1.0,
        "query_seconds_max": 60.0,
        "memory_limit": None,
    },
    "client": {"store": "./eventmill-data", "key": None, "timeout_seconds": 30.0},
    "alert": {"folder": "./alerts", "every_seconds": 30.0},
    "workflow": {
        "folder": "./workflows",
        "beam_python": None,
        "beam_options": None,
        "beam_staging": None,
        "beam_dead_letters": "./dead-letters",
    },
    "schedule": {
        "folder": None,
        "runs_max": 2,
        "late_every_seconds": 60.0,
        "lease_seconds": 30.0,
    },
}


@pytest.fixture
def load(tmp_path: Path):
    home, cwd = tmp_path / "home", tmp_path / "project"
    (home / USER_FILE).parent.mkdir(parents=True)
    cwd.mkdir()

    def loaded(flags=None, environ=None, project="", user=""):
        (cwd / PROJECT_FILE).write_text(project)
        (home / USER_FILE).write_text(user)
        return load_settings(flags, environ or {}, cwd=cwd, home=home)

    return loaded


def test_the_defaults_are_those_promised(load):
    assert asdict(Settings()) == PROMISED
    assert asdict(load().settings) == PROMISED


def test_each_source_wins_over_the_next(load):
    user, project = "[server]\nport = 1\n", "[server]\nport = 2\n"
    environ = {"EVENTMILL_SERVER_PORT": "3"}
    flags = {"server.port": "4"}
    ports = [
        load(flags, environ, project, user),
        load({}, environ, project, user),
        load({}, {}, project, user),
        load({}, {}, "", user),
        load(),
    ]
    assert [found.settings.server.port for found in ports] == [4, 3, 2, 1, 8484]
    sources = [found.sources.get("server.port", "default") for found in ports]
    assert sources[0] == "flag"
    assert sources[1] == "environment EVENTMILL_SERVER_PORT"
    assert sources[2].endswith(PROJECT_FILE)
    assert sources[3].endswith("config.toml")
    assert sources[4] == "default"


def test_the_short_environment_names_are_those_of_the_contract():
    assert environment_name("client.store") == "EVENTMILL_STORE"
    assert environment_name("client.key") == "EVENTMILL_KEY"
    assert environment_name("store.segment_bytes") == "EVENTMILL_STORE_SEGMENT_BYTES"


def test_no_two_settings_share_an_environment_name():
    names = [
        environment_name(f"{section}.{field.name}")
        for section, cls in SECTIONS.items()
        for field in fields(cls)
    ]
    assert len(names) == len(set(names)) == 30


def test_an_empty_variable_is_an_unset_one(load):
    assert load(environ={"EVENTMILL_STORE": ""}).settings.client.store == "./eventmill-data"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[sever]\nport = 1\n", "sever"),
        ("[server]\nprot = 1\n", "server.prot"),
        ("[server]\nport = 'many'\n", "server.port"),
        ("[server]\nport = 70000\n", "from 0 to 65,535"),
        ("[server]\nport = 1.5\n", "whole number"),
        ("[server]\nport = true\n", "number"),
        ("[server]\nquery_seconds_max = nan\n", "number"),
        ("[store]\nsegment_bytes = '3 elephants'\n", "48MiB"),
        ("[client]\nstore = ''\n", "client.store"),
        ("server = 1\n", "[server]"),
        ("port = \n", "TOML"),
    ],
)
def test_a_mistake_in_a_file_names_the_file_and_what_is_allowed(load, text, named):
    with pytest.raises(UsageError) as caught:
        load(project=text)
    assert PROJECT_FILE in str(caught.value)
    assert named in str(caught.value)


def test_a_misspelled_variable_of_a_section_is_told(load):
    with pytest.raises(UsageError, match="EVENTMILL_SERVER_PROT"):
        load(environ={"EVENTMILL_SERVER_PROT": "1"})


def test_a_variable_of_another_program_is_left_alone(load):
    assert load(environ={"EVENTMILL_DEBUG": "1", "PATH": "/bin"}).sources == {}


def test_sizes_and_times_may_be_written_with_units(load):
    store = load(project="[store]\nsegment_bytes = '64 MiB'\nseal_after_seconds = '2m'\n")
    assert store.settings.store.segment_bytes == 64 * 2**20
    assert store.settings.store.seal_after_seconds == 120.0


@given(st.integers(0, 65_535))
def test_a_port_is_the_same_from_a_flag_and_from_the_environment(port):
    nowhere = Path("/nonexistent")
    flag = load_settings({"server.port": str(port)}, {}, cwd=nowhere, home=nowhere)
    variable = load_settings({}, {"EVENTMILL_SERVER_PORT": str(port)}, cwd=nowhere, home=nowhere)
    assert flag.settings == variable.settings
    assert flag.settings.server.port == port
