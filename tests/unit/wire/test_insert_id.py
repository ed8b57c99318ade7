"""Insert IDs stay different from each other, across a fork as well."""

import os

import pytest

from eventmill.wire.insert_id import InsertIdSource


def test_ids_of_one_source_and_of_two_differ():
    one, other = InsertIdSource(), InsertIdSource()
    ids = [source.next() for source in (one, other) for _ in range(1000)]
    assert len(set(ids)) == 2000
    assert all(len(insert_id) < 24 and insert_id.isascii() for insert_id in ids)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("is_used", [False, True])
def test_a_forked_child_draws_a_prefix_of_its_own(is_used):
    source = InsertIdSource()
    if is_used:
        source.next()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, source.next())
        os._exit(0)
    os.close(write)
    assert os.waitpid(child, 0)[1] == 0
    drawn = os.read(read, 100)
    os.close(read)
    own = source.next()
    assert drawn.rpartition(b"-")[0] != own.rpartition(b"-")[0]
    assert own.endswith(b"-1" if is_used else b"-0")
