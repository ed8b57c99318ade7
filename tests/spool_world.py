"""A spool with a name, and the faults of disks: what the spool's tests are about."""

import errno
import os
import threading
from functools import partial
from pathlib import Path

from eventmill.client import live
from eventmill.client.spool import owner, segment
from eventmill.client.spool.place import SpoolPlace
from eventmill.client.spool.record import (
    ENCODED,
    decode_records,
    encode_record,
)
from eventmill.client.spool.spool import Spool
from eventmill.testing.events import build_type
from eventmill.testing.fakes import FakeClock

Build = build_type().cls
SALT = 7
WAIT = 10.0
ALL = {"bytes_max": 1 << 20, "count_max": 10_000}


def record(number, size=20):
    return encode_record(ENCODED, b"id-%d" % number, b"%d" % number * size, 1.5, salt=SALT)


def decoded(content, *, count_max=10_000, bytes_max=1 << 30, is_rest=True):
    return decode_records(
        content, salt=SALT, count_max=count_max, bytes_max=bytes_max, is_rest=is_rest
    )


class Owner:
    """A spool with a name, and what a test does with it."""

    def __init__(self, folder, name="own", *, segment_bytes=10_000, bytes_max=1 << 20):
        self.place = SpoolPlace(
            str(folder) if folder else None, name, {"table": "t"}, segment_bytes, bytes_max, False
        )
        self.spool = Spool(threading.Lock(), FakeClock(), self.place)

    @property
    def path(self):
        return Path(self.place.folder, self.place.name)

    def append(self, *numbers, size=20):
        for number in numbers:
            insert_id, payload = b"id-%d" % number, b"%d" % number * size
            one = encode_record(ENCODED, insert_id, payload, 1.5, salt=self.spool.salt)
            with self.spool.lock:
                self.spool.append(one, "fingerprint")

    def drop_oldest(self):
        with self.spool.lock:
            return self.spool.drop_oldest()

    def take_all(self, **limits):
        """Return what is handed out until nothing is, without settling it."""
        return list(iter(lambda: self.spool.take(**{**ALL, **limits}), None))

    def crash(self):
        """Let go of the lock and the files as the end of a process does, and do nothing else."""
        self.spool.abandon()
        return self


def let_die(events):
    """Let go of a batch uploader as the end of its process does, and do nothing else."""
    events._sending.stop(WAIT)
    events._spool.abandon()
    events._is_closed = True
    live.retire(events)


def numbers_of(taken):
    return [int(insert_id[3:]) for each in taken for insert_id in each.ids]


def adopted_from(folder, name="heir", **limits):
    """Return an owner that has taken over what is in ``folder``, and what it hands out."""
    heir = Owner(folder, name)
    heir.spool.adopt()
    return heir, heir.take_all(**limits)


def full_disk(monkeypatch, fault, spool):
    real = os.pwrite

    def write(descriptor, content, start):
        if fault == "no space":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, content[: len(content) // 2], start)

    monkeypatch.setattr(segment.os, "pwrite", write)
    if spool._active is not None:  # an open segment has the function already
        active = spool._active.segment
        monkeypatch.setattr(active, "write", partial(write, active._fd))
    if fault == "a part, which stays":
        monkeypatch.setattr(segment.os, "ftruncate", refusing(errno.EIO))


def refusing(number):
    def refuse(*args, **options):
        raise OSError(number, os.strerror(number), str(args[0]))

    return refuse


def refuse_opens(monkeypatch, number, *, from_call):
    """Let ``os.open`` fail from its call number ``from_call`` on; return what it was asked for."""
    real, calls, refused = os.open, [], []

    def opened(path, *args, **options):
        calls.append(path)
        if len(calls) >= from_call:
            refused.append(path)
            refusing(number)(path)
        return real(path, *args, **options)

    monkeypatch.setattr(owner.os, "open", opened)
    return refused
