"""A sender whose server is away in real time, while other tests run."""

import socket
import time
from pathlib import Path

OUTAGE_SECONDS = 60.0


class Outage:
    """Begins when the first fault test does; ``test_outage`` waits for the rest of it."""

    def __init__(self, folder):
        self.spool_dir = Path(folder, "spool")
        self.child = None
        """The sender; None until ``begin``."""
        self._begun_at = 0.0
        # Bound and not listening: connections are refused, and nobody else gets the port.
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def begin(self, start):
        """Let ``start`` start the sender, given the URL of its server and its spool."""
        self._begun_at = time.monotonic()
        self.child = start(f"http://127.0.0.1:{self.port}", str(self.spool_dir))

    def wait(self):
        """Wait until the outage is over; the port is then free for a server."""
        time.sleep(max(0.0, self._begun_at + OUTAGE_SECONDS - time.monotonic()))
        self._socket.close()

    def end(self):
        """Stop what is still running."""
        self._socket.close()
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            for stream in (self.child.stdin, self.child.stdout):
                stream.close()
