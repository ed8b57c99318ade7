"""The server as a child process: it ends with whoever started it for themselves."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from eventmill.cli.demo.server import ServerProcess
from eventmill.store.bigquery.place import BigQueryPlace
from eventmill.store.bigquery.store import BigQueryStore
from eventmill.testing.events import build_batch, build_spec

pytestmark = pytest.mark.slow
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


def serving(tmp_path, *words, library=True):
    """Start ``eventmill serve`` as a process; without Google's library if so asked."""
    hide = "" if library else "sys.modules['google.cloud.bigquery_storage_v1'] = None;"
    code = f"import sys; {hide} from eventmill.cli.main import run; sys.exit(run(sys.argv[1:]))"
    return subprocess.Popen(
        [
            *(sys.executable, "-c", code, "serve", "--data", str(tmp_path / "data")),
            *("--port", "0", *words),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_write_api_listens_beside_the_server_and_takes_rows(tmp_path):
    process = serving(tmp_path, "--write-api-port", "0")
    try:
        url = process.stdout.readline().strip().removeprefix("listening on ")
        word, _, address = process.stdout.readline().strip().rpartition(" ")
        assert word == "write API on"
        place = BigQueryPlace(
            "local", endpoint=url, write_endpoint=address, write="storage", own_dataset="own"
        )
        with BigQueryStore(place) as store:
            store.apply(build_spec())
            assert store.put(build_batch("a")).accepted == 1
            (row,) = store.query("SELECT COUNT(*) AS n FROM contract.builds")
            assert row["n"] == 1
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_without_googles_library_the_write_api_is_refused_and_the_server_works(tmp_path):
    process = serving(tmp_path, "--write-api-port", "0", library=False)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "pip install 'eventmill[server,bigquery]'" in told
    plain = serving(tmp_path, library=False)
    try:
        assert plain.stdout.readline().startswith("listening on http://")
    finally:
        plain.terminate()
        plain.communicate(timeout=30)
