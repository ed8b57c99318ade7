import logging
import threading

import pytest

from eventmill.base.service import Service
from eventmill.testing.contracts import ServiceContract


class Idle(Service):
    def run(self, stopping):
        stopping.wait()


class Failing(Service):
    def __init__(self):
        super().__init__("failing", restart_pause_seconds=0.0)
        self.third = threading.Event()

    def run(self, stopping):
        if self.failures == 2:
            self.third.set()
            stopping.wait()
        raise RuntimeError("broken")


class TestIdleService(ServiceContract):
    @pytest.fixture
    def service(self):
        service = Idle("idle")
        yield service
        service.stop(5)


def test_a_run_that_fails_is_logged_and_begun_again(caplog):
    service = Failing()
    with caplog.at_level(logging.ERROR):
        service.start()
        assert service.third.wait(5)
    service.stop(5)
    assert [record.exc_info[0] for record in caplog.records[:2]] == [RuntimeError, RuntimeError]


def test_a_service_may_stop_itself_without_waiting_for_itself():
    class Self(Service):
        told = None

        def run(self, stopping):
            self.told = self.stop()

    service = Self("self")
    service.start()
    assert service.wait(5)
    assert service.told is False


def test_a_run_that_returns_ends_the_service():
    class Short(Service):
        def run(self, stopping):
            return

    service = Short("short")
    service.start()
    assert service.wait(5)
    assert not service.running


def test_a_service_that_starts_again_waits_until_its_last_run_has_ended():
    class Lingering(Service):
        def __init__(self):
            super().__init__("lingering")
            self.entered = threading.Semaphore(0)
            self.may_end = threading.Event()

        def run(self, stopping):
            self.entered.release()
            stopping.wait()
            assert self.may_end.wait(5)

    service = Lingering()
    service.start()
    assert service.entered.acquire(timeout=5)
    assert not service.stop(0.0)
    service.start()
    assert not service.entered.acquire(timeout=0.05)
    service.may_end.set()
    assert service.entered.acquire(timeout=5)
    assert service.stop(5)
