"""``export``: a feature file in the layouts that other tools load."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from umedfeat.errors import OutputError, SetupError
from umedfeat.naming import write_csv
from umedfeat.store.file_writer import written_whole
from umedfeat.store.layouts import LAYOUTS, Layout, NotExportable
from umedfeat.store.read import FeatureFile

__all__ = ["Exported", "export", "file_names"]

#: Leaves room for the suffixes of layouts and of temporary files where a name may have 255 bytes.
_MOST_BYTES = 199
#: Names of devices, which Windows gives to no file.
_RESERVED = {
    *("con", "prn", "aux", "nul", "conin$", "conout$"),
    *(f"{port}{number}" for port in ("com", "lpt") for number in "0123456789\u00b9\u00b2\u00b3"),
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where. items: how many items.
        left_out: (id, reason) of items that the layout cannot hold.
        empty: ids of written items without a region: their arrays have no rows.
    """

    folder: Path
    items: int
    left_out: tuple[tuple[str, str], ...]
    empty: tuple[str, ...] = ()


def export(
    path: Path,
    out_dir: Path,
    layout: str,
    *,
    nominal_magnification: bool = False,
    skip_empty: bool = False,
    on_rows: Callable[[int], None] | None = None,
) -> Exported:
    """Write a feature file in the layout of another tool, with an ``items.csv`` that tells what is what.

    Files of the same name are replaced, others stay.

    Args:
        path: the feature file.
        out_dir: folder; made if it does not exist.
        layout: "clam", "trident", "stamp", "pt", "parquet", "anndata" or "tokens".
        nominal_magnification: round 10 / mpp to the usual 1.25, 2.5, 5, 10, 20, 40, 80 and derive the tile's extent
            from it, for readers that demand one extent over slides of slightly different scale. Coordinates stay exact.
        skip_empty: leave out items without a region, whose bags end the training of some tools.
        on_rows: told the number of rows after every item (for a progress bar).

    Raises:
        SetupError: an unknown layout, a missing extra, or no item that the layout can hold.
        OutputError: the folder cannot be written.
    """
    if layout not in LAYOUTS:
        raise SetupError(f"layout {layout!r} is unknown", remedy=", ".join(LAYOUTS))
    with FeatureFile(path) as file:
        names = file_names(file.ids)
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
            writer = LAYOUTS[layout](file, out_dir, nominal_magnification)
            written, left_out = _write_items(file, writer, names, skip_empty, on_rows)
            writer.close()
        except OSError as error:
            raise OutputError(f"{out_dir}: {error.strerror or error}", remedy="choose another --out") from error
        if not written:
            reason = left_out[0][1] if left_out else "the file holds none"
            remedy = "umedfeat info --items tells what is in it" if layout == "pt" else "try --layout pt"
            raise SetupError(f"{path.name}: no item fits the layout {layout}: {reason}", remedy=remedy)
        _write_table(out_dir / "items.csv", file, names, written)
        empty = tuple(file.ids[number] for number in written if not file.items["count"][number])
    return Exported(out_dir, len(written), tuple(left_out), empty)


def _write_items(
    file: FeatureFile,
    writer: Layout,
    names: Sequence[str],
    skip_empty: bool,
    on_rows: Callable[[int], None] | None,
) -> tuple[list[int], list[tuple[str, str]]]:
    written: list[int] = []
    left_out: list[tuple[str, str]] = []
    for number, name in enumerate(names):
        if skip_empty and not file.items["count"][number]:
            left_out.append((file.ids[number], "it has no region"))
            continue
        try:
            writer.add(number, name)
            written.append(number)
        except NotExportable as fault:
            left_out.append((file.ids[number], str(fault)))
        if on_rows is not None:
            on_rows(int(file.items["count"][number]))
    return written, left_out


#: What pandas reads as a missing value.
_NOTHING = {"na", "n/a", "<na>", "null", "none", "#n/a"}
#: First letters that hide a file, make it look like an option, or a cell like a formula.
_UNSAFE = (".", " ", "-", "=", "+", "@")


def file_names(ids: Sequence[str]) -> list[str]:
    """A file name for every id: its last part where that is unique, else the whole id with "__" for "/".

    No two are the same on any file system (upper and lower case, composed and decomposed letters count as one), none
    has more than 200 bytes, none is reserved or hidden, none reads as a number. Names that would be the same get a mark
    that depends on the id alone, so that an item is called the same whatever else stands in the file.

    >>> file_names(["a/slide1", "b/slide2", "c/same", "d/same"])
    ['slide1', 'slide2', 'c__same', 'd__same']
    """
    short = [name.rpartition("/")[2] for name in ids]
    often = Counter(map(_folded, short))
    chosen = [s if often[_folded(s)] == 1 else name.replace("/", "__") for name, s in zip(ids, short, strict=True)]
    safe = [_safe(name) for name in chosen]
    often = Counter(map(_folded, safe))
    taken = {name for name, count in often.items() if count == 1}
    names = []
    for identity, name in zip(ids, safe, strict=True):
        if often[_folded(name)] > 1:
            name = _marked(name, identity, taken)
            taken.add(_folded(name))
        names.append(name)
    return names


def _folded(name: str) -> str:
    """What file systems take for the same name is the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKD", name).casefold())


def _safe(name: str) -> str:
    kept = "".join("_" if letter in '\\/:*?"<>|' or not letter.isprintable() else letter for letter in name)
    kept = _cut(unicodedata.normalize("NFC", kept), _MOST_BYTES).rstrip(". ")
    reserved = kept.partition(".")[0].rstrip().casefold() in _RESERVED or _is_value(kept)
    return f"_{kept}" if reserved or kept.startswith(_UNSAFE) or not kept else kept


def _is_value(name: str) -> bool:
    """Would tables that are read without types hold a number, or nothing, instead of the name ("0017" → 17)?"""
    try:
        float(name)
    except ValueError:
        return name.casefold() in _NOTHING
    return True


def _marked(name: str, identity: str, taken: Collection[str]) -> str:
    digest = hashlib.sha256(identity.encode(errors="backslashreplace")).hexdigest()
    marks = (f"{_cut(name, _MOST_BYTES - length - 1)}_{digest[:length]}" for length in range(8, 65, 8))
    return next(mark for mark in marks if _folded(mark) not in taken)


def _cut(name: str, size: int) -> str:
    """The first bytes of a name, whole letters only."""
    return name.encode(errors="backslashreplace")[:size].decode(errors="ignore")


def _write_table(path: Path, file: FeatureFile, names: Sequence[str], written: Sequence[int]) -> None:
    """``items.csv``: case_id, slide_id and the manifest's columns, as CLAM's dataset tables have them."""
    columns = [name for name in file.meta if name not in {"case_id", "slide_id", "id"}]
    header = ["case_id", "slide_id", *columns, "id", "modality", "rows"]
    temporary = path.with_name(f".{path.name}.tmp")
    with written_whole(temporary, path), temporary.open("w", newline="", encoding="utf-8") as stream:
        write_csv(stream, [header, *(_table_row(file, number, names[number], columns) for number in written)])


def _table_row(file: FeatureFile, number: int, name: str, columns: Sequence[str]) -> list[object]:
    items = file.items
    labels = [file.meta[column][number] for column in columns]
    facts = [items[column][number] for column in ("id", "modality", "count")]
    return [items["patient"][number] or name, name, *labels, *facts]
