"""The lock of a module: held by a thread of the parent, it is free in a forked child."""

import os
import threading

import pytest

from eventmill.base.renewed_lock import RenewedLock


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_finds_it_free_while_a_thread_of_the_parent_holds_it():
    guard = RenewedLock()
    held, done = threading.Event(), threading.Event()

    def hold():
        with guard.lock:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    child = os.fork()
    if not child:
        os._exit(0 if guard.lock.acquire(timeout=5) else 1)
    status = os.waitpid(child, 0)[1]
    assert not guard.lock.acquire(blocking=False), "the parent's is still held"
    done.set()
    thread.join()
    assert status == 0
    with guard.lock, guard.lock:
        assert guard.lock.acquire(blocking=False)
        guard.lock.release()
