"""The user's cache: where it is, and whether what lies in it can be believed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["cache_folder", "is_open_to_all"]


def cache_folder() -> Path:
    """``UMEDFEAT_CACHE``, else ``umedfeat`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if os.environ.get("UMEDFEAT_CACHE"):
        return Path(os.environ["UMEDFEAT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "umedfeat")


def is_open_to_all(folder: Path) -> bool:
    """Can anybody on this machine replace a file in it?

    Raises:
        OSError: it is not there.
    """
    mode = folder.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX
