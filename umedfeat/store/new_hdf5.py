"""A new HDF5 file on a disk that may fail or fill up.

HDF5 does not come back from a write that fails: it prints tracebacks, loses the fault where an object is closed, and
may end the process. So it never learns of one: it writes to a file that keeps the first fault and swallows what comes
after it, and the fault is raised once HDF5 has let go.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

__all__ = ["Target", "new_hdf5"]


class Target(io.FileIO):
    """What HDF5 writes to.

    Attributes:
        fault: of the first write that failed; nothing is written after it.
    """

    fault: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write all of it, unless a write has failed; tells HDF5 that it did."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self.fault is None:
                rest = rest[super().write(rest) or 0 :]
        except OSError as fault:
            self.fault = fault
        return size

    def truncate(self, size: int | None = None, /) -> int:
        """The same of a change of length."""
        try:
            if self.fault is None:
                super().truncate(size)
        except OSError as fault:
            self.fault = fault
        return size or 0

    def check(self) -> None:
        """Raise the fault, if there was one.

        Raises:
            OSError: a write has failed.
        """
        if self.fault is not None:
            raise self.fault


@contextmanager
def new_hdf5(path: Path, **how: Any) -> Iterator[tuple[h5py.File, Target]]:
    """A new file, open for writing, and what it is written to; ``how``: of ``h5py.File``.

    Raises:
        FileExistsError: something stands there.
        OSError: a write has failed; told at the end, or by ``Target.check``.
    """
    with Target(path, "x+") as target:
        try:
            with h5py.File(target, "w", **how) as file:
                yield file, target
        finally:
            target.check()
