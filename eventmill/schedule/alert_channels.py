"""The ways an alert is told: a webhook, mail, a command, and whatever Apprise knows."""

from __future__ import annotations

import http.client
import json
import smtplib
import ssl
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from importlib import import_module
from types import ModuleType
from typing import Literal, Protocol

from eventmill.base.clock import utc_datetime
from eventmill.schedule.alert_message import Message

TIMEOUT_SECONDS = 10.0
"""How long a channel may take unless it says so: an alert waits for nobody's slow server."""
_OUTPUT_SHOWN_MAX = 300


class ChannelError(Exception):
    """The channel has not taken a message; the words say why."""


class Channel(Protocol):
    """One way to tell somebody."""

    @property
    def name(self) -> str:
        """Its name, by which routes name it."""
        ...

    def tell(self, message: Message) -> None:
        """Hand ``message`` over; on return the other end has taken it.

        Raises:
            ChannelError: it has not, or it is not known whether it has.
        """
        ...


@dataclass(frozen=True, slots=True)
class WebhookChannel:
    """Posts Alertmanager's document, so that whatever understands that understands us."""

    name: str
    url: str
    bearer: str | None = None
    """Sent as ``Authorization: Bearer``; None: no such header."""
    timeout_seconds: float = TIMEOUT_SECONDS

    def tell(self, message: Message) -> None:
        """Post the document; taken is what is answered with a status of 200 to 299."""
        headers = {"Content-Type": "application/json", "User-Agent": "eventmill"}
        if self.bearer:
            headers["Authorization"] = f"Bearer {self.bearer}"
        body = json.dumps(message.to_alertmanager(self.name)).encode()
        request = urllib.request.Request(self.url, body, headers)  # noqa: S310 - http(s) is checked when it is read
        try:
            with _OPENER.open(request, timeout=self.timeout_seconds):
                return
        except urllib.error.HTTPError as error:
            error.close()
            raise ChannelError(f"it answered {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise ChannelError(_reason(error)) from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect of a POST would be followed as a GET without its body: told to nobody."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


@dataclass(frozen=True, slots=True)
class MailChannel:
    """Sends mail by SMTP."""

    name: str
    host: str
    port: int
    sender: str
    to: tuple[str, ...]
    """Addresses; ``{owner}`` stands for the alert's owner, left out when that is no address."""
    security: Literal["none", "starttls", "tls"] = "starttls"
    user: str | None = None
    password: str | None = None
    timeout_seconds: float = TIMEOUT_SECONDS

    def tell(self, message: Message) -> None:
        """Send one mail to all addresses; taken is what the server takes for each of them."""
        to = self._addresses(message.finding.owner)
        if not to:
            raise ChannelError(
                f"there is nobody to send to: the owner {message.finding.owner!r} is no address"
            )
        mail = EmailMessage()
        mail["Subject"] = message.title
        mail["From"] = self.sender
        mail["To"] = ", ".join(to)
        mail["Date"] = format_datetime(utc_datetime(message.at))
        mail["Message-ID"] = make_msgid(domain="eventmill.invalid")
        mail["Auto-Submitted"] = "auto-generated"  # so that no absence note answers (RFC 3834)
        mail.set_content(message.text)
        try:
            with self._connected() as server:
                refused = server.send_message(mail, to_addrs=to)
        except (OSError, smtplib.SMTPException) as error:
            raise ChannelError(_reason(error)) from error
        if refused:
            raise ChannelError(f"the server refused {', '.join(refused)}")

    def _addresses(self, owner: str) -> list[str]:
        given = [owner if entry == "{owner}" else entry for entry in self.to]
        return list(dict.fromkeys(entry for entry in given if "@" in entry))

    def _connected(self) -> smtplib.SMTP:
        if self.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, timeout=self.timeout_seconds,
                context=ssl.create_default_context(),
            )  # fmt: skip
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=self.timeout_seconds)
        try:
            if self.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if self.user is not None:
                server.login(self.user, self.password or "")
        except BaseException:
            server.close()
            raise
        return server


@dataclass(frozen=True, slots=True)
class CommandChannel:
    """Runs a program, with Alertmanager's document on its stdin."""

    name: str
    command: tuple[str, ...]
    """The program and its arguments; no shell reads them."""
    timeout_seconds: float = TIMEOUT_SECONDS

    def tell(self, message: Message) -> None:
        """Run the program to its end; taken is what it ends with 0 for."""
        document = json.dumps(message.to_alertmanager(self.name)).encode()
        try:
            done = subprocess.run(
                self.command,
                input=document,
                capture_output=True,
                timeout=self.timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ChannelError(f"it ran longer than {self.timeout_seconds:g} s") from error
        except OSError as error:
            raise ChannelError(f"{self.command[0]} cannot be run: {error.strerror}") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()[-_OUTPUT_SHOWN_MAX:]
            raise ChannelError(f"it ended with {done.returncode}: {said or 'and said nothing'}")


@dataclass(frozen=True, slots=True)
class AppriseChannel:
    """Tells one of the services that Apprise knows: Slack, Teams, PagerDuty and others."""

    name: str
    urls: tuple[str, ...]

    def tell(self, message: Message) -> None:
        """Hand the message to Apprise; taken is what all of its services take."""
        apprise = _apprise(self.name)
        service = apprise.Apprise()
        for url in self.urls:
            if not service.add(url):
                raise ChannelError("Apprise does not understand one of its URLs")
        if not service.notify(title=message.title, body=message.text):
            raise ChannelError("Apprise could not hand it over; its log says why")


def _apprise(channel: str) -> ModuleType:
    try:
        return import_module("apprise")
    except ModuleNotFoundError as error:
        raise ChannelError(
            f"the channel {channel} needs Apprise: pip install 'eventmill[notify]'"
        ) from error


def _reason(error: BaseException) -> str:
    cause = getattr(error, "reason", None)
    text = str(cause if isinstance(cause, BaseException) else error)
    return text or type(error).__name__
