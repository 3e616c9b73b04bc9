"""Pictures of items that ``umedfeat preview`` has drawn, for pages that hold everything inside."""

from __future__ import annotations

import base64
from pathlib import Path

from umedfeat.report.preview.cards import picture_name

__all__ = ["data_uri", "thumbnail"]


def data_uri(png: bytes) -> str:
    """PNG bytes as the source of a picture; "" for none."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii") if png else ""


def thumbnail(item: str, preview: Path | None, largest: int) -> bytes:
    """PNG bytes of an item's small picture in the folder of a preview; b"" where there is none, or it is too large."""
    path = None if preview is None else preview / picture_name(item)
    if path is None or not path.is_file() or path.stat().st_size > largest:
        return b""
    return path.read_bytes()
