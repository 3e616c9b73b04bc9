"""Packing: any number of feature files become one, sorted by id, streaming, byte-identical in any order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.errors import OutputError, SetupError
from umedfeat.items import Failure, Skipped
from umedfeat.store.file_writer import Contents, Rows, write_file
from umedfeat.store.read import FeatureFile
from umedfeat.store.schema import DROPPED_COLUMNS, FAILURE_COLUMNS, ITEM_COLUMNS, SKIPPED_COLUMNS, Header
from umedfeat.store.segment import table_of
from umedfeat.store.table import Table, concatenate, text_array

__all__ = ["pack"]

#: A file whose rows are smaller than this is held in memory while its items are copied, at most _HELD files at once.
_HOLD_BYTES = 96 << 20
_HELD = 2
_COPY_ROWS_BYTES = 32 << 20


def pack(
    paths: Sequence[Path],
    out: Path,
    header: Header,
    dim: int,
    failures: Sequence[Failure] = (),
    skipped: Sequence[Skipped] = (),
    on_rows: Callable[[int], None] | None = None,
) -> None:
    """Write all items of ``paths`` into ``out``, sorted by id.

    The result depends on the items, failures and skipped files alone: not on how they were split over files, nor on the
    order of the files. ``out`` may be one of ``paths``.

    Args:
        failures, skipped: of the present run; those in the files are kept too, unless their input was embedded since.
        on_rows: told the number of rows after every part (for a progress bar).

    Raises:
        OutputError: settings differ, an id stands twice with different features, or the disk is full.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(FeatureFile(path)) for path in paths]
        _refuse_other_settings(files, header)
        places = _places(files)
        contents = _contents(files, places, dim, failures, skipped)
        write_file(out, header, dim, contents, _rows(files, places, on_rows))


def _refuse_other_settings(files: Sequence[FeatureFile], header: Header) -> None:
    for file in files:
        if file.fingerprint != header.fingerprint:
            differences = "; ".join(header.differences(file.header)[:5]) or "the fingerprint"
            raise OutputError(
                f"{file.path.name}: written with other settings: {differences}",
                remedy="extract it again with the same settings, or keep the files apart",
            )


def _places(files: Sequence[FeatureFile]) -> list[tuple[int, int]]:
    """(file, item) of every item, sorted by id; the same item in several files counts once."""
    best: dict[str, tuple[int, int]] = {}
    for number, file in enumerate(files):
        for item, name in enumerate(file.ids):
            if name in best:
                other, place = best[name]
                _refuse_contradiction(files[other], place, file, item)
            best[name] = (number, item)
    return [best[name] for name in sorted(best)]


def _refuse_contradiction(first: FeatureFile, a: int, second: FeatureFile, b: int) -> None:
    if first.items["rows_sha256"][a] != second.items["rows_sha256"][b]:
        raise OutputError(
            f"item {first.ids[a]!r} stands in {first.path.name} and {second.path.name} with different features",
            remedy="the input changed between the runs, or two inputs share an id: keep one of the files",
        )


def _contents(
    files: Sequence[FeatureFile],
    places: Sequence[tuple[int, int]],
    dim: int,
    failures: Sequence[Failure],
    skipped: Sequence[Skipped],
) -> Contents:
    offsets = np.cumsum([0, *(len(file) for file in files)])
    order = np.array([offsets[number] + item for number, item in places], dtype=np.int64)
    items = {name: values[order] for name, values in concatenate([f.items for f in files], ITEM_COLUMNS).items()}
    embedding = np.concatenate([f.embeddings for f in files]) if files else np.zeros((0, dim), np.float32)
    names = sorted({name for file in files for name in file.meta})
    meta = {name: np.concatenate([_meta(file, name) for file in files])[order] for name in names}
    return Contents(
        items=items,
        embedding=embedding[order],
        meta=meta,
        dropped=_dropped(files, places),
        failures=_failures(files, failures, set(items["source"])),
        skipped=_skipped(files, skipped),
    )


def _meta(file: FeatureFile, name: str) -> npt.NDArray[Any]:
    return file.meta[name] if name in file.meta else text_array([""] * len(file))


def _dropped(files: Sequence[FeatureFile], places: Sequence[tuple[int, int]]) -> Table:
    """Dropped regions in item order; within an item they keep their order."""
    numbers = {place: number for number, place in enumerate(places)}
    parts: list[Table] = []
    for f, file in enumerate(files):
        table = file.dropped
        new = np.array([numbers.get((f, int(item)), -1) for item in table["item"]], dtype=np.int64)
        kept = new >= 0
        parts.append({name: values[kept] for name, values in (table | {"item": new}).items()})
    table = concatenate(parts, DROPPED_COLUMNS)
    order = np.argsort(table["item"], kind="stable")
    return {name: values[order] for name, values in table.items()}


def _failures(files: Sequence[FeatureFile], new: Sequence[Failure], embedded: set[str]) -> Table:
    rows: dict[str, dict[str, Any]] = {}
    for file in files:
        for k in range(len(file.failures["source"])):
            row = {name: values[k] for name, values in file.failures.items()}
            held = rows.get(row["source"])
            if held is None or tuple(row.values()) < tuple(held.values()):  # order-free when files disagree
                rows[row["source"]] = row
    for failure in new:
        rows[failure.source] = {name: getattr(failure, name) for name in FAILURE_COLUMNS}
    return table_of([rows[source] for source in sorted(rows) if source not in embedded], FAILURE_COLUMNS)


def _skipped(files: Sequence[FeatureFile], new: Sequence[Skipped]) -> Table:
    rows = {(s, r) for file in files for s, r in zip(file.skipped["source"], file.skipped["reason"], strict=True)}
    rows |= {(skip.name, skip.reason) for skip in new}
    return table_of([{"source": source, "reason": reason} for source, reason in sorted(rows)], SKIPPED_COLUMNS)


def _rows(
    files: Sequence[FeatureFile], places: Sequence[tuple[int, int]], on_rows: Callable[[int], None] | None
) -> Iterator[tuple[int, Rows]]:
    held = _HeldFiles()
    for number, (f, item) in enumerate(places):
        place = files[f].rows(item)
        for part in held.read(files[f], place):
            yield number, part
            if on_rows is not None:
                on_rows(len(part.features))


class _HeldFiles:
    """Reads rows; small files are read whole once, because single rows out of HDF5 are slow."""

    def __init__(self) -> None:
        self._held: OrderedDict[Path, Rows] = OrderedDict()

    def read(self, file: FeatureFile, place: slice) -> Iterator[Rows]:
        if file.n_rows * file.dim * 4 <= _HOLD_BYTES:
            rows = self._whole(file)
            yield Rows(*(getattr(rows, name)[place] for name in Rows.__dataclass_fields__))
            return
        step = max(1, _COPY_ROWS_BYTES // (file.dim * 4))
        for first in range(place.start, place.stop, step):
            yield _read(file, slice(first, min(place.stop, first + step)))

    def _whole(self, file: FeatureFile) -> Rows:
        if file.path not in self._held:
            while len(self._held) >= _HELD:
                self._held.popitem(last=False)
            self._held[file.path] = _read(file, slice(0, file.n_rows))
        self._held.move_to_end(file.path)
        return self._held[file.path]


def _read(file: FeatureFile, place: slice) -> Rows:
    raw = file._file
    try:
        return Rows(
            raw["features"][place],
            raw["coords"][place],
            raw["tiles/slice"][place],
            raw["tiles/tissue"][place],
            raw["tiles/position"][place],
        )
    except OSError as error:
        raise SetupError(
            f"{file.path.name}: damaged", remedy="`umedfeat verify` names the fault; extract it again"
        ) from error
