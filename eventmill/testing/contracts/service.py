"""What every background service must tolerate."""

# ruff: noqa: D102, S101
# A contract's tests say in their names what they hold, and assert is how.

from __future__ import annotations

import threading

from eventmill.base.service import Service

WAIT_SECONDS = 10.0


class ServiceContract:
    """Subclass with one fixture, ``service``: a service that has not been started.

    The service must run until it is stopped.
    """

    def test_stopping_before_starting_does_nothing(self, service: Service) -> None:
        assert service.stop(WAIT_SECONDS)
        assert not service.running

    def test_it_runs_from_start_to_stop(self, service: Service) -> None:
        service.start()
        assert service.running
        assert service.stop(WAIT_SECONDS)
        assert not service.running

    def test_stopping_twice_is_stopping_once(self, service: Service) -> None:
        service.start()
        assert service.stop(WAIT_SECONDS)
        assert service.stop(WAIT_SECONDS)

    def test_starting_twice_runs_one_thread(self, service: Service) -> None:
        before = threading.active_count()
        service.start()
        service.start()
        assert threading.active_count() <= before + 1
        assert service.stop(WAIT_SECONDS)

    def test_waiting_without_a_stop_ends_by_its_time_limit(self, service: Service) -> None:
        service.start()
        assert not service.wait(0.01)
        assert service.stop(WAIT_SECONDS)
        assert service.wait(0.01)

    def test_it_survives_being_started_and_stopped_from_many_threads(
        self, service: Service
    ) -> None:
        begin = threading.Barrier(4)

        def hammer(starts: bool) -> None:
            begin.wait(WAIT_SECONDS)
            for _ in range(20):
                if starts:
                    service.start()
                else:
                    service.stop(WAIT_SECONDS)

        threads = [threading.Thread(target=hammer, args=(n % 2 == 0,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive()
        assert service.stop(WAIT_SECONDS)
        assert not service.running
        assert service.failures == 0
