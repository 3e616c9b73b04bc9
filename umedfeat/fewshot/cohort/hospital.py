"""A hospital's own table joins features by its identifiers, which are hashed with the key of the feature file.

A row may describe many items: every series of a patient, of an accession number, of a study. No value of an identifier
is stored, logged or named in an error; rows are told by their number in the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from umedfeat.arrays import Ints
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.table import FeatureTable
from umedfeat.keys import load_key
from umedfeat.naming import Pseudonyms, normalised, rounded_by_spreadsheet

__all__ = ["IDENTIFIERS", "Identifier", "LabelTable", "is_identifying", "joined", "named_identifier"]


class LabelTable(NamedTuple):
    """A table of labels.

    Attributes:
        path: CSV file.
        by: the identifier by which its rows name items ("PatientID" …); "" finds it by the columns' names.
        id_key: file with the key of the features' pseudonyms, None for the user's own.
    """

    path: Path
    by: str = ""
    id_key: Path | None = None


class Identifier(NamedTuple):
    """``keyword`` of DICOM; ``kind``: of its pseudonyms, and the column of the feature table that holds them."""

    keyword: str
    kind: str


#: The most telling first. Columns may also be called "patient id", "Accession", "study_uid" …
IDENTIFIERS = (
    Identifier("SeriesInstanceUID", "series"),
    Identifier("StudyInstanceUID", "study"),
    Identifier("AccessionNumber", "accession"),
    Identifier("PatientID", "patient"),
)
_SPELLINGS = {
    "seriesinstanceuid": "series", "seriesuid": "series", "studyinstanceuid": "study", "studyuid": "study",
    "accessionnumber": "accession", "accession": "accession", "accessionno": "accession", "patientid": "patient",
}  # fmt: skip
#: Columns that identify people and are of no use to a study: they go no further.
_PRIVATE = {"patientname", "patientsname", "name", "birthdate", "patientbirthdate", "patientsbirthdate", "dob", "mrn"}
_FEW = 5
_AS_TEXT = re.compile(r"=\"([^\"]*)\"|'([^']+)")


def named_identifier(columns: Sequence[str], by: str, place: str) -> tuple[str, Identifier] | None:
    """The column that holds an identifier, and which.

    Args:
        columns: of the table.
        by: the identifier asked for, or "" for the most telling one that is there.
        place: what the table is called in messages.

    Raises:
        CohortError: ``by`` is none of IDENTIFIERS, or the table has no column of that name.
    """
    kinds = {_SPELLINGS.get(_letters(column)): column for column in reversed(columns)}
    if by:
        wanted = _SPELLINGS.get(_letters(by))
        if wanted is None:
            known = ", ".join(one.keyword for one in IDENTIFIERS)
            raise CohortError(f"--by {by!r} is no identifier that features keep", remedy=f"one of {known}")
        if wanted not in kinds:
            raise CohortError(f"{place}: no column {by!r}", remedy=f"columns that are there: {', '.join(columns)}")
        kinds = {wanted: kinds[wanted]}
    return next(((kinds[one.kind], one) for one in IDENTIFIERS if one.kind in kinds), None)


def is_identifying(column: str) -> bool:
    """Does a column of a table hold what identifies a person?"""
    return _letters(column) in _PRIVATE or _letters(column) in _SPELLINGS


def joined(
    table: FeatureTable, values: Mapping[int, str], identifier: Identifier, labels: LabelTable, unmatched: str
) -> tuple[Ints, list[int]]:
    """Items, and the number of the row that describes each.

    Args:
        table: of the feature file.
        values: line of the table → the identifier there, row by row.
        identifier: which it is.
        labels: where the rows come from.
        unmatched: "stop" or "skip" rows without item and items without row.

    Raises:
        CohortError: rows contradict each other, the key is another one, or they do not match the items.
        SetupError: there is no such key.
    """
    stored = table.identifiers[identifier.kind]
    if not (stored != "").any():
        message = f"{table.path.name}: its items have no {identifier.keyword}"
        raise CohortError(message, remedy="join by another identifier, or by id; extract again if the file is old")
    names = stored.tolist() if table.key_check != "readable" else [normalised(name) for name in stored.tolist()]
    lines = list(values)
    typed = [_typed(text, line, identifier, labels.path.name) for line, text in values.items()]
    row_of = _rows(_hashed(table, typed, identifier, labels), lines, identifier, labels.path.name)
    pairs = {item: row_of[name] for item, name in enumerate(names) if name in row_of}
    used = set(pairs.values())
    lost = [line for row, line in enumerate(lines) if row not in used]
    if not pairs or (unmatched == "stop" and (lost or len(pairs) < len(stored))):
        raise _unmatched(len(values), lost, len(stored), len(stored) - len(pairs), identifier, labels.path.name)
    return np.asarray(sorted(pairs), dtype=np.intp), [pairs[item] for item in sorted(pairs)]


def _hashed(table: FeatureTable, values: Sequence[str], identifier: Identifier, labels: LabelTable) -> list[str]:
    """The values as the feature file holds them."""
    if table.key_check == "readable":
        return [normalised(value) for value in values]
    pseudonyms = Pseudonyms(load_key(labels.id_key, make=False))
    if pseudonyms.key_check != table.key_check:
        message = f"{table.path.name}: its pseudonyms were made with another key than this one"
        raise CohortError(message, remedy="give the key of the extraction with --id-key FILE")
    return [pseudonyms.of(value, kind=identifier.kind) for value in values]


def _typed(text: str, line: int, identifier: Identifier, place: str) -> str:
    """A cell as a person typed it: spreadsheets hold text as '0012 or ="0012".

    Raises:
        CohortError: a number of which a spreadsheet has dropped the last digits, as 1.20E+10.
    """
    if rounded_by_spreadsheet(text):
        message = f"{place}, line {line}: a spreadsheet has rounded the {identifier.keyword}, as in 1.20E+10"
        raise CohortError(message, remedy="export the table anew, and open it with that column as text")
    quoted = _AS_TEXT.fullmatch(text)
    return (quoted[1] or quoted[2]) if quoted else text


def _rows(names: Sequence[str], lines: Sequence[int], identifier: Identifier, place: str) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for row, name in enumerate(names):
        if name and found.setdefault(name, row) != row:
            message = f"{place}: lines {lines[found[name]]} and {lines[row]} have the same {identifier.keyword}"
            raise CohortError(message, remedy="keep one row per identifier")
    return found


def _unmatched(
    rows: int, lost: Sequence[int], items: int, bare: int, identifier: Identifier, place: str
) -> CohortError:
    told = f"{len(lost)} of {rows} rows match no item by {identifier.keyword}, and {bare} of {items} items no row"
    which = ", ".join(map(str, lost[:_FEW])) + (" …" if len(lost) > _FEW else "")
    lines = f" (lines {which})" if lost else ""
    remedy = "correct the table, or leave both out with --unmatched skip"
    return CohortError(f"{place}: {told}{lines}", remedy=remedy)


def _letters(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())
