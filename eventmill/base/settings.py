"""Every setting of Eventmill: what it means, its default, and where its value came from.

Read once, at the edge (the command line, ``eventmill.connect``); below that only values travel.
This is the one place that looks at configuration files.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

from eventmill.base.environment import environment
from eventmill.base.errors import UsageError
from eventmill.base.quantity import parse_bytes, parse_seconds

PROJECT_FILE = "eventmill.toml"
"""The project's settings, looked for in the working folder."""
USER_FILE = ".config/eventmill/config.toml"
"""The user's settings, below the home folder."""

_PREFIX = "EVENTMILL_"
_T = TypeVar("_T")
Scalar: TypeAlias = str | int | float | None
"""What a setting can be."""


def _setting(
    default: _T,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    env: str | None = None,
) -> _T:
    """Declare one setting: its default, its bounds, and an environment name of its own."""
    return field(default=default, metadata={"min": at_least, "max": at_most, "env": env})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How ``eventmill serve`` listens, and how much it takes on at once."""

    host: str = _setting("127.0.0.1")
    """Address of this machine to listen on. One that other machines can reach is refused until
    there is a key: without keys the server asks nobody who they are."""
    port: int = _setting(8484, at_least=0, at_most=65_535)
    """TCP port to listen on; 0 picks a free one and prints it."""
    write_api_port: int | None = _setting(None, at_least=0, at_most=65_535)
    """TCP port of the Storage Write API (gRPC) beside it, for BigQuery's own clients; 0 picks a
    free one and prints it. None: it is not served. Needs ``eventmill[server,bigquery]``."""
    in_flight_bytes_max: int = _setting(128 * 2**20, at_least=16 * 2**20)
    """Bytes of request bodies that the server holds at one time; beyond it, it answers 429 so
    that senders wait. The default bounds its memory well below that of a small machine."""
    query_seconds_max: float = _setting(60.0, at_least=0.1)
    """Seconds after which a query is stopped. The default is longer than a person waits."""
    queries_running_max: int = _setting(4, at_least=1, at_most=256)
    """Queries that run at one time; more wait their turn. Each one may use every core, so a
    larger number makes all of them slower, not the sum faster."""
    table_events_per_second: int | None = _setting(None, at_least=1)
    """Events a second that each table takes from all keys together; beyond it senders are
    answered 429 and wait. None: as many as come. A key's own quota is given when it is made."""
    table_bytes_per_day: int | None = _setting(None, at_least=1)
    """Bytes a day that each table takes from all keys together, counted as encoded events; a
    day's worth may come at once. None: as many as come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """How a data folder is written and kept."""

    segment_bytes: int = _setting(48_000_000, at_least=65_536, at_most=1_000_000_000)
    """Bytes after which a log segment is sealed and left to compaction. One segment is turned
    into columns in memory at once: the default keeps that below about half a gigabyte."""
    seal_after_seconds: float = _setting(60.0, at_least=0.0)
    """Age in seconds at which a segment that has events is sealed even when it is small, so
    that quiet tables reach the lake as well."""
    sealed_bytes_max: int = _setting(512_000_000, at_least=1_000_000)
    """Bytes of a table's sealed segments that may wait for compaction; beyond it writes are
    asked to pause. The default is minutes of full load, and a restart reads that much again."""
    dedup_window_seconds: float = _setting(86_400.0, at_least=0.0)
    """Seconds for which a repeated insert ID is answered with *duplicate*; 0: never. The default
    of one day outlasts a night's outage; each million events within it takes about 100 MB."""
    file_grace_seconds: float = _setting(600.0, at_least=0.0)
    """Seconds for which a file that no longer belongs to a table stays on disk, for queries
    that began before. The default is ten times the longest query of the default server."""
    compact_every_seconds: float = _setting(1.0, at_least=0.05)
    """Seconds between two looks for segments to compact and partitions to expire."""
    query_seconds_max: float = _setting(60.0, at_least=0.1)
    """Seconds after which a query is stopped whose caller gave no limit. The default is longer
    than a person waits."""
    memory_limit: str | None = _setting(None)
    """Memory that one process's queries may use, such as ``4GB``; None: 80 % of the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """What commands and ``eventmill.connect`` talk to, and how."""

    store: str = _setting("./eventmill-data", env="EVENTMILL_STORE")
    """A data folder, or ``http://host:port`` of a server. The default is a folder, so that
    nothing needs to run before the first event."""
    key: str | None = _setting(None, env="EVENTMILL_KEY")
    """Credential for the server; None sends none."""
    timeout_seconds: float = _setting(30.0, at_least=0.1)
    """Seconds that a call waits for the other end. The default is longer than a server under
    full load takes for the largest batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings:
    """What is watched, and where it is said who is told."""

    folder: str = _setting("./alerts")
    """Folder of ``channels.toml`` and of rules as files. The built-in rules need no folder."""
    every_seconds: float = _setting(30.0, at_least=1.0)
    """Seconds between two evaluations of the rules. The default tells of a failed run within
    half a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSettings:
    """How workflows are found and run."""

    folder: str = _setting("./workflows")
    """Folder of the project's workflows, a folder each. Those that ship with Eventmill are found
    after them, by commands that name one; the scheduler runs the project's alone."""
    beam_python: str | None = _setting(None)
    """Path of the Python that runs Beam bodies, one with ``eventmill[server,beam]``. None: the
    Python that runs when it has Beam, else ``.venv-beam/bin/python`` below the working folder."""
    beam_options: str | None = _setting(None)
    """Options of every Beam pipeline, written as on a command line, such as
    ``--runner=DataflowRunner --project=shop --region=europe-west1``. None: on this machine."""
    beam_staging: str | None = _setting(None)
    """Folder for a pipeline's output until its job has ended, such as ``gs://bucket/eventmill``.
    None: a temporary one, which a runner on other machines cannot reach."""
    beam_dead_letters: str | None = _setting("./dead-letters")
    """Folder for rows that a Beam body could not take, one file a slot: ``WORKFLOW/START.ndjson``.
    It is made when there are some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSettings:
    """How the scheduler runs the slots of workflows."""

    folder: str | None = _setting(None)
    """Folder of the run book, ``schedule.db``: which slots were run, and how it went. None: the
    data folder; for a server or BigQuery ``.local/state/eventmill/schedule`` in the home folder,
    a folder for each store. It must lie on a disk of this machine: SQLite's log needs that."""
    runs_max: int = _setting(2, at_least=1, at_most=256)
    """Slots that run at one time, of all workflows and schedulers of one run book. Each may use
    every core, so a larger number makes all of them slower, not the sum faster."""
    late_every_seconds: float = _setting(60.0, at_least=0.1)
    """Seconds between two looks for rows that came after their slot was run. The pause is longer
    where looking takes long: at most a twentieth of the time is spent on it."""
    lease_seconds: float = _setting(30.0, at_least=0.5, at_most=3_600.0)
    """Seconds without a sign of life after which a run counts as lost and its slot is due again.
    Three signs are given within it; the default outlasts a pause that a busy machine makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, by section."""

    server: ServerSettings = field(default_factory=ServerSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    client: ClientSettings = field(default_factory=ClientSettings)
    alert: AlertSettings = field(default_factory=AlertSettings)
    workflow: WorkflowSettings = field(default_factory=WorkflowSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)


SECTIONS: Mapping[str, type[Any]] = {
    "server": ServerSettings,
    "store": StoreSettings,
    "client": ClientSettings,
    "alert": AlertSettings,
    "workflow": WorkflowSettings,
    "schedule": ScheduleSettings,
}
"""The class of each section of ``Settings``."""


@dataclass(frozen=True, slots=True)
class SettingValue:
    """One setting as it stands: for the ``settings`` command and the reference page."""

    name: str
    """``section.field``, as in a file: ``[section]`` and ``field = ...``."""
    value: Scalar
    source: str
    """``default``, ``flag``, ``environment NAME``, or the path of the file."""
    env: str
    """The environment variable that sets it."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings with the source of each value."""

    settings: Settings
    sources: Mapping[str, str]
    """Source of each setting that is not at its default, by ``section.field``."""

    def __iter__(self) -> Iterator[SettingValue]:
        for section, cls in SECTIONS.items():
            part = getattr(self.settings, section)
            for item in fields(cls):
                name = f"{section}.{item.name}"
                yield SettingValue(
                    name=name,
                    value=getattr(part, item.name),
                    source=self.sources.get(name, "default"),
                    env=environment_name(name),
                )


def environment_name(name: str) -> str:
    """Return the environment variable of the setting ``section.field``."""
    section, key = name.split(".")
    own = next(f.metadata["env"] for f in fields(SECTIONS[section]) if f.name == key)
    return cast("str", own or f"{_PREFIX}{section}_{key}".upper())


def load_settings(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
    home: Path | None = None,
) -> LoadedSettings:
    """Read all settings: flag before environment before project file before user file.

    Args:
        flags: values given on the command line by ``section.field``; None: none.
        environ: the environment; None: that of the process.
        cwd: folder of ``eventmill.toml``; None: the working folder.
        home: folder below which ``.config/eventmill/config.toml`` is; None: the user's.

    Raises:
        UsageError: a key that no setting has, or a value that does not fit; the message names
            the file or variable, the key, and what is allowed.
    """
    given: dict[str, tuple[Scalar, str]] = {}
    for path in ((home or _home()) / USER_FILE, (cwd or Path.cwd()) / PROJECT_FILE):
        given.update(_from_file(path))
    given.update(_from_environment(environment() if environ is None else environ))
    for name, value in (flags or {}).items():
        given[name] = (_checked(name, value, "flag"), "flag")
    settings = Settings()
    for name, (value, _) in given.items():
        section, key = name.split(".")
        part = replace(getattr(settings, section), **{key: value})
        settings = replace(settings, **{section: part})
    return LoadedSettings(settings, {name: source for name, (_, source) in given.items()})


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a container's user without a home folder has no settings there
        return Path("/nonexistent")


def _from_file(path: Path) -> Iterator[tuple[str, tuple[Scalar, str]]]:
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}; mend or remove it") from error
    for section, part in content.items():
        if section not in SECTIONS or not isinstance(part, dict):
            allowed = ", ".join(f"[{name}]" for name in SECTIONS)
            raise UsageError(f"{path}: {section!r} is not a section; the sections are {allowed}")
        for key, value in part.items():
            name = f"{section}.{key}"
            yield name, (_checked(name, value, str(path)), str(path))


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[Scalar, str]]]:
    names = {environment_name(name): name for name in _names()}
    sections = tuple(f"{_PREFIX}{section}_".upper() for section in SECTIONS)
    for variable, text in environ.items():
        name = names.get(variable)
        if name is not None and text:  # an empty variable is how a shell script unsets one
            source = f"environment {variable}"
            yield name, (_checked(name, text, source), source)
        elif name is None and variable.startswith(sections):
            raise UsageError(
                f"environment {variable}: no setting has this name; `eventmill settings` lists"
                " all of them (unset the variable first)"
            )


def _names() -> list[str]:
    return [f"{section}.{f.name}" for section, cls in SECTIONS.items() for f in fields(cls)]


def _checked(name: str, value: object, source: str) -> Scalar:
    """Return ``value`` in the type of the setting ``name``, or say why it does not fit."""
    section, _, key = name.partition(".")
    found = {f.name: f for f in fields(SECTIONS[section])} if section in SECTIONS else {}
    if key not in found:
        allowed = ", ".join(found) or ", ".join(_names())
        raise UsageError(f"{source}: {name!r} is not a setting; allowed are: {allowed}")
    item = found[key]
    try:
        typed = _typed(str(item.type), key, value)
    except (UsageError, ValueError) as error:
        raise UsageError(f"{source}: {name} = {value!r}: {error}") from error
    low, high = item.metadata["min"], item.metadata["max"]
    if not isinstance(typed, (int, float)):
        return typed
    if (low is not None and typed < low) or (high is not None and typed > high):
        wanted = f"from {low:,}" + (f" to {high:,}" if high is not None else " upwards")
        raise UsageError(f"{source}: {name} = {value!r}: allowed is {wanted}")
    return typed


def _typed(kind: str, key: str, value: object) -> Scalar:
    if kind.startswith("str"):
        if isinstance(value, str) and value:
            return value
        raise UsageError("wanted is a text that is not empty")
    if isinstance(value, str):
        if "_bytes" in key:
            return parse_bytes(value)
        if key.endswith("_seconds") or "_seconds_" in key:
            return parse_seconds(value)
        if not value.strip().isdecimal():
            raise UsageError("wanted is a whole number")
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise UsageError("wanted is a number")
    if kind == "int" and value != int(value):
        raise UsageError("wanted is a whole number")
    return float(value) if kind == "float" else int(value)
