"""How ``eventmill send`` puts one group while it judges the next."""

import threading

import pytest
from store_world import BUILDS, builds_spec

from eventmill.base.errors import AccessError
from eventmill.cli import send as send_module
from eventmill.cli.send import Sender
from eventmill.store.memory import MemoryStore
from eventmill.testing.fakes import RecordingSink

LINE = b'{"number": %d}\n'


class Gate(RecordingSink):
    """A store that takes a batch when it is let."""

    def __init__(self):
        store = MemoryStore()
        store.apply(builds_spec())
        super().__init__(store)
        self.open = threading.Event()
        self.open.set()
        self.arrived = threading.Event()
        self.error = None

    def put(self, batch, *, timeout_seconds=None):
        self.arrived.set()
        assert self.open.wait(20)
        if self.error is not None:
            raise self.error
        return super().put(batch)

    def numbers(self):
        rows = self.inner.query("SELECT number FROM ci.builds ORDER BY number")
        return [row["number"] for row in rows]


@pytest.fixture
def store():
    store = Gate()
    yield store
    store.open.set()


@pytest.fixture
def sender(store, monkeypatch):
    monkeypatch.setattr(send_module, "BATCH_ROWS", 2)
    return Sender(store, store.describe(BUILDS))


def test_lines_are_read_while_a_group_is_put(store, sender):
    store.open.clear()
    for number in range(3):
        sender.add(LINE % number)
    assert store.arrived.wait(10)
    assert sender.counts.sent == 0
    store.open.set()
    for number in range(3, 7):
        sender.add(LINE % number)
    sender.finish()
    assert store.numbers() == list(range(7))
    assert [batch.count for batch in store.batches] == [2, 2, 2, 1]
    assert (sender.counts.sent, sender.counts.accepted) == (7, 7)


def test_a_group_is_put_when_the_one_before_it_is_done(store, sender):
    store.open.clear()
    for number in range(3):
        sender.add(LINE % number)
    adding = threading.Thread(target=sender.add, args=(LINE % 3,))
    adding.start()
    adding.join(0.2)
    assert adding.is_alive()
    store.open.set()
    adding.join(10)
    sender.finish()
    assert sender.counts.sent == 4


def test_an_error_of_the_store_ends_it_and_counts_what_was_before(store, sender):
    for number in range(4):
        sender.add(LINE % number)
    sender.finish()
    store.error = AccessError("no longer")
    for number in range(4, 6):
        sender.add(LINE % number)
    with pytest.raises(AccessError, match="no longer"):
        sender.finish()
    sender.give_up()
    assert sender.counts.sent == 4


def test_who_gives_up_is_told_of_a_group_that_is_done_soon(store, sender):
    store.open.clear()
    for number in range(3):
        sender.add(LINE % number)
    threading.Timer(0.1, store.open.set).start()
    sender.give_up()
    assert sender.counts.sent == 2
    assert store.numbers() == [0, 1]


def test_who_gives_up_does_not_wait_for_a_group_that_is_not(store, sender, monkeypatch):
    monkeypatch.setattr(send_module, "GIVE_UP_SECONDS", 0.05)
    store.open.clear()
    for number in range(2):
        sender.add(LINE % number)
    sender.give_up()
    assert sender.counts.sent == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failure_that_nobody_foresaw_is_no_success(store, sender):
    store.error = ZeroDivisionError("a fault of ours")
    sender.add(LINE % 1)
    with pytest.raises(RuntimeError, match="failed"):
        sender.finish()
