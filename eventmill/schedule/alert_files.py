"""The folder of alerts: ``channels.toml`` says who is told, every other file is one rule."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import EventmillError, QueryError, UsageError
from eventmill.schedule.alert_channels import (
    TIMEOUT_SECONDS,
    TIMEOUT_SECONDS_MAX,
    AppriseChannel,
    Channel,
    CommandChannel,
    MailChannel,
    WebhookChannel,
)
from eventmill.schedule.alert_finding import (
    ALERT_FILE_BROKEN,
    RULE_NO_DATA,
    Finding,
    Severity,
)
from eventmill.schedule.alert_message import TEST_RULE
from eventmill.schedule.alert_queue import Routing
from eventmill.schedule.alert_tables import TABLE_RULES
from eventmill.schedule.alert_workflows import WORKFLOW_RULES
from eventmill.store.googlesql import parameter_names, translate
from eventmill.workflow.toml_keys import TomlKeys

CHANNELS_FILE = "channels.toml"
REPEAT_SECONDS = 4 * 3_600.0
"""How long after it was told a firing alert is told again: twice a shift."""
_PRINTABLE = re.compile(r"[!-~]+")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_BUILT_IN = {*WORKFLOW_RULES, *TABLE_RULES, RULE_NO_DATA, ALERT_FILE_BROKEN, TEST_RULE}
NoData = Literal["keep", "firing"]


@dataclass(frozen=True, slots=True)
class AlertRule:
    """A rule of a file: GoogleSQL whose rows are what is wrong."""

    name: str
    sql: str
    """One statement; ``@now`` is the time of the evaluation."""
    summary: str
    """A sentence; ``{column}`` stands for a value of the row."""
    key: tuple[str, ...]
    """Columns that tell one alert from another; empty: all columns of type STRING."""
    owner: str
    severity: Severity
    every_seconds: float
    hold_seconds: float
    no_data: NoData
    """What becomes of a rule that cannot be evaluated for 15 minutes: its alerts stay as they
    are, or it fires itself."""
    path: str


@dataclass(frozen=True, slots=True)
class Route:
    """Which alerts are told on which channels."""

    match: tuple[str, ...]
    """Patterns of the shell (``dataflow-workflow-*``) for the subject or another of its names."""
    rules: tuple[str, ...]
    """Patterns for the rule's name."""
    channels: tuple[str, ...]
    repeat_seconds: float

    def takes(self, finding: Finding) -> bool:
        """Return whether the route is for ``finding``."""
        return any(fnmatch.fnmatchcase(finding.rule, rule) for rule in self.rules) and any(
            fnmatch.fnmatchcase(name, pattern) for name in finding.names for pattern in self.match
        )


@dataclass(frozen=True, slots=True)
class AlertFiles:
    """What the folder says. Without a folder: no channel, no rule, and the built-in rules on."""

    channels: Mapping[str, Channel]
    routes: tuple[Route, ...]
    rules: tuple[AlertRule, ...]
    faults: Mapping[str, str]
    """By path, what is wrong with a file; the others hold all the same."""
    declared: tuple[str, ...] = ()
    """Names of all channels, also of those that cannot be used as they are."""
    is_routable: bool = True
    """Whether it is known who is to be told; it is not while ``channels.toml`` cannot be read."""

    def route(self, finding: Finding) -> Routing:
        """Return who is told of ``finding``.

        Every route that takes it adds its channels; without any route, all channels are told.
        """
        if not self.is_routable:
            return Routing(None, REPEAT_SECONDS)
        if not self.routes:
            return Routing(self.declared or tuple(self.channels), REPEAT_SECONDS)
        taking = [route for route in self.routes if route.takes(finding)]
        names = dict.fromkeys(name for route in taking for name in route.channels)
        repeat = min((route.repeat_seconds for route in taking), default=REPEAT_SECONDS)
        return Routing(tuple(names), repeat)


def read_alert_files(folder: str, environment: Mapping[str, str]) -> AlertFiles:
    """Read the folder; a file that cannot be used is a fault, and hides no other.

    Args:
        folder: may be missing.
        environment: where secrets stand, which files name by their variables.
    """
    faults: dict[str, str] = {}
    read = _ReadChannels({}, (), (), ())
    is_routable = True
    rules: dict[str, AlertRule] = {}
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError as error:
        names, is_routable = [], False
        faults[folder] = f"{folder}: cannot be read: {error.strerror}"
    for name in names:
        path = os.path.join(folder, name)
        if not name.endswith(".toml"):
            continue
        try:
            keys = TomlKeys.read(path)
            if name == CHANNELS_FILE:
                read = _Channels(keys, environment).read()
                if read.faults:
                    faults[path] = "; ".join(read.faults)
                continue
            rule = _rule(keys, path)
            if rule.name in rules:
                raise UsageError(f"{path}: {rules[rule.name].path} has the name {rule.name}")
            rules[rule.name] = rule
        except (EventmillError, ValueError) as error:
            faults[path] = str(error)
            is_routable = is_routable and name != CHANNELS_FILE
    return AlertFiles(
        read.channels, read.routes, tuple(rules.values()), faults, read.declared, is_routable
    )


@dataclass(frozen=True, slots=True)
class _ReadChannels:
    """What ``channels.toml`` says."""

    channels: Mapping[str, Channel]
    routes: tuple[Route, ...]
    declared: tuple[str, ...]
    faults: tuple[str, ...]
    """Why a channel cannot be used; the others can."""


class _Channels:
    """Reads ``channels.toml``."""

    def __init__(self, keys: TomlKeys, environment: Mapping[str, str]) -> None:
        self._keys = keys
        self._environment = environment

    def read(self) -> _ReadChannels:
        made: dict[str, Channel] = {}
        declared: list[str] = []
        faults: list[str] = []
        for entry in self._keys.tables("channel"):
            entry.require("name", "routes name the channel by it")
            name = entry.text("name")
            if name in declared:
                entry.refuse("name", f"{name} is there twice")
            declared.append(name)
            try:
                entry.require("kind", f"one of {', '.join(_KINDS)}")
                channel = _KINDS[entry.choice("kind", tuple(_KINDS), "")](self, name, entry)
                entry.finish()
            except UsageError as error:
                faults.append(str(error))
            else:
                made[name] = channel
        routes = tuple(self._route(entry, declared) for entry in self._keys.tables("route"))
        self._keys.finish()
        return _ReadChannels(made, routes, tuple(declared), tuple(faults))

    @staticmethod
    def _route(entry: TomlKeys, channels: Collection[str]) -> Route:
        entry.require("channels", "names of channels of this file")
        route = Route(
            match=entry.list_of_texts("match", ("*",)),
            rules=entry.list_of_texts("rules", ("*",)),
            channels=entry.list_of_texts("channels", ()),
            repeat_seconds=entry.seconds("repeat", REPEAT_SECONDS, low=60.0),
        )
        entry.finish()
        for name in route.channels:
            if name not in channels:
                entry.refuse("channels", f"there is no channel {name}")
        return route

    def webhook(self, name: str, entry: TomlKeys) -> Channel:
        url = self._secret(entry, "url_env")
        if url is None:
            entry.require("url", "where to post to; or url_env, the variable that holds it")
            url = entry.text("url")
        if fault := _url_fault(url):
            entry.refuse("url", fault)
        bearer = self._secret(entry, "bearer_env")
        if bearer is not None and not _PRINTABLE.fullmatch(bearer):
            entry.refuse("bearer_env", "its value has a space or a line end in it")
        return WebhookChannel(name, url, bearer, _timeout(entry))

    def mail(self, name: str, entry: TomlKeys) -> Channel:
        security = entry.choice("security", ("starttls", "tls", "none"), "starttls")
        entry.require("host", "the mail server's name")
        entry.require("from", "the sender's address")
        return MailChannel(
            name,
            host=entry.text("host"),
            port=entry.whole("port", 465 if security == "tls" else 587, low=1, high=65_535),
            sender=entry.text("from"),
            to=entry.list_of_texts("to", ("{owner}",)),
            security=security,  # type: ignore[arg-type]  # one of those above
            user=entry.text("user") or None,
            password=self._secret(entry, "password_env"),
            timeout_seconds=_timeout(entry),
        )

    @staticmethod
    def command(name: str, entry: TomlKeys) -> Channel:
        entry.require("command", "a list of the program and its arguments")
        command = entry.list_of_texts("command", ())
        if not command:
            entry.refuse("command", "it names no program")
        return CommandChannel(name, command, _timeout(entry))

    def apprise(self, name: str, entry: TomlKeys) -> Channel:
        url = self._secret(entry, "url_env")
        if url is None:
            entry.require("urls", "Apprise's URLs; or url_env, the variable that holds one")
        return AppriseChannel(name, (url,) if url else entry.list_of_texts("urls", ()))

    def _secret(self, entry: TomlKeys, key: str) -> str | None:
        """Return what the variable holds that ``key`` names; None: the entry has no such key."""
        variable = entry.text(key)
        if not variable:
            return None
        value = self._environment.get(variable)
        if not value:
            entry.refuse(key, f"the environment has no {variable}: set it where the server starts")
        return value


def _timeout(entry: TomlKeys) -> float:
    seconds = entry.seconds("timeout", TIMEOUT_SECONDS, low=0.1)
    if seconds > TIMEOUT_SECONDS_MAX:
        entry.refuse("timeout", f"a channel may take {TIMEOUT_SECONDS_MAX:g} s at most")
    return seconds


def _url_fault(url: str) -> str:
    """Return why nothing can be posted to ``url``, without a word of it; empty: it can."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or not _PRINTABLE.fullmatch(url):
        return "it must begin with http:// or https://, name a host, and have no space in it"
    if parts.username is not None:
        return "it has a user or a password in it: give a token by bearer_env"
    return ""


_KINDS: dict[str, Callable[[_Channels, str, TomlKeys], Channel]] = {
    "webhook": _Channels.webhook,
    "smtp": _Channels.mail,
    "command": lambda _, name, entry: _Channels.command(name, entry),
    "apprise": _Channels.apprise,
}


def _rule(keys: TomlKeys, path: str) -> AlertRule:
    name = keys.text("name", os.path.basename(path).removesuffix(".toml"))
    if not _NAME.fullmatch(name):
        keys.refuse("name", f"{name!r}: use at most 63 small letters, digits, - and _")
    if name in _BUILT_IN:
        keys.refuse("name", f"{name} is a rule that is built in: give this one another name")
    keys.require("sql", "one GoogleSQL statement whose rows are what is wrong")
    sql = keys.text("sql")
    try:
        translate(sql, dict.fromkeys(parameter_names(sql) & {"now"}, utc_datetime(0.0)))
    except QueryError as error:
        keys.refuse("sql", str(error))
    no_data: NoData = "keep"
    if keys.choice("no_data", ("keep", "firing"), "keep") == "firing":
        no_data = "firing"
    rule = AlertRule(
        name=name,
        sql=sql,
        summary=keys.text("summary", f"the rule {name} found a row"),
        key=keys.list_of_texts("key", ()),
        owner=keys.text("owner"),
        severity=Severity(keys.choice("severity", ("critical", "warning"), "critical")),
        every_seconds=keys.seconds("every", 60.0),
        hold_seconds=keys.seconds("for", 0.0),
        no_data=no_data,
        path=path,
    )
    keys.finish()
    return rule
