"""JSON rows on their way to batches: what is refused, where it is cut, whose verdict it is."""

from __future__ import annotations

from codecs import BOM_UTF8

import pytest

from eventmill.base.errors import BatchError
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.table import Table
from eventmill.testing.events import build_spec
from eventmill.wire.batch import BATCH_BYTES_MAX
from eventmill.wire.insert_id import InsertIdSource
from eventmill.wire.json_events import JsonReader
from eventmill.wire.verdict import Rejection, Verdict

TABLE = Table(build_spec(), 1, 0.0, 0.0)


def grown(row):
    """Stand for an encoder whose events are larger than their JSON."""
    return bytes(row["size"])


def read(*sizes):
    reader = JsonReader(TABLE, grown, InsertIdSource(), insert_id_field=None, client="me")
    return reader.read(b"\n".join(b'{"size": %d}' % size for size in sizes), is_lines=True)


def test_events_too_many_for_one_batch_are_cut_without_gap_or_overlap():
    judged = read(*[900_000] * 25)
    batches = list(judged.batches())
    assert [batch.count for batch in batches] == [9, 9, 7]
    assert all(len(batch.payload) <= BATCH_BYTES_MAX for batch in batches)
    assert [i for batch in batches for i in batch.insert_ids] == judged.insert_ids
    assert {(b.client, b.table, b.fingerprint) for b in batches} == {
        ("me", TABLE.id, TABLE.spec.fingerprint)
    }


def test_an_event_over_the_limit_is_refused_and_its_neighbours_go_on():
    judged = read(1_000_000, 1_000_001, 1)
    assert [r.reason for r in judged.rejections] == [Reason.EVENT_TOO_LARGE]
    assert [event.payload for event in judged.refused] == [b'{"size": 1000001}']
    assert [batch.count for batch in judged.batches()] == [2]


def test_verdicts_of_batches_are_given_their_places_in_the_request():
    judged = read(*[900_000] * 5, 2_000_000, *[900_000] * 10)
    counts = [batch.count for batch in judged.batches()]
    assert counts == [9, 6]
    problem = EventProblem(Reason.MALFORMED_EVENT, "", "no message")
    verdict = judged.verdict([Verdict(9, (5,)), Verdict(6, (1,), (Rejection.of(0, "x", problem),))])
    assert (verdict.count, verdict.accepted) == (16, 12)
    assert verdict.duplicate_indexes == (6, 11)
    assert [r.index for r in verdict.rejected] == [5, 10]


@pytest.mark.parametrize("is_lines", [True, False])
@pytest.mark.parametrize(("at_start", "refused"), [(True, 0), (False, 1)])
def test_a_byte_order_mark_is_no_part_of_the_first_event(is_lines, at_start, refused):
    reader = JsonReader(TABLE, grown, InsertIdSource(), insert_id_field=None, client="me")
    body = BOM_UTF8 + b'{"size": 1}'
    if is_lines or at_start:
        judged = reader.read(body, is_lines=is_lines, at_start=at_start)
        assert (judged.count, len(judged.refused)) == (1, refused)
        return
    with pytest.raises(BatchError, match="not JSON"):
        reader.read(body, is_lines=is_lines, at_start=at_start)


def test_who_reads_may_name_what_is_refused_without_an_id_of_its_own():
    reader = JsonReader(
        TABLE,
        grown,
        InsertIdSource(),
        insert_id_field="id",
        client="me",
        name_refused=lambda index, text: b"%d:%b" % (index, text),
    )
    body = b'{"id": "a", "size": 1}\n{torn\n\n{"id": "b", "size": 1000001}\n{"size": 1}'
    judged = reader.read(body, is_lines=True)
    assert [event.insert_id for event in judged.refused] == ["1:{torn", "b", '3:{"size": 1}']


@pytest.mark.parametrize("size", [1_000_001])
def test_a_request_of_which_all_is_refused_has_no_batch(size):
    judged = read(size)
    assert list(judged.batches()) == []
    assert judged.verdict([]).count == 1
