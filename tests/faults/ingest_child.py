"""Ingests batches into a store until it is killed; run by the kill tests, not collected.

``python ingest_child.py FOLDER RUN SEED``: after each ack it writes the batch's number and a line
feed to stdout with one unbuffered write, so that the parent knows what was acked before the kill.
"""

import os
import random
import sys

from eventmill.base.settings import StoreSettings
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import TableId
from eventmill.store.local.store import LocalStore
from eventmill.wire.batch import Batch

TABLE = TableId("local", "ci", "builds")
OPTIONS = StoreSettings(
    segment_bytes=30_000, seal_after_seconds=0.2, compact_every_seconds=0.05, file_grace_seconds=0.5
)


def batch_of(store_type, fingerprint, run, number):
    """Return batch ``number`` of ``run``; its size and content follow from the two."""
    rng = random.Random(f"{run}/{number}")
    ids, events = [], []
    for place in range(rng.randint(1, 40)):
        insert_id = f"r{run}-b{number}-{place}"
        ids.append(insert_id.encode())
        event = store_type.cls(number=number, builder=f"builder-{rng.randrange(5)}", status=1)
        event.ended_at.seconds = 1_790_000_000 + rng.randrange(3) * 86_400
        event.tags.append("x" * rng.randrange(200))
        events.append(event.SerializeToString())
    return Batch.build(TABLE, fingerprint, ids, events)


def main():
    folder, run, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    store = LocalStore.open(folder, compactor=True, options=OPTIONS)
    spec = store.describe(TABLE).spec
    message_type = MessageType.load(spec.descriptor_set, spec.message)
    os.write(1, b"ready\n")
    number = 0
    while True:
        batch = batch_of(message_type, spec.fingerprint, run, number)
        store.put(batch)
        os.write(1, b"%d\n" % number)
        if rng.random() < 0.2:  # a sender that missed the reply puts the same batch again
            store.put(batch)
        number += 1


if __name__ == "__main__":
    main()
