"""Opening what lies on a disk: regular files only, because a pipe, a socket or a device may never answer."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["NotRegular", "kind_of", "open_regular"]

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


class NotRegular(OSError):
    """A pipe, socket, device or folder where a file was expected."""


def kind_of(path: Path | str) -> str:
    """ "file", "folder", "named pipe", "socket", "device", or "" where nothing is; links are followed.

    Raises:
        OSError: it cannot be told (permissions, a loop of links, a name that is too long).
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a million rows of a manifest come as strings
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: NUL within the name
        return ""
    return _KINDS.get(stat.S_IFMT(mode), "special file")


def open_regular(path: Path | str) -> BinaryIO:
    """Open a file for reading; never waits for the other end of a pipe, and acts on no device.

    Raises:
        NotRegular: it is no regular file.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise NotRegular(0, f"a {_KINDS.get(stat.S_IFMT(mode), 'special file')}, not a file")
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")
