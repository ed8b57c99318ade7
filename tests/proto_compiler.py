"""The .proto compiler, loaded once a run of the tests instead of once a file.

The product starts it as a process for each compilation, and nearly all of that time goes into
loading it. Tests compile hundreds of files: for them one process loads it, and forks for each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence

from eventmill.schema import compile as shipped

start_compiler = shipped._protoc
"""What the product does."""
_PROGRAM = """
import json, os, sys, tempfile
from grpc_tools import protoc
# As `python -m grpc_tools.protoc` does.
own = "-I" + os.path.join(os.path.dirname(protoc.__file__), "_proto")
for line in sys.stdin:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os._exit(protoc.main(["protoc", *json.loads(line), own]))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    print(json.dumps([code, *texts]), flush=True)
"""


class LoadedCompiler:
    """Does what ``eventmill.schema.compile`` asks of a new process. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Compile as the command line ``arguments`` says."""
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd="/",
                )
            asked, told = self._process.stdin, self._process.stdout
            assert asked is not None
            assert told is not None
            asked.write(json.dumps(list(arguments)) + "\n")
            asked.flush()
            code, out, err = json.loads(told.readline())
        return subprocess.CompletedProcess(list(arguments), code, out, err)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
