"""What decoders raise on damaged bytes, and how it is said in one line."""

from __future__ import annotations

import re
import zlib

__all__ = ["BYTES_FAULTS", "fault_line"]

#: What zlib, gzip and the operating system raise on damaged or vanished bytes.
BYTES_FAULTS = (OSError, EOFError, zlib.error)

_QUOTED_PATH = re.compile(r"""(['"])(?:(?!\1).)*[/\\](?:(?!\1).)*\1""")


def fault_line(error: Exception) -> str:
    """What an error says, in one line and without the paths that OSError and Pillow quote."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(_QUOTED_PATH.sub("it", text).split())[:200]
