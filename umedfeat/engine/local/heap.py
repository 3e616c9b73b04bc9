"""What the C library of a reading process does with memory that was freed."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

#: Of mallopt(3): largest free end of the heap that is kept; size from which memory comes from the kernel alone.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: More than the pixels of a batch with what decoding them needs; the second is the most that glibc takes.
_KEPT_BYTES, _OWN_BYTES = 64 << 20, 32 << 20


def keep_freed_memory() -> bool:
    """Keep up to 64 MiB that were freed for what is read next, rather than give them back and ask again.

    Decoders allocate and free buffers of megabytes for every region. glibc gives such memory back to the kernel each
    time, and gets it page by page, cleared: reading slides had four times the page faults, and spent a tenth of its
    processor time on them.

    Returns:
        Whether the C library can be told: glibc can, musl and those of macOS and Windows cannot.
    """
    if not sys.platform.startswith("linux"):
        return False
    tell = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return tell is not None and bool(tell(_MMAP_THRESHOLD, _OWN_BYTES)) and bool(tell(_TRIM_THRESHOLD, _KEPT_BYTES))
