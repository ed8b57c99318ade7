"""Contract suites: one class a port, to be subclassed with a fixture for each backend.

A backend's differences are what its ``features`` declare; a test of a suite is never overridden.
Needs pytest, which is told here to explain the suites' assertions as it does a test file's own.
"""

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{suite}" for suite in ("service", "sink", "slots", "store"))
)

from eventmill.testing.contracts.service import ServiceContract  # noqa: E402 - after the line above
from eventmill.testing.contracts.sink import SinkContract  # noqa: E402
from eventmill.testing.contracts.slots import SlotStoreContract  # noqa: E402
from eventmill.testing.contracts.store import StoreContract  # noqa: E402

__all__ = ["ServiceContract", "SinkContract", "SlotStoreContract", "StoreContract"]
