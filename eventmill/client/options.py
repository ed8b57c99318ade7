"""What ``AsyncBatchUploader`` hands on to ``BatchUploader``, which describes it."""

from __future__ import annotations

import random
from typing import Literal, TypedDict

from eventmill.base.clock import Clock
from eventmill.client.batch_uploader import OnUndelivered
from eventmill.client.room import OnDrop
from eventmill.wire.insert_id import InsertIdSource


class UploaderOptions(TypedDict, total=False):
    """The options of ``BatchUploader``, without those of a ``stage`` that waits."""

    spool_dir: str | None
    durability: Literal["memory", "process", "host"] | None
    spool_bytes_max: int | None
    on_drop: OnDrop | None
    on_undelivered: OnUndelivered | None
    batch_bytes: int
    flush_interval_seconds: float
    in_flight_max: int
    request_timeout_seconds: float
    retry_base_seconds: float
    retry_cap_seconds: float
    close_at_exit: bool
    insert_ids: InsertIdSource | None
    clock: Clock
    rng: random.Random | None
