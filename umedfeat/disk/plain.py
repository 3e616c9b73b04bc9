"""Plain files: opened without following a link and without waiting for a pipe.

What lies beside an output, in a cache or in a folder of keys may have been put there by somebody else. A link would
make the program read, write or remove another file than the one it means; a named pipe would make it wait for ever.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["open_plain", "read_plain", "refuse_link"]

#: Windows has neither links in ordinary folders nor pipes with names there.
_CAREFUL = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def open_plain(path: Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """A descriptor of a regular file, as ``os.open`` gives it.

    Raises:
        OSError: ``strerror`` tells that it is a link, or no regular file, or what the system says.
    """
    refuse_link(path)
    descriptor = os.open(path, flags | _CAREFUL, mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def refuse_link(path: Path) -> None:
    """Nothing is written to, read from or removed behind a link that stands where our own file should.

    Raises:
        OSError: it is a symbolic link.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, "a link, which is not followed", str(path))


def read_plain(path: Path, limit: int = 1 << 16) -> bytes:
    """The content of a small regular file.

    Raises:
        OSError: as ``open_plain``, or it holds more than ``limit`` bytes.
    """
    with os.fdopen(open_plain(path), "rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
    return content
