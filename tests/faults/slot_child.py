"""Replaces slots of a store until it is killed; run by the kill tests, not collected.

``python slot_child.py FOLDER RUN SEED``: before each replacement it writes ``begin SLOT
GENERATION`` and after it ``done SLOT GENERATION``, each with one unbuffered write, so that the
parent knows what was acked before the kill.
"""

import os
import random
import sys

import pyarrow as pa

from eventmill.base.settings import StoreSettings
from eventmill.schema.table import TableId
from eventmill.store.local.store import LocalStore
from eventmill.store.slots import SlotKey

TABLE = TableId("local", "ci", "builds")
OPTIONS = StoreSettings(compact_every_seconds=0.02, file_grace_seconds=0.3)
SLOTS = 16
HOUR = 3600
FIRST = 1_790_000_000 // 86_400 * 86_400


def slot_of(number):
    """Return one of the slots that the child replaces."""
    return SlotKey("kills", FIRST + number * HOUR, FIRST + (number + 1) * HOUR)


def rows_of(number, generation):
    """Return the rows of a slot, whose count and content follow from the two."""
    rng = random.Random(f"{number}/{generation}")
    count = rng.randint(1, 60)
    days = [rng.randrange(3) for _ in range(count)]
    moments = [(FIRST + day * 86_400) * 1_000_000 for day in days]
    return pa.table(
        {
            "number": pa.array([generation] * count, pa.int32()),
            "builder": [f"slot-{number}"] * count,
            "ended_at": pa.array(moments, pa.timestamp("us", "UTC")),
            "artifact_bytes": range(count),
        }
    )


def main():
    folder, run, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    store = LocalStore.open(folder, compactor=True, options=OPTIONS)
    os.write(1, b"ready\n")
    for attempt in range(1_000_000):
        number, generation = rng.randrange(SLOTS), run * 1_000_000 + attempt
        os.write(1, b"begin %d %d\n" % (number, generation))
        rows = rows_of(number, generation)
        store.replace_slot(TABLE, slot_of(number), rows, generation=generation)
        os.write(1, b"done %d %d\n" % (number, generation))


if __name__ == "__main__":
    main()
