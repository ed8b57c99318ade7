import pyarrow as pa
import pytest

from eventmill.wire.answer import QueryResult, QueryStats
from eventmill.wire.arrow_stream import decode_arrow, encode_arrow

STATS = QueryStats(seconds=0.25, bytes_scanned=7, truncated=True, row_limit=3)


@pytest.mark.parametrize("rows", [0, 1, 200_000])
def test_an_answer_comes_back_as_it_was(rows):
    table = pa.table({"n": pa.array(range(rows), pa.int64()), "t": [["x", None]] * rows})
    table = table.replace_schema_metadata({"theirs": "kept"})
    back = decode_arrow(b"".join(encode_arrow(QueryResult(table, STATS))))
    assert back.stats == STATS
    assert back.to_arrow().equals(table, check_metadata=True)


def test_a_stream_that_is_cut_anywhere_is_no_answer():
    table = pa.table({"n": list(range(100))})
    stream = b"".join(encode_arrow(QueryResult(table, STATS)))
    end_marker = 8  # a stream without it reads the same to Arrow, and has every row
    for cut in range(0, len(stream) - end_marker, 7):
        with pytest.raises(ValueError, match="Arrow"):
            decode_arrow(stream[:cut])


def test_another_programs_stream_is_no_answer():
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("a", pa.int64())])):
        pass
    with pytest.raises(ValueError, match="stats"):
        decode_arrow(sink.getvalue().to_pybytes())
