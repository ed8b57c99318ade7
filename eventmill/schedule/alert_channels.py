"""The ways an alert is told: a webhook, mail, a command, and whatever Apprise knows."""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import signal
import smtplib
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses, make_msgid
from importlib import import_module
from types import ModuleType
from typing import Literal, Protocol
from urllib.parse import urlsplit

from eventmill.base.clock import utc_datetime
from eventmill.schedule.alert_message import Message

TIMEOUT_SECONDS = 10.0
"""How long a channel may take unless it says so: an alert waits for nobody's slow server."""
TIMEOUT_SECONDS_MAX = 30.0
"""What a channel may say: a notice that is under way for a minute is sent by somebody else."""
_OUTPUT_SHOWN_MAX = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_ADDRESS = re.compile(r"[^\s@<>,;:\"]+@[^\s@<>,;:\"]+")
_logger = logging.getLogger("eventmill.alerts")


class ChannelError(Exception):
    """The channel has not taken a message; the words say why, without secrets."""

    def __init__(self, text: str, *, is_of_message: bool = False) -> None:
        super().__init__(text)
        self.is_of_message = is_of_message
        """Whether it is about this message, and the channel may take another."""


def one_line(text: str) -> str:
    """Return ``text`` fit for a log and a terminal: what rows say is somebody else's text."""
    return _CONTROL.sub(" ", text).strip()


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
        # That it is http or https is checked when it is read.
        request = urllib.request.Request(self.url, body, headers)  # noqa: S310
        try:
            with _OPENER.open(request, timeout=self.timeout_seconds):
                return
        except urllib.error.HTTPError as error:
            error.close()
            said = _without(f"it answered {error.code} {error.reason}", self.url, self.bearer)
            raise ChannelError(said) from None
        except (ValueError, http.client.InvalidURL):  # whose words hold what could not be sent
            raise ChannelError("its URL or its bearer is none that can be sent") from None
        except (OSError, http.client.HTTPException) as error:
            raise ChannelError(_without(_reason(error), self.url, self.bearer)) from None


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
        """Send one mail to all addresses; taken is what the server takes for one of them.

        Whom it refuses is logged: sent again, the mail would reach the others time and again.
        """
        to = self._addresses(message.finding.owner)
        if not to:
            raise ChannelError(
                f"there is nobody to send to: the owner {message.finding.owner!r} is no address",
                is_of_message=True,
            )
        try:
            mail = self._mail(message, to)
            server = self._connected()
        except ValueError as error:
            raise ChannelError(f"no mail can be made of it: {error}", is_of_message=True) from error
        except (OSError, smtplib.SMTPException) as error:
            raise ChannelError(_without(_reason(error), self.password)) from None
        try:
            refused = server.send_message(mail, to_addrs=to)
        except (smtplib.SMTPRecipientsRefused, ValueError) as error:
            raise ChannelError(f"it was refused: {error}", is_of_message=True) from error
        except (OSError, smtplib.SMTPException) as error:
            raise ChannelError(_without(_reason(error), self.password)) from None
        finally:
            _take_leave(server)
        if refused:
            _logger.warning("channel %s: the server refused %s", self.name, ", ".join(refused))

    def _mail(self, message: Message, to: list[str]) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"] = one_line(message.title)
        mail["From"] = self.sender
        mail["To"] = ", ".join(to)
        mail["Date"] = format_datetime(utc_datetime(message.at))
        mail["Message-ID"] = make_msgid(domain="eventmill.invalid")
        mail["Auto-Submitted"] = "auto-generated"  # so that no absence note answers (RFC 3834)
        mail.set_content(message.text)
        return mail

    def _addresses(self, owner: str) -> list[str]:
        """Return each address once; an owner may be several, with names or without."""
        given = [owner if entry == "{owner}" else entry for entry in self.to]
        found = getaddresses([text for text in given if not _CONTROL.search(text)])
        return list(dict.fromkeys(address for _, address in found if _ADDRESS.fullmatch(address)))

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
        """Run the program to its end; taken is what it ends with 0 for.

        What it has left running in the background is none of its end.
        """
        document = json.dumps(message.to_alertmanager(self.name)).encode()
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
            given.write(document)
            given.seek(0)
            try:
                program = subprocess.Popen(
                    self.command,
                    stdin=given,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    start_new_session=True,
                )
            except OSError as error:
                text = f"{self.command[0]} cannot be run: {error.strerror}"
                raise ChannelError(text) from error
            try:
                code = program.wait(self.timeout_seconds)
            except subprocess.TimeoutExpired as error:
                os.killpg(program.pid, signal.SIGKILL)  # with what it has started
                program.wait()
                raise ChannelError(f"it ran longer than {self.timeout_seconds:g} s") from error
            if code:
                said.seek(0)
                words = said.read().decode("utf-8", "replace").strip()[-_OUTPUT_SHOWN_MAX:]
                raise ChannelError(f"it ended with {code}: {words or 'and said nothing'}")


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


def _take_leave(server: smtplib.SMTP) -> None:
    """Part from a mail server; what it says to that changes nothing of what it has taken."""
    try:
        server.quit()
    except (OSError, smtplib.SMTPException):
        server.close()


def _without(text: str, *secrets: str | None) -> str:
    for secret in secrets:
        if secret:
            text = text.replace(secret, "...")
            path = urlsplit(secret).path if "://" in secret else ""
            text = text.replace(path, "...") if len(path) > 1 else text
    return text


def _reason(error: BaseException) -> str:
    cause = getattr(error, "reason", None)
    text = str(cause if isinstance(cause, BaseException) else error)
    return text or type(error).__name__
