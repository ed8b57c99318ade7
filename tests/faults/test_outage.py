"""Delivery through an outage of the server in real time. It has begun with the first fault test."""

import pytest
from delivery_page import BACK
from outage import OUTAGE_SECONDS

SECTION = "Server and network"


@pytest.mark.slow
@pytest.mark.delivery("the server down for 60 s, while events are staged", delayed=BACK)
@pytest.mark.timeout(180)
def test_down_for_60_seconds(cell, outage):
    assert OUTAGE_SECONDS == 60.0
    cell.use_spool(outage.spool_dir)
    outage.wait()
    assert outage.child.poll() is None, "the sender has ended"
    cell.proxy(port=outage.port)
    outage.child.stdin.write(b"\n")
    assert cell.end_of(outage.child) == 0
    assert cell.said["left"] == 0
    assert cell.said["retried"] > 30
    cell.judge(cell.adopt())
    assert len(cell.staged) > 600
