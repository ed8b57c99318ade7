"""Random definitions, events and moments of compaction: the answer is that of the memory store."""

import random
from contextlib import closing

import pytest
from proto_world import RandomWire, compiled

from eventmill.base.errors import SchemaConflictError
from eventmill.base.settings import StoreSettings
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import TableId
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.store import LocalStore
from eventmill.store.memory import MemoryStore
from eventmill.wire.batch import Batch

TABLE = TableId("local", "t", "m")
SCALARS = (
    "int64 {} = {};", "optional int64 {} = {};", "string {} = {};", "bool {} = {};", "E {} = {};",
    "repeated E {} = {};", "uint64 {} = {} [(bqschema.options).bq_type = 'NUMERIC'];",
    "string {} = {} [(bqschema.options).bq_type = 'DATE'];", "repeated string {} = {};",
    "map<string, int32> {} = {};", "map<string, E> {} = {} [(bqschema.options).bq_type = 'JSON'];",
    "google.protobuf.Timestamp {} = {};", "google.protobuf.Int64Value {} = {};",
)  # fmt: skip
RECORDS = (
    "{} {} = {};", "repeated {} {} = {};", "map<int32, {}> {} = {};",
    "{} {} = {} [(bqschema.options).bq_type = 'JSON'];",
)  # fmt: skip


class Growing:
    """A .proto that grows at random: fields come, some go, and presence and enums change."""

    def __init__(self, rng):
        self._rng = rng
        self._messages = {"M": ["string always = 1;"], "A": ["string a = 1;"], "B": []}
        self._values = 1
        self._number = 1
        self._flips = 0
        for _ in range(rng.randrange(1, 5)):
            self.grow()

    def grow(self):
        for _ in range(self._rng.randrange(1, 4)):
            choice = self._rng.random()
            name = self._rng.choice("MMAB")
            fields = self._messages[name]
            if choice < 0.1:
                self._values += 1
            elif choice < 0.2 and len(fields) > 1:
                del fields[self._rng.randrange(1, len(fields))]
            elif choice < 0.3 and any(field.startswith("int64") for field in fields):
                place = next(at for at, field in enumerate(fields) if field.startswith("int64"))
                fields[place] = f"optional {fields[place]}"
            else:
                fields.append(self._field(name))

    def _field(self, holder):
        self._number += self._rng.choice((1, 1, 30))
        name = f"f{self._number}"
        below = {"M": "AB", "A": "B", "B": ""}[holder]
        if below and self._rng.random() < 0.5:
            kind = self._rng.choice(RECORDS)
            return kind.format(self._rng.choice(below), name, self._number)
        return self._rng.choice(SCALARS).format(name, self._number)

    @property
    def body(self):
        values = " ".join(f"V{number} = {number};" for number in range(self._values))
        messages = [f"message {n} {{ {' '.join(f)} }}" for n, f in self._messages.items()]
        return f"enum E {{ {values} }} " + " ".join(messages)


def spec_of(body):
    return spec_from_proto(TABLE, compiled(body), "t.M")


def rows(store):
    answer = store.query("SELECT *, _insert_id FROM t.m ORDER BY _insert_id", row_limit=None)
    return [repr(row) for row in answer]  # NaN equals itself here


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))]
)
def test_whenever_a_store_compacts_it_answers_as_one_that_never_does(tmp_path, seed):
    rng = random.Random(seed)
    growing, wire = Growing(rng), RandomWire(rng)
    folder, options = str(tmp_path / "store"), StoreSettings(file_grace_seconds=0.0)
    bodies = [growing.body]
    for _ in range(4):
        growing.grow()
        bodies.append(growing.body)
    with LocalStore.open(folder) as local, closing(MemoryStore()) as memory:
        count = 0
        for place, body in enumerate(bodies):
            try:
                memory.apply(spec_of(body))
            except SchemaConflictError:
                continue
            local.apply(spec_of(body))
            for _ in range(2):
                if rng.random() < 0.4:
                    local.seal()
                    assert compact_once(folder, options=options).errors == []
                assert rows(local) == rows(memory)
                assert local.stats(TABLE).ahead_rows == memory.stats(TABLE).ahead_rows
                sender = MessageType.load(compiled(rng.choice(bodies[max(0, place - 1) :])), "t.M")
                events = [wire.event(sender.descriptor) for _ in range(rng.choice((1, 5, 40)))]
                ids = [b"%06d" % (count + number) for number in range(len(events))]
                count += len(events)
                batch = Batch.build(TABLE, sender.fingerprint, ids, events)
                assert local.put(batch) == memory.put(batch)
        local.seal()
        report = compact_once(folder, options=options)
        assert report.segments
        assert rows(local) == rows(memory)
