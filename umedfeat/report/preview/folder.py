"""Writing into the folder of a page: a full disk is told once, as what it is, not once for every picture."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from umedfeat.errors import OutputError

__all__ = ["writing"]


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the operating system refuses into an OutputError; other faults pass, they are of the picture.

    Raises:
        OutputError: the disk is full, the folder is gone or may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        message = f"{folder}: pictures cannot be written ({error.strerror})"
        raise OutputError(message, remedy="free some space, or choose another folder") from error
