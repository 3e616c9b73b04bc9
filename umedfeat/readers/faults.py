"""What decoders raise on damaged bytes, and how it is said in one line."""

from __future__ import annotations

import zlib

__all__ = ["BYTES_FAULTS", "fault_line"]

#: What zlib, gzip and the operating system raise on damaged or vanished bytes.
BYTES_FAULTS = (OSError, EOFError, zlib.error)


def fault_line(error: Exception) -> str:
    """What an error says, in one line and without the absolute path that an OSError carries."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200]
