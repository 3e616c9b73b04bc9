"""A file that threads and forked processes read at places of their own."""

from __future__ import annotations

import os
import threading
from pathlib import Path

__all__ = ["SharedFile"]


class SharedFile:
    """An open file without a position that anybody could move."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()

    def bytes_at(self, offset: int, length: int) -> bytes:
        """As many bytes as there are, at most ``length``.

        Raises:
            OSError, ValueError: the place is absurd, or the disk fails.
        """
        if hasattr(os, "pread"):  # leaves the position alone, which forked processes share
            return os.pread(self._file.fileno(), length, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(length)

    def close(self) -> None:
        """Close it; safe to call twice."""
        self._file.close()
