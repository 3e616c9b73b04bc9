"""Labels from a table: which column names the items, and which rows belong to which."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from umedfeat.arrays import Ints
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.hospital import LabelTable, is_identifying, joined, named_identifier
from umedfeat.fewshot.cohort.labelled import LABEL_COLUMNS, Labelled, candidates, only_column, some
from umedfeat.fewshot.cohort.table import FeatureTable
from umedfeat.naming import UTF16_MARKS, plain_cell, stem_of

__all__ = ["from_csv"]

_KEY_COLUMNS = ("id", "item", "path", "file", "filename", "image", "slide", "source", "name")
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
        items, matched = _match(table, values, path.name, unmatched)
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
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        found = list(_rows_of(reader, path.name))
    except csv.Error as error:
        message = f"{path.name}, line {reader.line_num}: the table cannot be read ({error})"
        raise CohortError(message, remedy="look for a quote that is not closed") from error
    if not found:
        raise CohortError(f"{path.name}: no rows", remedy="give a CSV file with a header and one row per item")
    return [row for row, _ in found], [line for _, line in found]


def _rows_of(reader: csv.DictReader[str], name: str) -> Iterator[tuple[dict[str, str], int]]:
    names = [(column or "").strip() for column in reader.fieldnames or ()]
    twice = [column for column, count in Counter(names).items() if count > 1]
    if twice:
        raise CohortError(f"{name}: several columns are called {twice[0]!r}", remedy="give each column its own name")
    for row in reader:
        if any(row.pop(None, ())):
            message = f"{name}, line {reader.line_num}: more cells than the {len(names)} columns"
            raise CohortError(message, remedy="put a value that holds the delimiter in quotes")
        cells = {column.strip(): plain_cell((cell or "").strip()) for column, cell in row.items()}
        if any(cells.values()):
            yield cells, reader.line_num


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


def _match(table: FeatureTable, keys: Sequence[str], name: str, unmatched: str) -> tuple[Ints, list[int]]:
    """Items and the rows that describe them, both ways complete unless skipping is allowed."""
    index: dict[str, set[int]] = {}
    for item, (identity, source) in enumerate(zip(table.ids, table.sources, strict=True)):
        for form in {*_forms(str(identity)), *_forms(str(source))}:
            index.setdefault(form, set()).add(item)
    pairs: dict[int, int] = {}
    lost = []
    for row, key in enumerate(keys):
        candidates: set[int] = next((index[form] for form in _forms(key) if form in index), set())
        if len(candidates) > 1:
            raise CohortError(
                f"{name}: {key!r} fits {len(candidates)} items", remedy="name items by id or relative path"
            )
        if not candidates:
            lost.append(key)
            continue
        item = next(iter(candidates))
        if item in pairs:
            raise CohortError(f"{name}: two rows describe {str(table.ids[item])!r}", remedy="keep one row per item")
        pairs[item] = row
    bare = [str(table.ids[item]) for item in range(len(table.ids)) if item not in pairs]
    if unmatched == "stop" or not pairs:
        _refuse_unmatched(name, lost, bare, len(keys), len(table.ids))
    items = sorted(pairs)
    return np.asarray(items, dtype=np.intp), [pairs[item] for item in items]


def _forms(key: str) -> list[str]:
    """Ways to write an item, the most specific first: path, stem, then shorter and shorter ends of both."""
    path = key.strip().replace("\\", "/").removeprefix("./")
    pieces = path.split("/")
    forms = []
    for start in range(len(pieces)):
        end = "/".join(pieces[start:])
        forms += [end, stem_of(end)]
    return list(dict.fromkeys(form for form in forms if form))


def _refuse_unmatched(name: str, lost: Sequence[str], bare: Sequence[str], n_rows: int, n_items: int) -> None:
    if lost:
        raise CohortError(
            f"{name}: {len(lost)} of {n_rows} rows name no item of the features: {some(lost)}",
            remedy="correct the names, or leave such rows out with --unmatched skip",
        )
    if bare:
        raise CohortError(
            f"{name}: {len(bare)} of {n_items} items have no label row: {some(bare)}",
            remedy="add their labels, or leave such items out with --unmatched skip",
        )
