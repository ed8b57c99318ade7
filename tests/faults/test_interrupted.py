"""Signals that strike in the middle of ``stage``: nothing staged is lost, nobody waits for ever.

Ctrl-C raises there; a function for SIGTERM stages a last event, flushes, or closes. So does
``__del__`` of an object that is collected at that moment.
"""

import os
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from interrupting import every_point
from spool_world import WAIT, Build, let_die

from eventmill.base.errors import EventmillError, UnavailableError, UsageError
from eventmill.client.batch_uploader import BatchUploader
from eventmill.schema.table import Table
from eventmill.testing.events import build_spec, build_type
from eventmill.wire.verdict import Verdict

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no spool on this system")
SEGMENT_BYTES = 300


class NamesSink:
    """Remembers names by how often they came; refuses everything while it is down."""

    def __init__(self):
        self.names = Counter()
        self.is_down = True

    def put(self, batch, *, timeout_seconds=None):
        if self.is_down:
            raise UnavailableError("down")
        self.names.update(build_type().parse(event).name for event in batch.events)
        return Verdict(batch.count)

    def describe(self, table):
        return Table(build_spec(), 1, 0.0, 0.0)

    def close(self):
        pass


def world_of(folder, **options):
    sink = NamesSink()
    events = BatchUploader(
        sink,
        "contract.builds",
        spool_dir=str(folder),
        retry_base_seconds=0.001,
        retry_cap_seconds=0.002,
        flush_interval_seconds=0.0,
        close_at_exit=False,  # some of them are left as a dead process leaves them
        **options,
    )
    return SimpleNamespace(sink=sink, events=events, folder=folder, staged=[])


def stage(world, name):
    if world.events.stage(Build(name=name, tags=["x" * 100])):
        world.staged.append(name)


def before(world, where):
    """Bring the uploader to the state in which ``stage`` does what is to be struck."""
    if where == "first":
        return
    stage(world, "before")
    if where == "roll":
        world.events._spool._segment_bytes = SEGMENT_BYTES
        stage(world, "before-2")


def sent_here(world):
    world.sink.is_down = False
    assert world.events.flush(WAIT) == 0
    stats = world.events.stats()
    assert stats.staged == stats.accepted
    assert (stats.left, stats.dropped) == (0, {})
    assert world.events._spool.unread_bytes == 0
    world.events.close(WAIT)


def sent_by_an_heir(world):
    if not world.events._is_closed:
        let_die(world.events)
    heir = world_of(world.folder)
    heir.sink = world.sink
    heir.events._delivery._sink = world.sink
    world.sink.is_down = False
    stage(heir, "heir")
    assert heir.events.flush(WAIT) == 0
    heir.events.close(WAIT)


@pytest.mark.parametrize("where", ["first", "plain", "roll"])
@pytest.mark.parametrize("sent", [sent_here, sent_by_an_heir])
def test_ctrl_c_in_the_middle_of_stage(tmp_path, where, sent):
    def strike():
        raise KeyboardInterrupt

    struck = 0
    for interruption in every_point(strike):
        world = world_of(tmp_path / str(interruption.at))
        before(world, where)
        try:
            with interruption:
                stage(world, "struck")
        except KeyboardInterrupt:
            struck += 1
        stage(world, "after")
        stage(world, "after-2")
        sent(world)
        missing = set(world.staged) - set(world.sink.names)
        assert not missing, interruption.at
        assert max(world.sink.names.values()) == 1, interruption.at
    assert struck > 15


@pytest.mark.parametrize("where", ["first", "plain", "roll"])
@pytest.mark.parametrize("sent", [sent_here, sent_by_an_heir])
def test_a_signal_stages_in_the_middle_of_stage(tmp_path, where, sent):
    struck = 0
    for interruption in every_point(lambda: nested()):
        world = world_of(tmp_path / str(interruption.at))
        told = []

        def nested(world=world, told=told):
            try:
                stage(world, "nested")
            except EventmillError as error:
                told.append(error)

        before(world, where)
        with interruption:
            stage(world, "outer")
        stage(world, "after")
        sent(world)
        missing = set(world.staged) - set(world.sink.names)
        assert not missing, interruption.at
        assert "outer" in world.sink.names
        assert ("nested" in world.sink.names) is (interruption.has_struck and not told)
        assert max(world.sink.names.values()) == 1, interruption.at
        struck += interruption.has_struck
    assert struck > 15


@pytest.mark.parametrize("where", ["first", "plain", "roll"])
@pytest.mark.parametrize("call", ["flush", "close"])
def test_a_signal_flushes_or_closes_in_the_middle_of_stage(tmp_path, where, call):
    struck = slow = 0
    for interruption in every_point(lambda: nested()):
        world = world_of(tmp_path / str(interruption.at))
        before(world, where)

        def nested(world=world):
            world.sink.is_down = False
            getattr(world.events, call)(WAIT)

        begun = time.monotonic()
        try:
            with interruption:
                stage(world, "outer")
        except UsageError:
            assert call == "close", "or the caller is not told that its event was not taken"
        slow += time.monotonic() - begun > 1.0
        if call == "flush":
            stage(world, "after")
        world.sink.is_down = False
        world.events.close(WAIT)
        if set(world.staged) - set(world.sink.names):
            assert call == "close", "what close leaves waits in the spool"
            sent_by_an_heir(world)
        assert set(world.staged) <= set(world.sink.names), interruption.at
        assert max(world.sink.names.values(), default=1) == 1, interruption.at
        struck += interruption.has_struck
    assert struck > 15
    assert slow == 0
