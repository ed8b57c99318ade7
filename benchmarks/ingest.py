"""Durable ingest against the raw log floor, alone and with compactor and reader at work."""

import asyncio
import os
import shutil
import statistics
import tempfile
import threading
import time

from benchmarks.events import TABLE, make_batches, make_events, message_type, spec
from benchmarks.floor import FloorGroup, FloorLog
from benchmarks.pairs import Measure, pair
from eventmill.base.errors import BackPressureError
from eventmill.base.settings import StoreSettings
from eventmill.server.answers import LoopAnswers
from eventmill.store.local.store import LocalStore
from eventmill.wire.batch import Batch

BATCH = 500
WRITERS = 64


def bench(quick):
    """Return the measures of this module."""
    events = make_events(20_000)
    rounds = 3 if quick else 7
    return [
        *_batches(events, rounds),
        *_one_row_writers(events, rounds, 1.0 if quick else 2.0),
        *_sustained(events, 6.0 if quick else 30.0),
    ]


def _batches(events, rounds):
    """Batches of 500 from four threads, as a server has them, against the same frames raw."""
    ours, floor, alone, alone_floor = [], [], [], []
    for number in range(rounds):
        batches = make_batches(events * 3, BATCH, b"round%d" % number)
        folder = tempfile.mkdtemp()
        try:
            log = FloorLog(os.path.join(folder, "floor.log"))
            half = len(batches) // 2
            began = time.perf_counter()
            for batch in batches[:half]:
                log.append([batch.payload])
            floor.append(half * BATCH / (time.perf_counter() - began))
            log.close()
            with LocalStore.open(os.path.join(folder, "store")) as store:
                store.apply(spec())
                store.put(make_batches(events[:BATCH], BATCH, b"warm")[0])
                ours.append(_put_from_threads(store, batches[:half], 4))
                began = time.perf_counter()
                for batch in batches[half:]:
                    store.put(batch)
                alone.append((len(batches) - half) * BATCH / (time.perf_counter() - began))
                assert store.stats(TABLE).rows == len(batches) * BATCH + BATCH
        finally:
            shutil.rmtree(folder)
        alone_floor.append(floor[-1])
    return [
        pair("ingest, batch 500, 4 putting threads / raw log", ours, floor, "rows/s", at_least=0.5),
        pair("ingest, batch 500, 1 putting thread / raw log", alone, alone_floor, "rows/s"),
    ]


def _put_from_threads(store, batches, count):
    def put(part):
        for batch in part:
            store.put(batch)

    threads = [threading.Thread(target=put, args=(batches[n::count],)) for n in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(batches) * BATCH / (time.perf_counter() - began)


def _one_row_writers(events, rounds, seconds):
    """64 coroutines that write one row each, against a group commit without judgement."""
    ours, floor = [], []
    for _ in range(rounds):
        folder = tempfile.mkdtemp()
        try:
            floor.append(asyncio.run(_floor_writers(folder, events, seconds)))
            with LocalStore.open(os.path.join(folder, "store")) as store:
                store.apply(spec())
                rate = asyncio.run(_store_writers(store, events, seconds))
                ours.append(rate)
        finally:
            shutil.rmtree(folder)
    return [
        pair("ingest, 64 one-row writers / raw log", ours, floor, "rows/s", at_least=0.6),
    ]


async def _floor_writers(folder, events, seconds):
    group = FloorGroup(os.path.join(folder, "group.log"))
    return await _writers(lambda batch: group.submit(batch.payload), group.close, events, seconds)


async def _store_writers(store, events, seconds):
    answers = LoopAnswers(asyncio.get_running_loop())

    def submit(batch):
        future = answers.future()
        store.submit(batch, answers.answer_for(future))
        return future

    return await _writers(submit, lambda: None, events, seconds)


async def _writers(submit, close, events, seconds):
    fingerprint = message_type().fingerprint
    acked = 0
    deadline = time.perf_counter() + seconds

    async def write(writer):
        nonlocal acked
        number = 0
        while time.perf_counter() < deadline:
            event = events[(writer * 311 + number) % len(events)]
            batch = Batch.build(TABLE, fingerprint, [b"w%d-%d" % (writer, number)], [event])
            await submit(batch)
            acked += 1
            number += 1

    began = time.perf_counter()
    await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
    rate = acked / (time.perf_counter() - began)
    close()
    return rate


def _sustained(events, seconds):
    """Acked rows/s for a while, with the compactor and a reader running on the same cores."""
    folder = tempfile.mkdtemp()
    options = StoreSettings(sealed_bytes_max=128_000_000)
    acked = paused = queries = 0
    waits, query_seconds = [], []
    try:
        with LocalStore.open(
            os.path.join(folder, "store"), compactor=True, options=options
        ) as store:
            store.apply(spec())
            stop = threading.Event()

            def read():
                nonlocal queries
                while not stop.wait(0.5):
                    began = time.perf_counter()
                    list(store.query("SELECT builder, COUNT(*) FROM bench.results GROUP BY 1"))
                    query_seconds.append(time.perf_counter() - began)
                    queries += 1

            reader = threading.Thread(target=read)
            reader.start()
            deadline = time.perf_counter() + seconds
            number = 0
            began = time.perf_counter()
            while time.perf_counter() < deadline:
                for batch in make_batches(events, BATCH, b"turn%d" % number):
                    asked = time.perf_counter()
                    try:
                        store.put(batch)
                    except BackPressureError:
                        paused += 1
                        time.sleep(0.05)
                        continue
                    waits.append(time.perf_counter() - asked)
                    acked += BATCH
                number += 1
            ingest_seconds = time.perf_counter() - began
            stop.set()
            reader.join()
            stats = store.stats(TABLE)
            assert stats.rows == acked, (stats, acked)
            lake = stats.lake_rows
    finally:
        shutil.rmtree(folder)
    return [
        Measure("sustained ingest, compactor and reader running", acked / ingest_seconds, "rows/s"),
        Measure("  of it compacted in the same time", lake / ingest_seconds, "rows/s"),
        Measure("  ack p50", statistics.median(waits) * 1e3, "ms"),
        Measure("  ack p99", statistics.quantiles(waits, n=100)[98] * 1e3, "ms"),
        Measure("  asked to pause (back-pressure)", paused, "times"),
        Measure("  reader's query p50", statistics.median(query_seconds or [0]) * 1e3, "ms"),
    ]
