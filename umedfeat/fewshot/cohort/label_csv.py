"""Labels from a table: which column names the items, and which rows belong to which."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.hospital import LabelTable, is_identifying, joined, named_identifier
from umedfeat.fewshot.cohort.labelled import LABEL_COLUMNS, Labelled, candidates, only_column
from umedfeat.fewshot.cohort.matching import matched_items
from umedfeat.fewshot.cohort.table import FeatureTable
from umedfeat.naming import UTF16_MARKS, plain_cell

__all__ = ["from_csv"]

_KEY_COLUMNS = ("id", "item", "path", "file", "filename", "image", "slide", "source", "name")
#: First line in which Excel is told the delimiter; what stands in quotes.
_DECLARED = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_QUOTED = re.compile('"[^"]*"')
#: How .xlsx and .ods (zip), and .xls files begin.
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def from_csv(table: FeatureTable, given: LabelTable, label: str, unmatched: str) -> Labelled:
    """The labels of a CSV file, for the items that its rows name; arguments as of ``label_items``.

    Raises:
        CohortError: not a table, no or several columns could be meant, or rows and items do not match.
    """
    path, (rows, lines) = given.path, _read_csv(given.path)
    columns = list(rows[0])
    usual = next((found[0] for name in _KEY_COLUMNS if (found := candidates(dict.fromkeys(columns), (name,)))), "")
    identifier = named_identifier(columns, given.by, path.name) if given.by or not usual else None
    if not usual and identifier is None:
        raise CohortError(
            f"{path.name}: no column names the items; its columns are {', '.join(columns)}",
            remedy="call it 'id' or 'path', or PatientID, AccessionNumber, StudyInstanceUID or SeriesInstanceUID",
        )
    key = usual if identifier is None else identifier[0]
    rest = {name: None for name in columns if name != key and (identifier is None or not is_identifying(name))}
    if not label and not candidates(rest, LABEL_COLUMNS) and len(rest) == 1:
        label = next(iter(rest))
    label = only_column(rest, label, LABEL_COLUMNS, path.name, "--label")
    values = [row[key] for row in rows]
    if identifier is None:
        items, matched = matched_items(table, values, path.name, unmatched)
    else:
        items, matched = joined(table, dict(zip(lines, values, strict=True)), identifier[1], given, unmatched)
    kept = [rows[k] for k in matched]
    meta = {name: values[items] for name, values in table.meta.items() if name != label}
    meta |= {name: np.asarray([row[name] for row in kept], dtype=np.str_) for name in rest if name != label}
    texts = np.asarray([row[label] for row in kept], dtype=np.str_)
    left_out = []
    if lost := len(rows) - len(set(matched)):
        left_out.append(f"{lost} label rows without item")
    if len(table.ids) > len(items):
        left_out.append(f"{len(table.ids) - len(items)} items without label row")
    return Labelled(f"{path.name}: {label}", items, texts, None, meta, ", ".join(left_out))


def _read_csv(path: Path) -> tuple[list[dict[str, str]], list[int]]:
    """The rows that are not blank, and the line at which each ends."""
    text = _text_of(path)
    declared = _DECLARED.match(text)
    head = _QUOTED.sub("", re.split(r"[\r\n]", text, maxsplit=1)[0])
    separator = declared[1] if declared else max(",;\t|", key=head.count)
    body = io.StringIO(text[declared.end() :] if declared else text, newline="")
    reader = csv.DictReader(body, delimiter=separator, strict=True)
    try:
        found = list(_rows_of(reader, path.name, int(bool(declared))))
    except csv.Error as error:
        message = f"{path.name}, line {reader.line_num + bool(declared)}: the table cannot be read ({error})"
        raise CohortError(message, remedy="look for a quote that is not closed") from error
    if not found:
        raise CohortError(f"{path.name}: no rows", remedy="give a CSV file with a header and one row per item")
    return [row for row, _ in found], [line for _, line in found]


def _rows_of(reader: csv.DictReader[str], name: str, before: int) -> Iterator[tuple[dict[str, str], int]]:
    """Cells of each row, and its line; ``before``: lines before the header."""
    names = [(column or "").strip() for column in reader.fieldnames or ()]
    twice = [column for column, count in Counter(names).items() if count > 1 and column]
    if twice:
        raise CohortError(f"{name}: several columns are called {twice[0]!r}", remedy="give each column its own name")
    for row in reader:
        if any(row.pop(None, ())):
            message = f"{name}, line {reader.line_num + before}: more cells than the {len(names)} columns"
            raise CohortError(message, remedy="put a value that holds the delimiter in quotes")
        cells = {column.strip(): plain_cell((cell or "").strip()) for column, cell in row.items()}
        if not names[-1]:  # columns that a spreadsheet has added
            cells.pop("")
        if any(cells.values()):
            yield cells, reader.line_num + before


def _text_of(path: Path) -> str:
    if not path.is_file():
        raise CohortError(
            f"{path}: no such label file", remedy="give a CSV file with a column for the item and one for the label"
        )
    content = path.read_bytes()
    if content.startswith(_SPREADSHEETS):
        raise CohortError(f"{path.name}: a spreadsheet, not a CSV file", remedy="save the sheet as 'CSV UTF-8'")
    try:
        return content.decode("utf-16" if content.startswith(UTF16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise CohortError(
            f"{path.name}: line {line} is not UTF-8 text", remedy="save the table as 'CSV UTF-8' (in Excel: Save As)"
        ) from error
