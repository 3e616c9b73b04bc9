"""The cells of a CSV manifest: encoding, delimiter, header and rows; every fault is told with its line."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from umedfeat.disk.regular import open_regular
from umedfeat.errors import SetupError
from umedfeat.naming import UTF16_MARKS, plain_cell, printable, rounded_by_spreadsheet

__all__ = ["COLUMNS", "ManifestRow", "has_path_column", "read_rows"]

#: Columns with a meaning; any other is kept as metadata.
COLUMNS = frozenset({"path", "id", "patient", "mpp", "modality"})

_HEADER_BYTES = 65536
_AS_UTF8 = "save the table as 'CSV UTF-8' (in a spreadsheet: Save As)"
_QUOTES = "look for a quote that is not closed"
_SHARED_CELLS = 100_000


class ManifestRow(Mapping[str, str]):
    """One row, lean enough for millions of them: column → cell.

    Attributes:
        line: where it begins in the file.
        home: folder that relative paths in its cells start from.
    """

    __slots__ = ("_cells", "_places", "home", "line")

    def __init__(self, places: Mapping[str, int], cells: tuple[str, ...], line: int, home: str = "") -> None:
        self._places, self._cells, self.line, self.home = places, cells, line, home

    def __getitem__(self, column: str) -> str:
        place = self._places[column]
        return self._cells[place] if place < len(self._cells) else ""

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def has_path_column(path: Path) -> bool:
    """Does the first line name a column ``path`` (or ``file``)?"""
    with open_regular(path) as stream:
        raw = stream.read(_HEADER_BYTES)
    encoding = "utf-16" if raw.startswith(UTF16_MARKS) else "utf-8-sig"
    header = raw.decode(encoding, errors="replace").replace("\0", "").partition("\n")[0]
    cells = header.replace("\t", ",").replace(";", ",").split(",")
    return bool({"path", "file"} & {cell.strip().strip('"').lower() for cell in cells})


def read_rows(path: Path) -> list[ManifestRow]:
    """The rows below the header; ``file`` counts as ``path``. Only paths and patients may hold control characters.

    Raises:
        SetupError: no text in UTF-8 or UTF-16, no table, no rows, two columns of one name, a row without a path or
            with more cells than columns.
    """
    with open_regular(path) as stream:
        encoding = "utf-16" if stream.read(2) in UTF16_MARKS else "utf-8-sig"
        stream.seek(0)
        text = io.TextIOWrapper(stream, encoding=encoding, newline="")
        try:
            rows = _rows_of(text, path.name)
        except UnicodeDecodeError as error:
            fault = "not UTF-8 text (probably in an older Windows encoding)"
            raise _fault(path.name, _line_that_is_no_text(path, encoding), fault, _AS_UTF8) from error
    home = os.path.abspath(path.parent)  # noqa: PTH100 - links must not be resolved
    for row in rows:
        row.home = home
    if not rows:
        raise SetupError(f"{path.name}: the manifest has no rows", remedy="one row per input below the header")
    return rows


def _rows_of(text: TextIO, name: str) -> list[ManifestRow]:
    header = text.readline()
    lines = _without_nul(itertools.chain([header] if header else [], text), name)
    reader = csv.reader(lines, delimiter=max(",;\t", key=header.count), strict=True)
    places: dict[str, int] = {}
    rows: list[ManifestRow] = []
    shared: dict[str, str] = {}
    line = 1
    try:
        for cells in reader:
            if not places:
                places = _places(cells, name)
            elif cells:
                rows.append(_row(places, cells, shared, name, line))
            line = reader.line_num + 1
    except csv.Error as error:
        raise _fault(name, line, f"the table cannot be read ({error})", _QUOTES) from error
    return rows


def _without_nul(lines: Iterable[str], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise _fault(name, number, "a NUL character: damaged, or UTF-16 without its mark", _AS_UTF8)
        yield line


def _line_that_is_no_text(path: Path, encoding: str) -> int:
    with open_regular(path) as stream:
        raw = stream.read()
    try:
        raw.decode(encoding)
    except UnicodeDecodeError as error:
        return raw[: error.start].count(b"\n") + 1
    return 1


def _fault(name: str, line: int, fault: str, remedy: str) -> SetupError:
    return SetupError(f"{name}, line {line}: {fault}", remedy=remedy)


def _places(header: Sequence[str], name: str) -> dict[str, int]:
    """Column → place in a row; the columns with a meaning in small letters."""
    lowered = [cell.strip().lower() for cell in header]
    known = COLUMNS if "path" in lowered else COLUMNS | {"file"}
    columns = [low if low in known else printable(cell.strip()) for low, cell in zip(lowered, header, strict=True)]
    columns = ["path" if column == "file" and column in known else column for column in columns]
    twice = [column for column, count in Counter(columns).items() if count > 1 and column]
    if twice:
        raise _fault(name, 1, f"two columns are called {twice[0]!r}", "give each column a name of its own")
    return {column: place for place, column in enumerate(columns) if column}


def _row(places: Mapping[str, int], cells: Sequence[str], shared: dict[str, str], name: str, line: int) -> ManifestRow:
    if any(cells[max(places.values()) + 1 :]):
        fault = f"{len(cells)} cells under {len(places)} columns"
        raise _fault(name, line, fault, "put a value that holds the delimiter in quotes")
    raw = (places.get("path"), places.get("patient"))  # one is opened, the other hashed
    clean = tuple(
        plain_cell(cell.strip()) if place in raw else _shared(cell, shared) for place, cell in enumerate(cells)
    )
    row = ManifestRow(places, clean, line)
    if not row.get("path"):
        raise _fault(name, line, "empty path", "fill it in or remove the row")
    if rounded_by_spreadsheet(row.get("patient", "")):
        fault = "a spreadsheet has rounded the patient, as in 1.20E+10: several would become one"
        raise _fault(name, line, fault, "make the table anew, with that column as text")
    return row


def _shared(cell: str, shared: dict[str, str]) -> str:
    """A cell made printable. Labels and centres repeat: each is kept in memory once."""
    known = shared.get(cell)
    if known is not None:
        return known
    clean = printable(plain_cell(cell.strip()))
    if len(shared) < _SHARED_CELLS:
        shared[cell] = clean
    return clean
