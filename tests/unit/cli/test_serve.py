"""The server as a child process: it ends with whoever started it for themselves."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from eventmill.cli.demo.server import ServerProcess

_SERVING = (
    "import sys; from eventmill.cli.demo.server import ServerProcess;"
    " server = ServerProcess(sys.argv[1]).__enter__();"
    " print(server.url, flush=True); sys.stdin.read()"
)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/v1/tables", timeout=10) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def test_a_demo_that_is_killed_leaves_no_server(tmp_path):
    data = str(tmp_path / "data")
    demo = subprocess.Popen(
        [sys.executable, "-c", _SERVING, data], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        url = demo.stdout.readline().decode().strip()
        assert answers(url)
    finally:
        demo.kill()
        demo.communicate(timeout=30)
    wait_until(lambda: not answers(url), seconds=30)
    with ServerProcess(data) as again:  # the folder is free: the store was closed
        assert answers(again.url)
    assert not answers(again.url)


def wait_until(holds, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("content", [b"", b"words\n"])
def test_a_server_outlives_the_end_of_its_stdin_unless_told_otherwise(tmp_path, content):
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "eventmill", "serve", "--port", "0"),
            *("--data", str(tmp_path / "data")),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        child.stdin.write(content)
        child.stdin.close()
        url = child.stdout.readline().decode().removeprefix("listening on ").strip()
        assert answers(url)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1.0)
    finally:
        child.terminate()
        child.wait(30)
        child.stdout.close()
    assert child.returncode == 0
