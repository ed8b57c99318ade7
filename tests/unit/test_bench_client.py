"""The sending benchmark's own parts, against a contender and a connection of a few lines."""

from __future__ import annotations

import gzip
import importlib
import json
import struct
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def part(monkeypatch):
    """Import a module of the benchmark, which is no part of the product."""
    monkeypatch.syspath_prepend(str(ROOT))
    yield lambda name: importlib.import_module(f"benchmarks.client.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)


class Fake:
    """A contender that notes what it is given; ``refuses`` every so many calls."""

    def __init__(self, refuses=0):
        self.captured = []
        self.is_closed = False
        self.refuses = refuses

    def make(self, values):
        return dict(values)

    def capture(self, event):
        if self.refuses and event["build_id"] % self.refuses == 0:
            raise ConnectionError("refused")
        self.captured.append(event["marker"])

    def close(self):
        self.is_closed = True


def test_the_event_has_the_fields_of_its_message_and_its_own_marker(part):
    values = part("event").values_of(7)
    message = part("processes").spec().columns
    assert [column.name for column in message] == list(values)
    assert len(values) == 25
    assert values["marker"] == "EVT-0000007"
    assert part("event").values_of(8)["marker"] == "EVT-0000008"


def test_a_burst_is_measured_to_the_end_of_close(part, monkeypatch):
    caller = part("caller")
    monkeypatch.setattr(caller, "WARM_UP_SECONDS", 0.0)
    fake = Fake()
    fake.close = lambda: setattr(fake, "is_closed", True) or caller.time.sleep(0.02)
    told = caller.measure(fake, 50)
    assert fake.is_closed
    uncounted = part("event").UNCOUNTED
    warm = [marker for marker in fake.captured if int(marker[4:]) >= uncounted]
    assert len(fake.captured) - len(warm) == told["count"] == 50
    assert told["seconds"] >= told["staged_seconds"] + 0.02
    assert 0 < told["call_p50"] <= told["call_p99"] <= told["call_max"]
    assert told["made_p50"] >= told["call_p50"]


def test_a_percentile_is_the_least_that_the_share_does_not_exceed(part):
    assert part("caller").percentile([3_000, 1_000, 2_000, 4_000], 0.5) == 3.0
    assert part("caller").percentile(list(range(0, 100_000, 1_000)), 0.99) == 99.0


class Written:
    def __init__(self):
        self.content = b""

    def write(self, content):
        self.content += content


def request(path, body, *more):
    head = [f"POST {path} HTTP/1.1", f"Content-Length: {len(body)}", *more]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("step", [1, 7, 1_000_000])
def test_the_sink_answers_each_protocol_however_its_bytes_arrive(part, step):
    sink = part("sink")
    kept = sink.Kept(b'{"table": 1}')
    connection = sink.Connection(kept)
    written = Written()
    connection.connection_made(written)
    markers = b"EVT-0000001 EVT-0000002 EVT-0000001 EVT-9000001"
    sent = (
        request("/api/v1/tables/local.bench.builds/events", struct.pack("<II", 3, 0) + markers)
        + request("/v1/logs", b"EVT-0000003")
        + request("/batch/", gzip.compress(b"EVT-0000004"), "Content-Encoding: gzip")
        + b"GET /api/v1/tables/local.bench.builds HTTP/1.1\r\n\r\n"
        + b"GET /counts HTTP/1.1\r\n\r\n"
    )
    for at in range(0, len(sent), step):
        connection.data_received(sent[at : at + step])
    bodies = [
        answer.partition(b"\r\n\r\n")[2] for answer in written.content.split(b"HTTP/1.1 200 OK")[1:]
    ]
    verdict = json.loads(bodies[0])
    assert (verdict["count"], verdict["accepted"], verdict["rejected"]) == (3, 3, [])
    assert bodies[1] == b""
    assert json.loads(bodies[3]) == {"table": 1}
    counted = json.loads(bodies[4])
    assert (counted["requests"], counted["events"], counted["different"]) == (3, 5, 4)


def test_what_was_refused_with_an_exception_is_not_lost(part, monkeypatch):
    loss = part("loss")
    monkeypatch.setattr(loss, "start", lambda *args, **more: Fake(refuses=5))
    program = loss.Program({"contender": "fake", "url": ""})
    program.send(0, 20)
    assert (program.sent, program.refused, len(program.contender.captured)) == (20, 4, 16)
    assert part("losses").Loss(20, 4, 16, False, 1.0).lost == 0
    assert part("losses").Loss(20, 4, 15, False, 1.0).lost == 1


@pytest.mark.parametrize(("own", "hung", "holds"), [(0, False, True), (1, False, False)])
def test_one_lost_event_of_ours_is_a_missed_target(part, own, hung, holds):
    losses = part("losses")
    found = {
        "eventmill": [losses.Loss(10, 0, 10, False, 1.0), losses.Loss(10, 0, 10 - own, hung, 1.0)],
        "other": [losses.Loss(10, 0, arrived, True, 1.0) for arrived in (4, 6, 10)],
    }
    limits = {"outage_seconds": 3.0}
    ours, other = losses._measures("outage", found, limits)
    assert (ours.name, ours.value, ours.holds) == ("lost, outage of 3 s: eventmill", own, holds)
    assert ours.against == other.value == 4
    assert "did not end" in other.unit


def test_a_pair_of_runs_says_whether_the_targets_hold(part):
    pace = part("pace")

    def run(call, rate):
        return {
            "call_p50": call, "call_p99": call * 3, "call_mean": call, "made_p50": call + 1,
            "make_p50": 1.0, "cpu": call, "rate": rate, "count": 10, "arrived": 10,
        }  # fmt: skip

    runs = {
        "eventmill": [run(3.0, 120_000), run(4.0, 110_000), run(3.5, 90_000)],
        "slow": [run(60.0, 9_000)] * 3,
        "quick": [run(11.0, 30_000)] * 3,
        "bigquery_lists": [run(0.1, 60_000)] * 3,
    }
    found = {measure.name: measure for measure in [*pace._costs(runs), *pace._rates(runs)]}
    assert found["caller, p50 of stage"].value == 3.5
    assert found["caller, p50 of stage"].holds
    best = found["p50 of stage / best peer (quick)"]
    assert (best.against, best.ratio, best.holds) == (11.0, 0.318, True)
    middle = found["p50 of stage / median of the peers"]
    assert (middle.against, middle.holds) == (35.5, True)
    assert found["all acked, trivial sink"].holds
    assert found["all acked / best peer (bigquery_lists)"].against == 60_000
    runs["eventmill"] = [run(4.5, 90_000)] * 3
    found = {measure.name: measure for measure in [*pace._costs(runs), *pace._rates(runs)]}
    assert found["caller, p50 of stage"].holds is False
    assert found["p50 of stage / best peer (quick)"].holds is False
    assert found["all acked, trivial sink"].holds is False
