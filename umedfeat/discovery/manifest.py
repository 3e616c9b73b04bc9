"""CSV manifests: one row an input, its columns laid over what the readers say."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from umedfeat.contract import Failure, Found, Source
from umedfeat.discovery.patience import Overdue, each_in_time
from umedfeat.discovery.regions import names_region, region_of
from umedfeat.discovery.remote import Remote
from umedfeat.discovery.table import COLUMNS, ManifestRow, has_path_column, read_rows
from umedfeat.discovery.walk import Walked, unanswered, walk
from umedfeat.disk.regular import kind_of
from umedfeat.errors import SetupError
from umedfeat.naming import Pseudonyms, printable
from umedfeat.remote.address import address_of, is_url

__all__ = ["is_manifest", "once", "read_manifest", "with_manifest_rows"]

_SHOWN = 3


def is_manifest(path: Path) -> bool:
    """A CSV whose header has a ``path`` (or ``file``) column."""
    return path.suffix.lower() in {".csv", ".tsv", ".txt"} and has_path_column(path)


def read_manifest(path: Path, seconds: float, remote: Remote) -> Walked:
    """The files that a manifest's rows name, folders searched; ``seconds``: the limit for each path and folder.

    Args:
        remote: where what its rows name at URLs is mirrored.

    Raises:
        SetupError: a malformed table, paths that do not exist or are listed twice; the line is told.
    """
    every = read_rows(path)
    rows = [row for row in every if not is_url(row["path"])]
    walked = _at_urls(path.name, [row for row in every if is_url(row["path"])], remote)
    home = os.path.abspath(path.parent)  # noqa: PTH100 - links must not be resolved
    kinds = each_in_time(lambda row: _kind(_place(home, row)), rows, seconds)
    _refuse_missing(path.name, rows, kinds)
    root = _root_of(home, rows, kinds) if rows else home
    for row, kind in zip(rows, kinds, strict=True):
        place = _place(home, row)
        if kind == "folder":
            walked.extend(walk(Path(place), Path(root), row, seconds))
            continue
        found = Found(Path(place), _relative(place, root, row["path"]), row)
        if kind == "file":
            walked.found.append(found)
        else:
            walked.failures.append(unanswered(found.name, kind) if isinstance(kind, Overdue) else _no_file(found, kind))
    _refuse_repeated(path.name, walked.found)
    return walked


def _at_urls(name: str, rows: Sequence[ManifestRow], remote: Remote) -> Walked:
    walked = Walked([], [], [])
    if not rows:
        return walked
    for row in rows:
        _refuse_bad_url(name, row)
    try:
        remote.mirror.add(*(row["path"] for row in rows))
    except SetupError as error:
        raise SetupError(f"{name}: {error.message}", remedy=error.remedy) from error
    for row in rows:
        walked.extend(remote.walked(remote.mirror.place_of(row["path"]), remote.mirror.folder, row))
    return walked


def _refuse_bad_url(name: str, row: ManifestRow) -> None:
    try:
        address_of(row["path"])
    except SetupError as error:
        raise SetupError(f"{name}, line {row.line}: {error.message}", remedy=error.remedy) from error


def _place(home: str, row: ManifestRow) -> str:
    """Where a row's path lies: absolute, or relative to the manifest's folder. A string: there may be a million."""
    return os.path.normpath(os.path.join(home, row["path"]))  # noqa: PTH118


def _kind(place: str) -> str:
    try:
        return kind_of(place)
    except OSError as error:
        return error.strerror or type(error).__name__


def _refuse_missing(name: str, rows: Sequence[ManifestRow], kinds: Sequence[str | Overdue]) -> None:
    missing = [row for row, kind in zip(rows, kinds, strict=True) if kind == ""]
    if missing:
        shown = ", ".join(f"{row['path']} (line {row.line})" for row in missing[:_SHOWN])
        more = " …" if len(missing) > _SHOWN else ""
        raise SetupError(
            f"{name}: {len(missing)} of {len(rows)} paths do not exist: {shown}{more}",
            remedy="paths are relative to the manifest's folder, or absolute",
        )


def _no_file(found: Found, kind: str) -> Failure:
    message = f"{found.name}: {kind}, not a file or folder that can be read"
    return Failure(found.name, "discover", "UnreadableInput", message, "remove the row, or correct its path")


def _root_of(home: str, rows: Sequence[ManifestRow], kinds: Sequence[str | Overdue]) -> str:
    """The manifest's folder where it holds every path, else what all paths have in common: names stay relative."""
    below = home.rstrip(os.sep) + os.sep
    if all(_place(home, row).startswith(below) for row in rows):
        return home
    folders: set[str] = set()
    for row, kind in zip(rows, kinds, strict=True):
        place = _place(home, row)
        folders.add(place if kind == "folder" else os.path.dirname(place))  # noqa: PTH120
    try:
        return os.path.commonpath(folders)
    except ValueError as error:  # different drives of Windows
        message = "the manifest's paths lie on several drives and have no folder in common"
        raise SetupError(message, remedy="make one manifest per drive") from error


def _relative(place: str, root: str, cell: str) -> str:
    """The name of a file below ``root``; the cell itself where it says the same, which saves memory."""
    name = printable(place[len(root.rstrip(os.sep)) + 1 :].replace(os.sep, "/"))
    return cell if name == cell else name


def _refuse_repeated(name: str, found: Sequence[Found]) -> None:
    """One row an input, but for the regions of interest of one image, each with an id of its own."""
    seen: dict[str, Mapping[str, str]] = {}
    for file in found:
        rows = [file.row, seen.setdefault(file.name, file.row)]
        if rows[0] is not rows[1] and not all(row.get("id") and names_region(row) for row in rows):
            remedy = "one row per input; several regions of interest of one image need an id each"
            raise SetupError(f"{name}: {file.name} is listed twice", remedy=remedy)


def with_manifest_rows(sources: Sequence[Source], found: Sequence[Found], pseudonyms: Pseudonyms) -> list[Source]:
    """Lay the manifest's columns over what the readers said; the manifest wins where it speaks."""
    rows: dict[Path, list[Mapping[str, str]]] = defaultdict(list)
    for file in found:
        if file.row:
            rows[file.path].append(file.row)
    owners = Counter(id(row) for source in sources for row in rows.get(source.files[0], ()))
    described = []
    for source in sources:
        told = [(file, rows[file]) for file in source.files if file in rows]
        for together in zip(*(own for _, own in told), strict=False):
            _refuse_contradictions(source, list(zip((file for file, _ in told), together, strict=True)))
        own = rows.get(source.files[0], [])
        regions = [_described(source, row, owners[id(row)] > 1, pseudonyms) for row in own]
        if len(regions) > 1:  # of one image: messages must tell which
            regions = [replace(region, name=f"{region.name}#{region.id}") for region in regions]
        described += regions or [source]
    return described


def once(found: Sequence[Found]) -> list[Found]:
    """The files; those that several rows of a manifest list, for their regions of interest, once."""
    kept: dict[object, Found] = {}
    for number, file in enumerate(found):
        kept.setdefault(file.path if file.row else number, file)
    return list(kept.values())


def _refuse_contradictions(source: Source, rows: Sequence[tuple[Path, Mapping[str, str]]]) -> None:
    """Slices of one series whose rows differ would all get the first one's label."""
    for (one, first), (other, second) in pairwise(rows):
        if first is second:
            continue
        differing = [key for key in first if key != "path" and first[key] != second.get(key, "")]
        if differing:
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
        meta={key: value for key, value in row.items() if key not in COLUMNS},
        roi=region_of(row, row.home if isinstance(row, ManifestRow) else "", source.name),
    )


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        message = f"{name}: manifest mpp {text!r} is not a number"
        raise SetupError(message, remedy="micrometres per pixel, e.g. 0.25") from error
