"""Space on a disk, taken before it is needed: neither HDF5 nor mapped memory survives a disk that fills up under it."""

from __future__ import annotations

import errno
import os

__all__ = ["is_full", "reserve"]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


def is_full(error: BaseException) -> bool:
    """Does an error tell of a full disk or an exhausted quota?"""
    return getattr(error, "errno", None) in _FULL or "No space left" in str(error)


def reserve(descriptor: int, size: int) -> None:
    """Make an open file ``size`` bytes long, with blocks for all of them where the file system can.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        else:
            return
    _refuse_if_small(descriptor, size)
    os.truncate(descriptor, size)


def _refuse_if_small(descriptor: int, size: int) -> None:
    if hasattr(os, "fstatvfs"):
        disk = os.fstatvfs(descriptor)
        if disk.f_bavail * disk.f_frsize < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
