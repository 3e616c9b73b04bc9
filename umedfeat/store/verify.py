"""``verify``: is a feature file whole? Every fault is one line."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umedfeat.errors import SetupError
from umedfeat.store.read import FeatureFile
from umedfeat.store.row_checks import RowChecks
from umedfeat.store.schema import DROPPED_COLUMNS, FAILURE_COLUMNS, ITEM_COLUMNS, SKIPPED_COLUMNS, TILE_COLUMNS

__all__ = ["Verified", "verify"]

#: Of the same kind of fault in many items, so many are told.
_TOLD = 20


@dataclass(frozen=True)
class Verified:
    """What was checked, and what is wrong.

    Attributes:
        faults: one line each; empty when the file is whole.
        items, rows: how many were checked.
    """

    faults: tuple[str, ...]
    items: int = 0
    rows: int = 0


def verify(path: Path, on_rows: Callable[[int], None] | None = None) -> Verified:
    """Check schema, columns, ranges, start and count, NaN and infinity, and the checksum of every item's rows.

    Reads the file once, in blocks. Raises nothing for a damaged file: that is what the faults are for.

    Args:
        path: the feature file.
        on_rows: told the number of rows after every block (for a progress bar).

    Raises:
        SetupError: there is no such file.
    """
    if not path.is_file():
        raise SetupError(f"{path}: no such feature file", remedy="give the path of a feature file")
    try:
        with FeatureFile(path) as file:
            faults = tuple(_faults(file, on_rows))
            return Verified(faults, len(file), file.n_rows)
    except SetupError as error:
        return Verified((error.message,))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        return Verified((f"{path.name}: damaged, cannot be read ({type(error).__name__})",))


def _faults(file: FeatureFile, on_rows: Callable[[int], None] | None) -> Iterator[str]:
    shape_faults = list(_shapes(file))
    yield from shape_faults
    yield from _settings(file)
    if not shape_faults:
        item_faults = list(_items(file))
        yield from item_faults
        if not item_faults:
            yield from _values(file, on_rows)


def _settings(file: FeatureFile) -> Iterator[str]:
    if file.header.fingerprint != file.fingerprint:
        yield "fingerprint: does not belong to the settings in the file"


def _shapes(file: FeatureFile) -> Iterator[str]:
    rows, items, dim = file.n_rows, len(file.ids), file.dim
    expected: dict[str, tuple[int, ...]] = {"features": (rows, dim), "coords": (rows, 2)}
    expected |= {f"tiles/{name}": (rows,) for name in TILE_COLUMNS}
    expected |= {f"items/{name}": (items,) for name in ITEM_COLUMNS} | {"items/embedding": (items, dim)}
    for group, columns in (("dropped", DROPPED_COLUMNS), ("failures", FAILURE_COLUMNS), ("skipped", SKIPPED_COLUMNS)):
        length = file.dataset(group)[next(iter(columns))].shape[0]
        expected |= {f"{group}/{name}": (length,) for name in columns}
    expected |= {f"items/meta/{name}": (items,) for name in file.dataset("items/meta")}
    for name, shape in expected.items():
        if name not in file.dataset("/"):
            yield f"{name}: missing"
        elif file.dataset(name).shape != shape:
            yield f"{name}: shape {file.dataset(name).shape}, expected {shape}"
    if file.dataset("features").dtype != np.dtype(file.dtype):
        yield f"features: {file.dataset('features').dtype}, expected {file.dtype}"


def _items(file: FeatureFile) -> Iterator[str]:
    items, ids = file.items, file.ids
    if any(a >= b for a, b in itertools.pairwise(ids)):
        yield "items/id: not sorted, or an id stands twice"
    counts = items["count"]
    if (counts < 0).any() or not np.array_equal(items["start"], np.cumsum(counts) - counts):
        yield "items/start, items/count: the items' rows are not consecutive"
    elif counts.sum() != file.n_rows:
        yield f"items/count: the items own {counts.sum()} rows of {file.n_rows}"
    for name in ("width", "height", "depth", "n_dropped", "tile_extent"):
        yield from _told(file, items[name] < 0, f"items/{name}: negative")
    for name in ("mpp_x", "mpp_y"):
        yield from _told(file, items[name] <= 0, f"items/{name}: not positive")
    dropped = file.dropped["item"]
    if len(dropped) and (dropped.min() < 0 or dropped.max() >= len(ids)):
        yield "dropped/item: points to no item"
    elif not np.array_equal(np.bincount(dropped, minlength=len(ids)), items["n_dropped"]):
        yield "items/n_dropped: does not agree with /dropped"


def _told(file: FeatureFile, wrong: npt.NDArray[np.bool_], fault: str) -> Iterator[str]:
    numbers = np.flatnonzero(wrong)
    for number in numbers[:_TOLD]:
        yield f"{file.ids[number]}: {fault}"
    if len(numbers) > _TOLD:
        yield f"… and {len(numbers) - _TOLD} more items: {fault}"


def _values(file: FeatureFile, on_rows: Callable[[int], None] | None) -> Iterator[str]:
    """Faults of the rows, item by item, in one pass over the file."""
    check = RowChecks(file)
    with np.errstate(all="ignore"):  # damaged numbers overflow; they are told below
        for block in file.blocks():
            check.update(block)
            if on_rows is not None:
                on_rows(len(block))
        check.finish()
    yield from _told(file, check.not_finite, "features: NaN or infinity")
    yield from _told(file, check.bad_tissue, "tiles/tissue: not between 0 and 1")
    yield from _told(file, check.bad_owner, "tiles/item: rows belong to another item")
    yield from _told(file, check.bad_checksum & ~check.not_finite, "checksum: the rows are not those that were written")
    yield from _told(file, check.bad_embedding & ~check.bad_checksum, "items/embedding: not the mean of the rows")
