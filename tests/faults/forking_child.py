"""Forks as servers and task queues do, and stages in parents and children; see ``sender_child``."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time

from sender_child import Sender, main, say

from eventmill.client.spool import spool

FORK_OFFSET = 1_000_000
"""Added to the numbers of a forked child's events, for each child once more."""


class Forking(Sender):
    """One uploader, made before the forks."""

    def fork_first(self):
        """Fork before the first event; parent and child stage at the same time."""
        self.in_fork(lambda: self.stage(0, self.count))

    def fork_later(self):
        """Fork while events wait and threads send."""
        self.stage(0, self.count // 2)
        self.in_fork(lambda: self.stage(self.count // 2, self.count))

    def in_fork(self, meanwhile):
        child = self.forked(lambda: self.stage(FORK_OFFSET, FORK_OFFSET + self.count))
        meanwhile()
        os.waitpid(child, 0)

    def forked(self, work):
        """Do ``work`` in a child that ends without any clean-up; return its process ID."""
        child = os.fork()
        if not child:
            work()
            os._exit(0)
        return child

    def multiprocessing_fork(self):
        """Let worker processes stage, that know nothing of the uploader's life."""
        self.stage(0, self.count // 2)
        context = multiprocessing.get_context("fork")
        workers = [
            context.Process(target=self.stage, args=(begin, begin + self.count))
            for begin in (FORK_OFFSET, 2 * FORK_OFFSET)
        ]
        for worker in workers:
            worker.start()
        self.stage(self.count // 2, self.count)
        for worker in workers:
            worker.join()

    def preload(self):
        """Fork web workers that stage from threads and end by SIGTERM, as Gunicorn does."""
        workers = []
        for place in range(1, 4):
            ready, told = os.pipe()
            worker = os.fork()
            if not worker:
                self.serve(place, told)
                sys.exit(0)
            os.close(told)
            workers.append((worker, ready))
        for worker, ready in workers:
            assert os.read(ready, 1)
            os.kill(worker, signal.SIGTERM)
        assert [os.waitpid(worker, 0)[1] for worker, _ in workers] == [0, 0, 0]

    def serve(self, place, told):
        """Be a web worker: two threads stage, and SIGTERM ends it as ``sys.exit`` does."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        begin = place * FORK_OFFSET
        threads = [
            threading.Thread(target=self.stage, args=(at, at + self.count // 2))
            for at in (begin, begin + self.count // 2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.write(told, b"!")
        while True:  # one long sleep would not end by a signal that another thread has got
            time.sleep(0.02)

    def prefork(self):
        """Keep a pool of workers, of which some are killed and others end after their tasks."""
        parent = threading.Thread(target=self.stage, args=(0, self.count))
        self.stage(self.count, self.count + 10)
        parent.start()  # so that the parent's own threads hold whatever they hold at each fork
        killed = 0
        for round_index in range(3):
            places = range(3 * round_index + 1, 3 * round_index + 4)
            lost = self.forked(lambda at=places[0]: self.work(at, 900_000))
            pool = [lost, *(self.forked(lambda at=at: self.work(at)) for at in places[1:])]
            time.sleep(self.rng.uniform(0.0, 0.05))
            os.kill(lost, signal.SIGKILL)  # "worker lost", in the middle of whatever it does
            ends = [os.waitpid(worker, 0)[1] for worker in pool]
            killed += ends.count(signal.SIGKILL)
            assert ends[1:] == [0, 0]
        parent.join()
        say(killed=killed, forked=9, left=self.events.close(10))

    def work(self, place, tasks=60):
        """Be a worker of a pool: some tasks, an event each, and an end."""
        self.stage(place * FORK_OFFSET, place * FORK_OFFSET + tasks)

    def fork_under_lock(self):
        """Fork until often enough another thread was in the middle of ``stage`` at that moment."""
        held = []

        def look():
            is_free = self.events._lock.acquire(blocking=False)
            held.append(not is_free)
            if is_free:
                self.events._lock.release()

        os.register_at_fork(before=look)
        sys.setswitchinterval(1e-5)
        is_over = threading.Event()

        def stage():
            number = 0
            while not is_over.is_set():
                self.stage(number, number + 1)
                number += 1

        thread = threading.Thread(target=stage)
        thread.start()
        place = 0
        while sum(held) < 5 and place < 300:
            place += 1
            child = self.forked(lambda place=place: self.work(place))
            assert os.waitpid(child, 0)[1] == 0
        is_over.set()
        thread.join()
        say(held=sum(held), forked=place, left=self.events.close(10))

    def fork_while_adopting(self):
        """Fork while a thread takes over what others left, and be killed; the child lives on."""
        is_within = threading.Event()
        real = spool.opened

        def opened(folder, **options):
            is_within.set()
            time.sleep(0.2)  # as long as a slow disk needs
            return real(folder, **options)

        spool.opened = opened
        self.stage(0, 10)
        assert is_within.wait(10)
        child = os.fork()
        if not child:
            say(child=os.getpid())  # only now are the parent's files closed here
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(60)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Forking)
