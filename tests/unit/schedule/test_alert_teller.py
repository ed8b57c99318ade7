"""Telling: each channel on its own, none waited for without end."""

import random
import threading

import pytest

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.schedule.alert_book import AlertBook
from eventmill.schedule.alert_channels import ChannelError
from eventmill.schedule.alert_files import AlertFiles
from eventmill.schedule.alert_finding import Finding, RuleOutcome
from eventmill.schedule.alert_teller import AlertTeller
from eventmill.testing.fakes import FakeClock

NAMES = ("good", "slow")


class Channel:
    def __init__(self, name, act=lambda message: None):
        self.name, self.act, self.told, self.tries = name, act, [], 0

    def tell(self, message):
        self.tries += 1
        self.act(message)
        self.told.append(message.finding.subject)


class World:
    def __init__(self, path, *channels):
        self.clock = FakeClock(1_790_000_000.0)
        self.book = AlertBook(path)
        self.files = AlertFiles({each.name: each for each in channels}, (), (), {})
        self.teller = AlertTeller(self.book.queue, self.clock, random.Random(1))

    def find(self, count):
        found = tuple(Finding("r", f"t{index:03}", "x") for index in range(count))
        self.book.record(RuleOutcome("r", found), self.clock.now(), self.files.route)

    def tell(self, seconds=0.5):
        return self.teller.tell(self.files, seconds)


@pytest.fixture
def world(tmp_path):
    made = []

    def make(*channels):
        made.append(World(str(tmp_path / "schedule.db"), *channels))
        return made[0]

    yield make
    made[0].book.close()


def test_a_channel_that_hangs_keeps_no_other_from_being_told(world):
    released = threading.Event()
    good, slow = Channel("good"), Channel("slow", lambda _: released.wait(10))
    here = world(good, slow)
    here.find(100)
    began = SYSTEM_CLOCK.monotonic()
    assert here.tell(1.5) == 1
    assert SYSTEM_CLOCK.monotonic() - began < 3.0
    assert len(good.told) == 100
    here.tell(0.1)
    assert slow.tries == 1  # it is still at the first
    released.set()
    deadline = SYSTEM_CLOCK.monotonic() + 10.0
    while here.book.queue.waiting():
        assert SYSTEM_CLOCK.monotonic() < deadline
        here.tell(2.0)
    assert len(slow.told) == 100
    assert slow.tries == 100


def test_a_channel_that_is_down_is_tried_once_a_round(world):
    def refuse(_):
        raise ChannelError("connection refused")

    down = Channel("down", refuse)
    here = world(down)
    here.find(100)
    assert here.tell() == 1
    assert down.tries == 1
    assert here.tell() == 1
    assert down.tries == 2


def test_a_notice_that_cannot_be_sent_keeps_the_others_back_no_round(world):
    def refuse_one(message):
        if message.finding.subject == "t000":
            raise ChannelError("its owner is no address", is_of_message=True)

    mail = Channel("mail", refuse_one)
    here = world(mail)
    here.find(5)
    assert here.tell() == 1
    assert len(mail.told) == 4


def test_a_fault_of_ours_in_a_channel_silences_nothing(world, caplog):
    def fail(message):
        if message.finding.subject == "t000":
            raise ValueError("a line\nwith T0K3N")

    hook = Channel("hook", fail)
    here = world(hook)
    here.find(3)
    assert here.tell() == 1
    assert len(hook.told) == 2
    assert here.book.queue.waiting()[0].error == "unexpectedly, ValueError"


def test_what_a_channel_says_is_one_line_without_controls(world, caplog):
    def refuse(_):
        raise ChannelError("no\x1b[31m\nWARNING all is well")

    here = world(Channel("hook", refuse))
    here.find(1)
    here.tell()
    assert here.book.queue.waiting()[0].error == "no [31m WARNING all is well"


def test_a_clock_that_jumps_a_day_gives_nothing_up(world):
    answers = [ChannelError("down"), ChannelError("down"), None]

    def act(_):
        if (answer := answers.pop(0)) is not None:
            raise answer

    hook = Channel("hook", act)
    here = world(hook)
    here.find(1)
    here.tell()
    here.clock.advance(2 * 86_400.0)
    here.tell()
    here.clock.advance(600.0)
    assert here.tell() == 0
    assert hook.told == ["t000"]
