"""What one thread rings and another waits for, among pipes and processes."""

from __future__ import annotations

import multiprocessing
import threading

__all__ = ["Bell"]


class Bell:
    """Rings until it is hushed, however often it is rung.

    Attributes:
        waitable: becomes ready (``multiprocessing.connection.wait``) when it rings.
    """

    def __init__(self) -> None:
        self.waitable, self._writer = multiprocessing.Pipe(duplex=False)
        self._guard = threading.Lock()
        self._rings = self._closed = False

    def ring(self) -> None:
        """From any thread."""
        with self._guard:
            if not (self._rings or self._closed):
                self._writer.send_bytes(b".")
                self._rings = True

    def hush(self) -> None:
        """Whoever waits has heard it; before looking at what it was rung for."""
        with self._guard:
            if self._rings:
                self.waitable.recv_bytes()
                self._rings = False

    def close(self) -> None:
        """Free the pipe, once or again."""
        with self._guard:
            self._closed, self._rings = True, False
            self.waitable.close()
            self._writer.close()
