"""Standard streams that nobody reads any more: what is said there is lost, the work is not.

A run of hours whose stderr goes to a pager, a ``tee`` or a terminal that ends must not end with it, and a stream that
was closed from the start must not give its number to a file of features.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Container
from typing import Any, TextIO, cast

__all__ = ["Unheard", "outlive_readers"]

_GONE = frozenset({errno.EPIPE})
#: A terminal that was closed gives EIO; of a file it would be a fault of the disk, and data would be lost.
_TERMINAL_GONE = _GONE | {errno.EIO}


class Unheard:
    """A text stream that goes on to nowhere after one of some errors; everything else is the stream's own.

    Args:
        stream: what is written to.
        passed_over: errno of the errors after which nobody listens, None for all; any other one is raised.
    """

    def __init__(self, stream: TextIO, passed_over: Container[int] | None = None) -> None:
        self._stream, self._passed_over = stream, passed_over

    def write(self, text: str) -> int:
        """See ``TextIO.write``."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._to_nowhere(error)
            return len(text)

    def flush(self) -> None:
        """See ``TextIO.flush``."""
        try:
            self._stream.flush()
        except OSError as error:
            self._to_nowhere(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _to_nowhere(self, error: OSError) -> None:
        if self._passed_over is not None and error.errno not in self._passed_over:
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        with contextlib.suppress(OSError):  # what is left in its buffer goes there, too
            self._stream.flush()


def outlive_readers() -> None:
    """Let this process outlive whoever reads its stdout and stderr; closed streams lead nowhere."""
    for number in range(3):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    sys.stdout = cast(TextIO, Unheard(sys.stdout, _TERMINAL_GONE if sys.stdout.isatty() else _GONE))
    sys.stderr = cast(TextIO, Unheard(sys.stderr))
