"""Each channel against a real server, or a real program, of this machine."""

import contextlib
import dataclasses
import http.server
import json
import smtplib
import socketserver
import sys
import threading
import traceback
import types
from email import message_from_bytes, policy

import pytest

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.schedule.alert_channels import (
    AppriseChannel,
    ChannelError,
    CommandChannel,
    MailChannel,
    WebhookChannel,
)
from eventmill.schedule.alert_finding import Finding, Severity
from eventmill.schedule.alert_message import Message
from eventmill.schedule.alert_state import Notice

FOUND = Finding(
    "workflow_failed", "dataflow-workflow-daily", "daily has failed\nfor 3 slots",
    "ada@example.com", Severity.CRITICAL, labels={"workflow": "daily"},
)  # fmt: skip
FIRING = Message(Notice.FIRING, FOUND, 1_700_000_000.0, 1_700_000_030.0)
RESOLVED = Message(Notice.RESOLVED, FOUND, 1_700_000_000.0, 1_700_000_030.5)


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.headers, json.loads(body)))
        self.send_response(self.server.status, self.server.reason)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_):
        pass


class Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as a mail needs."""

    def handle(self):
        say = lambda text: self.wfile.write(text.encode() + b"\r\n")  # noqa: E731
        say("220 loopback")
        envelope = []
        while line := self.rfile.readline().decode().strip():
            verb = line.split(":")[0].split()[0].upper()
            if verb in ("EHLO", "HELO"):
                say("250-loopback")
                say("250 8BITMIME")
            elif verb == "MAIL":
                say("250 ok")
            elif verb == "RCPT":
                is_known = "nobody@" not in line
                say("250 ok" if is_known else "550 no such mailbox")
                envelope += [line.partition(":")[2].strip(" <>")] * is_known
            elif verb == "DATA":
                say("354 go on")
                lines = iter(lambda: self.rfile.readline(), b".\r\n")
                self.server.got.append((envelope, b"".join(lines)))
                say("250 taken")
            elif verb == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")


@contextlib.contextmanager
def serving(server):
    server.got = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def hook():
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)) as server:
        server.status, server.reason = 200, None
        server.url = f"http://127.0.0.1:{server.server_port}/hook"
        yield server


@pytest.fixture
def mail_server():
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)) as server:
        yield server


def mail_channel(server, **given):
    given = {"sender": "mill@example.com", "to": ("{owner}", "ops@example.com"), **given}
    return MailChannel("mail", "127.0.0.1", server.server_address[1], security="none", **given)


def test_a_webhook_gets_the_document_of_alertmanager(hook):
    WebhookChannel("oncall", hook.url, bearer="secret").tell(FIRING)
    ((headers, document),) = hook.got
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"] == "application/json"
    assert (document["version"], document["status"]) == ("4", "firing")
    assert document["receiver"] == "oncall"
    (alert,) = document["alerts"]
    assert alert["labels"] == {
        "alertname": "workflow_failed",
        "subject": "dataflow-workflow-daily",
        "severity": "critical",
        "owner": "ada@example.com",
        "workflow": "daily",
    }
    assert alert["annotations"]["summary"] == FOUND.summary
    assert alert["startsAt"] == "2023-11-14T22:13:20.000Z"
    assert alert["endsAt"] == "0001-01-01T00:00:00Z"
    assert alert["fingerprint"] == FOUND.key


def test_a_webhook_is_told_the_end(hook):
    WebhookChannel("oncall", hook.url).tell(RESOLVED)
    ((headers, document),) = hook.got
    assert "Authorization" not in headers
    assert document["status"] == document["alerts"][0]["status"] == "resolved"
    assert document["alerts"][0]["endsAt"] == "2023-11-14T22:13:50.500Z"


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503, 302])
def test_a_webhook_that_does_not_take_it_is_told_so(hook, status):
    hook.status = status
    with pytest.raises(ChannelError, match=str(status)):
        WebhookChannel("oncall", hook.url).tell(FIRING)
    assert len(hook.got) == 1, "a redirect must not be followed: it would lose the body"


def test_a_webhook_that_nobody_serves():
    with pytest.raises(ChannelError, match="refused"):
        WebhookChannel("oncall", "http://127.0.0.1:9/hook").tell(FIRING)


def test_a_mail_goes_to_the_owner_and_others(mail_server):
    mail_channel(mail_server).tell(FIRING)
    ((envelope, raw),) = mail_server.got
    assert envelope == ["ada@example.com", "ops@example.com"]
    mail = message_from_bytes(raw, policy=policy.default)
    assert mail["Subject"] == "[critical] workflow_failed: dataflow-workflow-daily"
    assert mail["To"] == "ada@example.com, ops@example.com"
    assert mail["From"] == "mill@example.com"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "daily has failed\r\nfor 3 slots" in mail.get_content()
    assert "since: 2023-11-14 22:13:20 UTC" in mail.get_content()


def test_a_subject_is_one_line_whatever_the_data_is(mail_server):
    hostile = Finding("slow", "a\r\nBcc: thief@example.com", "x", "ada@example.com")
    mail_channel(mail_server).tell(Message(Notice.FIRING, hostile, 0.0, 0.0))
    ((envelope, raw),) = mail_server.got
    assert "thief@example.com" not in envelope
    mail = message_from_bytes(raw, policy=policy.default)
    assert mail["Bcc"] is None
    assert mail["Subject"] == "[critical] slow: a Bcc: thief@example.com"


def test_an_owner_without_an_address_is_left_out(mail_server):
    finding = Finding("slow", "linux", "x", "the build team")
    mail_channel(mail_server).tell(Message(Notice.FIRING, finding, 0.0, 0.0))
    assert mail_server.got[0][0] == ["ops@example.com"]
    with pytest.raises(ChannelError, match="nobody to send to: the owner 'the build team'"):
        mail_channel(mail_server, to=("{owner}",)).tell(Message(Notice.FIRING, finding, 0.0, 0.0))


def test_an_address_that_is_refused_is_logged_and_the_others_get_it_once(mail_server, caplog):
    mail_channel(mail_server, to=("nobody@example.com", "ops@example.com")).tell(FIRING)
    assert [envelope for envelope, _ in mail_server.got] == [["ops@example.com"]]
    assert "channel mail: the server refused nobody@example.com" in caplog.text


def test_a_mail_that_nobody_can_be_sent_is_not_taken(mail_server):
    with pytest.raises(ChannelError, match="it was refused") as caught:
        mail_channel(mail_server, to=("nobody@example.com",)).tell(FIRING)
    assert caught.value.is_of_message


@pytest.mark.parametrize(
    ("owner", "to"),
    [
        ("ada@example.com, bob@example.com", ["ada@example.com", "bob@example.com"]),
        ("Ada <ada@example.com>", ["ada@example.com"]),
        ('"Team, data" <team@example.com>; bob@example.com', ["team@example.com"]),
    ],
)
def test_owners(mail_server, owner, to):
    finding = dataclasses.replace(FOUND, owner=owner)
    mail_channel(mail_server, to=("{owner}",)).tell(dataclasses.replace(FIRING, finding=finding))
    ((envelope, text),) = mail_server.got
    assert envelope[: len(to)] == to
    assert message_from_bytes(text, policy=policy.default)["To"].startswith(", ".join(to))


def test_an_owner_with_a_line_end_adds_nobody_and_silences_nothing(mail_server):
    finding = dataclasses.replace(FOUND, owner="ada@example.com\nBcc: eve@example.com")
    mail_channel(mail_server).tell(dataclasses.replace(FIRING, finding=finding))
    assert [envelope for envelope, _ in mail_server.got] == [["ops@example.com"]]


def test_a_server_that_says_no_farewell_has_taken_the_mail(mail_server, monkeypatch):
    def quit_badly(self):
        raise TimeoutError("timed out")

    monkeypatch.setattr(smtplib.SMTP, "quit", quit_badly)
    mail_channel(mail_server).tell(FIRING)
    assert len(mail_server.got) == 1


def test_no_mail_goes_out_in_clear_when_encryption_is_asked_for(mail_server):
    channel = MailChannel(
        "mail", "127.0.0.1", mail_server.server_address[1], "mill@example.com", ("a@example.com",)
    )
    with pytest.raises(ChannelError, match="STARTTLS"):
        channel.tell(FIRING)
    assert mail_server.got == []


def test_a_command_gets_the_document_on_its_stdin(tmp_path):
    script = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"
    target = tmp_path / "told.json"
    CommandChannel("pager", (sys.executable, "-c", script, str(target))).tell(FIRING)
    assert json.loads(target.read_text())["alerts"][0]["labels"]["workflow"] == "daily"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ((sys.executable, "-c", "import sys; sys.exit('no pager')"), "ended with 1: no pager"),
        (("/no/such/program",), "cannot be run: No such file"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), r"longer than 0\.5 s"),
    ],
)
def test_a_command_that_fails(command, says):
    with pytest.raises(ChannelError, match=says):
        CommandChannel("pager", command, timeout_seconds=0.5).tell(FIRING)


def test_a_command_that_leaves_something_running_has_taken_it(tmp_path):
    began = SYSTEM_CLOCK.monotonic()
    CommandChannel("note", ("sh", "-c", "sleep 5 & exit 0"), 3.0).tell(FIRING)
    assert SYSTEM_CLOCK.monotonic() - began < 2.0


def test_a_command_that_does_not_end_is_killed_with_what_it_started(tmp_path):
    late = tmp_path / "late"
    script = f"(sleep 1; touch {late}) & wait"
    with pytest.raises(ChannelError, match=r"longer than 0\.2 s"):
        CommandChannel("note", ("sh", "-c", script), 0.2).tell(FIRING)
    SYSTEM_CLOCK.sleep(1.3)
    assert not late.exists()


SECRET = "T0K3N"


@pytest.mark.parametrize(
    "channel",
    [
        WebhookChannel("hook", f"http://127.0.0.1:1/{SECRET}"),
        WebhookChannel("hook", f"http://127.0.0.1:1/{SECRET}\n"),
        WebhookChannel("hook", f"http://mill:{SECRET}@127.0.0.1/x"),
        WebhookChannel("hook", "http://127.0.0.1:1/x", f"{SECRET}\nX-Y: z"),
        WebhookChannel("hook", f"http://{SECRET * 20}.invalid/x"),
    ],
)
def test_what_a_channel_says_holds_no_secret(channel):
    with pytest.raises(ChannelError) as caught:
        channel.tell(FIRING)
    assert SECRET not in "".join(traceback.format_exception(caught.value)).split("Error: ")[-1]
    assert SECRET not in str(caught.value)


def test_a_webhook_that_sends_its_token_back_is_not_repeated(hook):
    hook.status = 404
    hook.reason = f"no /hook/{SECRET}"
    with pytest.raises(ChannelError, match="it answered 404") as caught:
        WebhookChannel("hook", f"{hook.url}/{SECRET}").tell(FIRING)
    assert SECRET not in str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Apprise imports
def test_the_real_apprise_hands_it_to_a_service(hook):
    url = f"json://127.0.0.1:{hook.server_port}/hook"
    AppriseChannel("chat", (url,)).tell(FIRING)
    ((_, document),) = hook.got
    assert document["title"] == FIRING.title
    assert "daily has failed" in document["message"]
    hook.status = 500
    with pytest.raises(ChannelError, match="Apprise could not hand it over"):
        AppriseChannel("chat", (url,)).tell(FIRING)
    with pytest.raises(ChannelError, match="does not understand") as caught:
        AppriseChannel("chat", (f"nosuch://{SECRET}",)).tell(FIRING)
    assert SECRET not in str(caught.value)


def test_apprise_that_is_not_installed_says_how(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ChannelError, match=r"pip install 'eventmill\[notify\]'"):
        AppriseChannel("slack", ("slack://x",)).tell(FIRING)


def test_apprise_is_handed_title_and_text(monkeypatch):
    told = []

    class Apprise:
        def add(self, url):
            return url.startswith("slack:")

        def notify(self, title, body):
            told.append((title, body))
            return len(told) == 1

    monkeypatch.setitem(sys.modules, "apprise", types.SimpleNamespace(Apprise=Apprise))
    AppriseChannel("slack", ("slack://x",)).tell(FIRING)
    assert told[0][0] == FIRING.title
    with pytest.raises(ChannelError, match="could not hand it over"):
        AppriseChannel("slack", ("slack://x",)).tell(FIRING)
    with pytest.raises(ChannelError, match="does not understand"):
        AppriseChannel("slack", ("odd://x",)).tell(FIRING)
