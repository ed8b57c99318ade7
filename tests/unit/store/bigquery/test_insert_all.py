"""insertAll: what goes again, what is told, what waits."""

import pytest
from google.api_core import exceptions as api

from eventmill.base.errors import BackPressureError, UnavailableError
from eventmill.schema.table import TableId
from eventmill.store.bigquery.insert_all import REQUEST_BYTES_MAX, InsertAllWriter
from eventmill.store.bigquery.storage_write import TableNotThereError

TABLE = TableId("p", "d", "t")


def rows(*texts):
    return [{"_insert_id": f"i{n}", "text": text} for n, text in enumerate(texts)]


def told(index, reason="invalid", message="told", location="text"):
    return {
        "index": index,
        "errors": [{"reason": reason, "message": message, "location": location}],
    }


class Client:
    """Answers by ``answer(rows)``; keeps what each request had."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []

    def insert_rows_json(self, table, sent, row_ids, timeout, retry):
        assert row_ids == [row["_insert_id"] for row in sent]
        self.requests.append([row["text"] for row in sent])
        found = self.answer(sent)
        if isinstance(found, Exception):
            raise found
        return found


def refuses(*bad):
    """Take no row of a request that has one of ``bad``, as BigQuery does."""

    def answer(sent):
        wrong = [n for n, row in enumerate(sent) if row["text"] in bad]
        if not wrong:
            return []
        return [told(n) if n in wrong else told(n, "stopped", "", "") for n in range(len(sent))]

    return answer


def test_rows_beside_a_faulty_one_go_again_without_it():
    client = Client(refuses("bad", "worse"))
    faults = InsertAllWriter(client).append(TABLE, rows("a", "bad", "b", "worse"))
    assert [(fault.index, fault.message) for fault in faults] == [
        (1, "text: told"),
        (3, "text: told"),
    ]
    assert client.requests == [["a", "bad", "b", "worse"], ["a", "b"]]


def test_rows_that_a_refusal_does_not_name_go_again_as_well():
    answers = iter([[told(1)], []])
    client = Client(lambda sent: next(answers))
    faults = InsertAllWriter(client).append(TABLE, rows("a", "bad", "c"))
    assert [fault.index for fault in faults] == [1]
    assert client.requests[1] == ["a", "c"]


def test_500_rows_and_ten_megabytes_are_the_most_of_a_request():
    client = Client(lambda sent: [])
    InsertAllWriter(client).append(TABLE, rows(*["x"] * 1001))
    assert [len(each) for each in client.requests] == [500, 500, 1]
    client.requests.clear()
    InsertAllWriter(client).append(TABLE, rows(*["y" * (REQUEST_BYTES_MAX // 3)] * 4))
    assert [len(each) for each in client.requests] == [2, 2]


def test_a_request_that_is_too_large_is_halved_down_to_the_row():
    too_large = api.from_http_status(413, "too large")
    client = Client(lambda sent: too_large if len(sent) > 1 or sent[0]["text"] == "z" else [])
    faults = InsertAllWriter(client).append(TABLE, rows("a", "b", "z", "c", "d"))
    assert [(fault.index, fault.message) for fault in faults] == [(2, "too large")]
    stored = [texts[0] for texts in client.requests if len(texts) == 1 and texts != ["z"]]
    assert sorted(stored) == ["a", "b", "c", "d"]


def test_a_field_that_is_not_known_yet_and_a_table_that_is_not_there_wait():
    client = Client(lambda sent: [told(0, message="no such field: host.")])
    with pytest.raises(TableNotThereError):
        InsertAllWriter(client).append(TABLE, rows("a"))
    with pytest.raises(TableNotThereError):
        InsertAllWriter(Client(lambda sent: api.NotFound("Table p:d.t"))).append(TABLE, rows("a"))


def test_a_request_that_is_stopped_without_a_reason_waits():
    client = Client(lambda sent: [told(n, "stopped", "", "") for n in range(len(sent))])
    with pytest.raises(TableNotThereError, match="names no faulty one"):
        InsertAllWriter(client).append(TABLE, rows("a", "b"))


@pytest.mark.parametrize("reason", ["backendError", "timeout", "internalError"])
def test_a_fault_of_bigquery_itself_is_no_fault_of_the_row(reason):
    client = Client(lambda sent: [told(0, reason)])
    with pytest.raises(UnavailableError):
        InsertAllWriter(client).append(TABLE, rows("a"))


def test_a_quota_asks_for_a_pause():
    quota = api.Forbidden("q", errors=[{"reason": "quotaExceeded", "message": "q"}])
    with pytest.raises(BackPressureError) as raised:
        InsertAllWriter(Client(lambda sent: quota)).append(TABLE, rows("a"))
    assert raised.value.retry_after_seconds
