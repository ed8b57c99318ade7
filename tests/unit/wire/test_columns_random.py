"""The fast reader against its definition, on random schemas and random bytes."""

from __future__ import annotations

import math
import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proto_world import RandomSchema, RandomWire

from eventmill.schema.check import EventCheck
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import TableId
from eventmill.wire.columns import ColumnReader

TABLE = TableId("local", "d", "t")
SEEDS = st.integers(0, 2**48)


def same(one: Any, other: Any) -> bool:
    """Compare values so that NaN equals NaN, and 0.0 does not equal -0.0."""
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def good_events(seed: int, count: int) -> tuple[RandomSchema, list[bytes]]:
    rng = random.Random(seed)
    schema = RandomSchema(rng)
    message_type = schema.load()
    wire = RandomWire(rng)
    events = [wire.event(message_type.descriptor) for _ in range(count)]
    bad = {index for index, _ in EventCheck(message_type).problems(events, known_schema=True)}
    return schema, [event for index, event in enumerate(events) if index not in bad]


def compare(seed: int, count: int) -> int:
    """Read random events both ways and fail where they differ; return how many were read."""
    schema, events = good_events(seed, count)
    spec = spec_from_proto(TABLE, schema.descriptor_set, "r.M0")
    fast, slow = ColumnReader(spec), ColumnReader(spec, fast=False)
    array = pa.array(events, pa.binary())
    fast_rows, slow_rows = fast.read(array), slow.read(array)
    fast_rows.validate(full=True)
    assert fast_rows.schema == fast.arrow_schema == slow_rows.schema
    for event, one, other in zip(events, fast_rows.to_pylist(), slow_rows.to_pylist(), strict=True):
        assert same(one, other), f"seed {seed}, event {event.hex()}:\n{one}\n{other}"
    return len(events)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SEEDS)
def test_both_readers_agree_on_random_schemas_and_bytes(seed: int):
    compare(seed, 20)


@pytest.mark.slow
def test_both_readers_agree_on_very_many_random_schemas_and_bytes():
    read = sum(compare(seed, 40) for seed in range(1500))
    assert read > 30_000
