"""Tests that import Beam: run by its own Python, as a step of `make test`; see Makefile."""

from __future__ import annotations

import importlib.util
import socket

import pytest

if importlib.util.find_spec("apache_beam") is None:
    collect_ignore_glob = ["test_*.py"]  # this Python has no Beam; the step of its own runs them


@pytest.fixture(autouse=True)
def refused(monkeypatch):
    """Refuse every connection to another machine; return the addresses that were tried."""
    tried = []
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def connect_here(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            tried.append(address)
            raise OSError(f"a test may not connect to {address}")
        return connect(self, address)

    def resolve_here(host, *rest, **more):
        if host not in (None, "", "127.0.0.1", "::1", "localhost", b"localhost", b"127.0.0.1"):
            tried.append(host)
            raise OSError(f"a test may not look up {host}")
        return resolve(host, *rest, **more)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", resolve_here)
    return tried
