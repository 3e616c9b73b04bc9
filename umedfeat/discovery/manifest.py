"""CSV manifests: one row an input, its columns laid over what the readers say."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from umedfeat.contract import Found, Skipped, Source
from umedfeat.discovery.walk import walk
from umedfeat.errors import SetupError
from umedfeat.naming import Pseudonyms

__all__ = ["is_manifest", "read_manifest", "with_manifest_rows"]

_MANIFEST_COLUMNS = frozenset({"path", "id", "patient", "mpp", "modality"})


def is_manifest(path: Path) -> bool:
    """A CSV whose header has a ``path`` (or ``file``) column."""
    if path.suffix.lower() not in {".csv", ".tsv", ".txt"}:
        return False
    with path.open("r", encoding="utf-8-sig", errors="replace", newline="") as stream:
        header = stream.readline(65536)
    cells = header.replace("\t", ",").replace(";", ",").split(",")
    return bool({"path", "file"} & {cell.strip().lower() for cell in cells})


def read_manifest(path: Path) -> tuple[list[Found], list[Skipped]]:
    rows = _manifest_rows(path)
    places = [Path(os.path.normpath(path.parent / row["path"])) for row in rows]
    missing = [row["path"] for row, place in zip(rows, places, strict=True) if not place.exists()]
    if missing:
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise SetupError(
            f"{path.name}: {len(missing)} of {len(rows)} paths do not exist: {shown}",
            remedy="paths are relative to the manifest's folder, or absolute",
        )
    root = _root_of(path.parent, places)
    found: list[Found] = []
    skipped: list[Skipped] = []
    for row, place in zip(rows, places, strict=True):
        if place.is_dir():
            files, left_out = walk(place, root, row)
            found += files
            skipped += left_out
        else:
            found.append(Found(place, place.relative_to(root).as_posix(), row))
    repeated = [name for name, count in Counter(f.name for f in found).items() if count > 1]
    if repeated:
        raise SetupError(f"{path.name}: {repeated[0]} is listed twice", remedy="one row per input")
    return found, skipped


def _manifest_rows(path: Path) -> list[dict[str, str]]:
    with path.open("r", encoding="utf-8-sig", newline="") as stream:
        sample = stream.read(65536)
        stream.seek(0)
        header = sample.splitlines()[0] if sample else ""
        delimiter = max(",;\t", key=header.count)
        reader = csv.DictReader(stream, delimiter=delimiter)
        rows = [{(k or "").strip(): (v or "").strip() for k, v in row.items() if isinstance(v, str)} for row in reader]
    for number, row in enumerate(rows, start=2):
        lowered = {key.lower(): key for key in row}
        for name in (*_MANIFEST_COLUMNS, "file"):
            if name in lowered:
                row[name] = row.pop(lowered[name])
        if "path" not in row and "file" in row:
            row["path"] = row.pop("file")
        if not row.get("path"):
            raise SetupError(f"{path.name}, line {number}: empty path", remedy="fill it in or remove the row")
    if not rows:
        raise SetupError(f"{path.name}: the manifest has no rows", remedy="one row per input below the header")
    return rows


def _root_of(folder: Path, places: Sequence[Path]) -> Path:
    """The manifest's folder where it holds every path, else what all paths have in common: names stay relative."""
    absolute = [Path(os.path.abspath(place)) for place in places]  # noqa: PTH100 - links must not be resolved
    home = Path(os.path.abspath(folder))  # noqa: PTH100
    if all(home in place.parents for place in absolute):
        return folder
    common = Path(os.path.commonpath(absolute))
    return common.parent if common.is_file() else common


def with_manifest_rows(sources: Sequence[Source], found: Sequence[Found], pseudonyms: Pseudonyms) -> list[Source]:
    """Lay the manifest's columns over what the readers said; the manifest wins where it speaks."""
    rows = {file.path: file.row for file in found if file.row}
    owners = Counter(id(rows[source.files[0]]) for source in sources if source.files[0] in rows)
    described = []
    for source in sources:
        _refuse_contradictions(source, [(file, rows[file]) for file in source.files if file in rows])
        row = rows.get(source.files[0])
        described.append(_described(source, row, owners[id(row)] > 1, pseudonyms) if row else source)
    return described


def _refuse_contradictions(source: Source, rows: Sequence[tuple[Path, Mapping[str, str]]]) -> None:
    """Slices of one series whose rows differ would all get the first one's label."""
    for (one, first), (other, second) in pairwise(rows):
        differing = [key for key in first if key != "path" and first[key] != second.get(key, "")]
        if differing and first is not second:
            raise SetupError(
                f"{one.name} and {other.name} are slices of one series, and their rows differ in {differing[0]}",
                remedy="give every row an id of its own (an item per slice), or list the series' folder in one row",
            )


def _described(source: Source, row: Mapping[str, str], shared: bool, pseudonyms: Pseudonyms) -> Source:
    new_id = row.get("id") or source.id
    if row.get("id") and shared:  # one row, a folder of several series
        new_id = f"{row['id']}/{source.id.rpartition('/')[2]}"
    return replace(
        source,
        id=new_id,
        patient=pseudonyms.of(row["patient"]) if row.get("patient") else source.patient,
        mpp=_number(row["mpp"], source.name) if row.get("mpp") else source.mpp,
        modality=row.get("modality") or source.modality,
        meta={key: value for key, value in row.items() if key not in _MANIFEST_COLUMNS},
    )


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        message = f"{name}: manifest mpp {text!r} is not a number"
        raise SetupError(message, remedy="micrometres per pixel, e.g. 0.25") from error
