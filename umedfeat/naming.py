"""How things are called: stems of file names, identity of content, keyed pseudonyms, text that may leave.

Names of files, cells of tables and messages of libraries are untrusted text. ``printable`` makes it harmless for a
terminal, a log, a page and a file name; ``write_csv`` for a spreadsheet too.

Patient and study identifiers leave the reader only as HMAC-SHA256, under a key of ``umedfeat.keys``.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

from umedfeat.keys import key_check

__all__ = [
    "IMAGE_SUFFIXES",
    "UTF16_MARKS",
    "Identity",
    "Pseudonyms",
    "content_sha256",
    "files_stat",
    "identify",
    "normalised",
    "plain_cell",
    "printable",
    "rounded_by_spreadsheet",
    "stem_of",
    "write_csv",
]

#: Suffixes that promise an image: such a file that nothing recognises has failed; any other was merely skipped.
IMAGE_SUFFIXES = frozenset(
    {
        ".svs",
        ".ndpi",
        ".mrxs",
        ".scn",
        ".vms",
        ".vmu",
        ".bif",
        ".svslide",
        ".czi",
        ".tif",
        ".tiff",
        ".ome.tif",
        ".ome.tiff",
        ".zarr",
        ".ome.zarr",
        ".vsi",
        ".isyntax",
    }
    | {".dcm", ".dicom", ".ima", ".nii", ".nii.gz", ".hdr", ".mgz", ".mgh", ".par", ".rec"}
    | {".nrrd", ".nhdr", ".mha", ".mhd", ".mnc"}
    | {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
)


_WHOLE_HASH_BYTES = 64 << 20
_HASH_BLOCK = 1 << 20


@dataclass(frozen=True)
class Pseudonyms:
    """Turns identifiers into stable pseudonyms.

    Attributes:
        key: secret bytes; the same key gives the same pseudonyms (across shards, runs and machines).
        keep: return identifiers as they are (``--keep-ids``, after a warning).
    """

    key: bytes
    keep: bool = False

    def of(self, identifier: str, *, kind: str = "patient") -> str:
        """16 hex digits for an identifier; "" for an empty one. ``kind`` separates patients from studies and series.

        Spellings of one identifier have one pseudonym, see ``normalised``.
        """
        identifier = identifier.strip()
        if not identifier or self.keep:
            return identifier
        return hmac.new(self.key, f"{kind}\0{normalised(identifier)}".encode(), hashlib.sha256).hexdigest()[:16]

    @property
    def key_check(self) -> str:
        """What files tell of the key (see ``umedfeat.keys.key_check``); "readable" where identifiers are kept."""
        return "readable" if self.keep else key_check(self.key)


def normalised(identifier: str) -> str:
    """An identifier without what systems and spreadsheets do to it: blanks, leading zeros, a ".0" at the end."""
    text = " ".join(identifier.replace("\0", " ").split())
    if re.fullmatch(r"\d+\.0+", text):
        text = text.partition(".")[0]
    return text.lstrip("0") or "0" if text.isdecimal() else text


def rounded_by_spreadsheet(identifier: str) -> bool:
    """Is it a number of which a spreadsheet has dropped the last digits, as 1.20E+10?"""
    return re.fullmatch(r"\d([.,]\d+)?E\+\d\d+", identifier.strip()) is not None


def stem_of(name: str) -> str:
    """A relative name without its image suffix ("a/b.nii.gz" → "a/b"); others stay ("1.2.840.7" is a name)."""
    folder, slash, base = name.rpartition("/")
    lowered = base.lower()
    for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if lowered.endswith(suffix) and len(base) > len(suffix):
            return folder + slash + base[: -len(suffix)]
    return name


#: C0, DEL and C1 controls (terminal escapes, forged lines); line and paragraph separators; marks that turn the
#: direction of text (UAX #9); surrogates, as which Python holds the bytes of a name that is not UTF-8 (PEP 383).
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
#: What a spreadsheet takes for a formula, behind any number of our own quotes; plain numbers are none.
_FORMULA = re.compile("'*[=+@-]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def printable(text: str, *, keep: str = "") -> str:
    """Text in which every control, direction mark and undecodable byte is a visible escape. Idempotent.

    Args:
        keep: characters that stay although they are controls (a newline where lines are wanted).

    >>> print(printable("red" + chr(27) + "[31m"))
    red\\u001b[31m
    """
    return _UNPRINTABLE.sub(lambda match: match[0] if match[0] in keep else _visible(match[0]), text)


def _visible(letter: str) -> str:
    code = ord(letter)
    undecodable_byte = 0xDC80 <= code <= 0xDCFF
    return _SHORT.get(letter) or (f"\\x{code - 0xDC00:02x}" if undecodable_byte else f"\\u{code:04x}")


def write_csv(stream: TextIO, rows: Iterable[Sequence[object]], delimiter: str = ",") -> None:
    """Write rows as CSV that neither a terminal nor a spreadsheet executes; ``plain_cell`` reads a cell back."""
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerows([_csv_cell(cell) for cell in row] for row in rows)


def _csv_cell(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = printable(cell)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def plain_cell(text: str) -> str:
    """A cell of ``write_csv`` without the quote that keeps spreadsheets from computing it."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


#: How tables begin that a spreadsheet has saved as "Unicode text".
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Identity(NamedTuple):
    """What tells whether the files of a source are still those that were embedded.

    Attributes:
        content_sha256: of the item: the bytes of its files and, where they hold several items, which of them.
        files_sha256: of the bytes of its files alone (``content_sha256``).
        files_stat: of their sizes and times of change (``files_stat``).
    """

    content_sha256: str
    files_sha256: str
    files_stat: str


def identify(files: Iterable[Path], part: str, stat: str, cut: str = "") -> Identity:
    """The one place where the content of an item gets its identity.

    Args:
        files: of the source, in its order.
        part: what of the files the item is ("" for all of them).
        stat: ``files_stat`` of them, taken before they were read.
        cut: what a manifest says is cut out of them.
    """
    digest = content_sha256(files, cut)
    content = hashlib.sha256(f"{digest} {part}".encode()).hexdigest() if part else digest
    return Identity(content, digest, stat)


def files_stat(files: Iterable[Path], cut: str = "") -> str:
    """32 hex digits of the sizes and times of change of some files, in their order; "" if one cannot be asked.

    Args:
        cut: what a manifest says is cut out of them.
    """
    digest = hashlib.sha256(cut.encode())
    try:
        for path in files:
            facts = path.stat()
            digest.update(f"{facts.st_size} {facts.st_mtime_ns}\n".encode())
    except OSError:
        return ""
    return digest.hexdigest()[:32]


def content_sha256(files: Iterable[Path], cut: str = "") -> str:
    """Identity of the bytes of some files, cheap enough for slides on a network disk.

    Up to 64 MiB in total every byte is hashed. Above that: the size of each file and 64 blocks of 1 MiB, evenly
    spread over it, the first and the last among them. File names do not matter, their order does.

    Args:
        cut: what a manifest says is cut out of them.
    """
    paths = list(files)
    sizes = [path.stat().st_size for path in paths]
    digest = hashlib.sha256(cut.encode())
    for path, size in zip(paths, sizes, strict=True):
        digest.update(size.to_bytes(8, "little"))
        with path.open("rb") as stream:
            if sum(sizes) <= _WHOLE_HASH_BYTES or size <= _HASH_BLOCK:
                while block := stream.read(_HASH_BLOCK):
                    digest.update(block)
                continue
            blocks = max(1, min(64, size // _HASH_BLOCK))
            for k in range(blocks):
                stream.seek((size - _HASH_BLOCK) * k // max(1, blocks - 1))
                digest.update(stream.read(_HASH_BLOCK))
    return digest.hexdigest()
