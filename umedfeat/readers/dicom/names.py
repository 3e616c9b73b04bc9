"""Paths without the identifiers of the DICOM files that lie there: archives name folders after patients."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from umedfeat.naming import Pseudonyms

__all__ = ["IDENTIFYING", "folders_without", "identifiers_in", "identifiers_of", "without"]

_NAMES = (
    "PatientName", "PatientBirthName", "OtherPatientNames", "PatientMotherBirthName", "ReferringPhysicianName",
    "PerformingPhysicianName", "NameOfPhysiciansReadingStudy", "OperatorsName", "RequestingPhysician",
    "ResponsiblePerson",
)  # fmt: skip
#: What folders and files are named after.
IDENTIFYING = (
    "PatientID", "OtherPatientIDs", "PatientBirthDate", "AccessionNumber", "SOPInstanceUID", "SeriesInstanceUID",
    "StudyInstanceUID", "FrameOfReferenceUID", "InstitutionName", "InstitutionAddress", "StationName", *_NAMES,
)  # fmt: skip
_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
_SCANNED_BYTES = 1 << 18
_SUBSTRING = 4  # shorter identifiers are looked for as whole words only: "Li" is in many words


def identifiers_of(dataset: Dataset) -> tuple[str, ...]:
    """Every identifier that a path could repeat, names in parts; damaged elements are passed over."""
    found: set[str] = set()
    for keyword in IDENTIFYING:
        try:
            value = dataset.get(keyword)
        except Exception:  # noqa: BLE001 - pydicom parses on access, and raises whatever damaged bytes lead to
            continue
        values = value if isinstance(value, MultiValue) else [value]
        found.update(*(_parts(str(text or ""), keyword) for text in values))
    return tuple(sorted(found))


def identifiers_in(path: Path) -> tuple[str, ...]:
    """The same of a file that cannot be parsed: looks for the elements in its first bytes, in either byte order."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(_SCANNED_BYTES)
    except OSError:
        return ()
    found: set[str] = set()
    for keyword in IDENTIFYING:
        tag = tag_for_keyword(keyword) or 0
        for order in _ORDERS:
            mark = (tag >> 16).to_bytes(2, order) + (tag & 0xFFFF).to_bytes(2, order)
            for match in re.finditer(re.escape(mark), raw):
                found.update(_parts(_value_at(raw, match.end(), order), keyword))
    return tuple(sorted(found))


def _value_at(raw: bytes, start: int, order: Literal["little", "big"]) -> str:
    """The text of an element with explicit or implicit VR whose tag ends at ``start``."""
    short = re.fullmatch(rb"[A-Z]{2}", raw[start : start + 2]) is not None
    begin, width = (start + 2, 2) if short else (start, 4)
    length = int.from_bytes(raw[begin : begin + width], order)
    value = raw[begin + width : begin + width + length] if length <= 1024 else b""
    return value.decode("utf-8", "replace")


def _parts(text: str, keyword: str) -> set[str]:
    text = text.strip("\0 ")
    parts = {text, *re.split(r"[\^=\s\\]+", text)} if keyword in _NAMES else {text, *text.split("\\")}
    return {part for part in parts if len(part) > 1 or part == text} - {""}


def without(name: str, identifiers: Iterable[str], pseudonyms: Pseudonyms) -> str:
    """A relative path in which identifiers are replaced by pseudonyms of 8 digits."""
    if pseudonyms.keep:
        return name
    ordered = sorted(identifiers, key=lambda text: (-len(text), text))
    parts = name.split("/")
    for identifier in ordered:
        parts = [_replaced(part, identifier, pseudonyms) for part in parts]
    return "/".join(parts)


def _replaced(part: str, identifier: str, pseudonyms: Pseudonyms) -> str:
    if identifier.lower() not in part.lower():
        return part
    short = pseudonyms.of(identifier, kind="path")[:8]
    pattern = re.escape(identifier)
    if len(identifier) < _SUBSTRING:
        if identifier.isdigit() or len(identifier) == 1:  # "1" numbers slices, too
            return short + part[len(identifier) :] if identifier in (part, part.rpartition(".")[0]) else part
        pattern = rf"(?<![^\W_]){pattern}(?![^\W_])"
    return re.sub(pattern, short, part, flags=re.IGNORECASE)


def folders_without(folders: Mapping[str, Iterable[str]], pseudonyms: Pseudonyms) -> dict[str, str]:
    """Folder → the same without the identifiers of the files in it, where that makes a difference.

    Args:
        folders: relative folder → identifiers of all files in it.
    """
    changed: dict[str, str] = {}
    for folder, identifiers in folders.items():
        clean = without(folder, identifiers, pseudonyms)
        while folder and folder != clean:
            changed.setdefault(folder, clean)
            folder, clean = folder.rpartition("/")[0], clean.rpartition("/")[0]
    return changed
