"""Spools as ended processes leave them, with events of a real table, and what is left in them."""

import os
import random
from pathlib import Path

from spool_world import Owner

from eventmill.client.drain import Drain
from eventmill.client.spool.dead import DeadLetters
from eventmill.client.spool.reading import header_in
from eventmill.client.spool.record import ENCODED, ROW, encode_record
from eventmill.client.spool.segment import FileSegment, salt_of
from eventmill.client.spool.survey import findings_in
from eventmill.testing.events import BUILDS, build, build_type
from eventmill.testing.fakes import FakeClock

TABLE = "local.contract.builds"
FINGERPRINT = build_type().fingerprint


def table_folder(spool):
    """Return the folder of the table in the spool at ``spool``."""
    return Path(spool, TABLE)


def living(spool, name, *names, rows=(), staged_at=1.5, segment_bytes=10_000):
    """Stage builds, each with its name as insert ID, and ``rows`` (ID, JSON); the owner lives."""
    owner = Owner(table_folder(spool), name, segment_bytes=segment_bytes)
    records = [(ENCODED, each.encode(), build(each)) for each in names]
    records += [(ROW, insert_id.encode(), text) for insert_id, text in rows]
    for kind, insert_id, payload in records:
        one = encode_record(kind, insert_id, payload, staged_at, salt=owner.spool.salt)
        with owner.spool.lock:
            owner.spool.append(one, FINGERPRINT if kind == ENCODED else "")
    return owner


def left(spool, name, *names, **options):
    """Stage as ``living`` does, and let the process end; return the owner's folder."""
    return living(spool, name, *names, **options).crash().path


def dead_letter(spool, name, *names, why="not taken"):
    """Keep builds as one dead letter; return its path."""
    letters = DeadLetters(str(table_folder(spool)), name, {"table": TABLE})
    events = [(each.encode(), build(each), False) for each in names]
    return Path(letters.keep(events, FINGERPRINT, why, 2.5))


def segment_of(owner_path):
    """Return the one segment in an owner's folder."""
    (path,) = Path(owner_path).glob("*.seg")
    return path


def drain_of(sink, spool, clock=None):
    """Return a drain with a clock that nobody waits for."""
    return Drain(sink, BUILDS, str(spool), clock=clock or FakeClock(), rng=random.Random(1))


def drained(sink, spool, *, timeout_seconds=60.0):
    """Drain; return the drain and whether it was done with all."""
    work = drain_of(sink, spool)
    return work, work.run(timeout_seconds, lambda: None)


def names_in(spool):
    """Return what is in the table's folder, but what is kept for people."""
    return sorted(set(os.listdir(table_folder(spool))) - {".dead", ".damaged"})


def header_of(path):
    """Return what the header of the dead letter at ``path`` says."""
    segment = FileSegment(str(path), 0, salt_of(path.stem), create=False)
    try:
        return header_in(segment)
    finally:
        segment.close()


def waiting(spool):
    """Return how many events there are, by state."""
    counts = {}
    for finding in findings_in(str(table_folder(spool))):
        state = str(finding.state)
        counts[state] = counts.get(state, 0) + finding.amount.events
    return counts
