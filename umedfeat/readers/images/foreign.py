"""Pictures of formats that are not read here: named by their first bytes, with the way out."""

from __future__ import annotations

from pathlib import Path

from umedfeat.contract import Failure

__all__ = ["is_foreign_picture", "picture_refusal"]

_AS_PNG = "convert it to PNG or TIFF"
#: Brand in the first box of an ISO media file (ISO/IEC 23008-12) → what it is.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "a HEIC picture"),
    **dict.fromkeys((b"avif", b"avis"), "an AVIF picture"),
}
_MAGIC = {
    b"\x00\x00\x00\x0cJXL \r\n\x87\n": "a JPEG XL picture",
    b"\xff\x0a": "a JPEG XL picture",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "a JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
}


def is_foreign_picture(head: bytes) -> bool:
    """A picture of a format that is not read here?"""
    return bool(_kind(head))


def picture_refusal(path: Path, name: str) -> Failure | None:
    """The failure of such a file; None for others."""
    with path.open("rb") as stream:
        kind = _kind(stream.read(16))
    message = f"{name}: {kind}, which is not read here"
    return Failure(name, "discover", "UnsupportedInput", message, _AS_PNG) if kind else None


def _kind(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "")
    return next((what for magic, what in _MAGIC.items() if head.startswith(magic)), "")
