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
from umedfeat.store.rows import Rows, RowsDigest
from umedfeat.store.schema import DROPPED_COLUMNS, FAILURE_COLUMNS, ITEM_COLUMNS, SKIPPED_COLUMNS, TILE_COLUMNS

__all__ = ["Verified", "verify"]

#: Of the same kind of fault in many items, so many are told.
_TOLD = 20
_EMBEDDINGS = 4096


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
    check = _ItemChecks(file)
    for block in file.blocks():
        with np.errstate(all="ignore"):  # damaged numbers overflow; they are told below
            check.update(block)
        if on_rows is not None:
            on_rows(len(block))
    check.finish()
    yield from _told(file, check.not_finite, "features: NaN or infinity")
    yield from _told(file, check.bad_tissue, "tiles/tissue: not between 0 and 1")
    yield from _told(file, check.bad_owner, "tiles/item: rows belong to another item")
    yield from _told(file, check.bad_checksum & ~check.not_finite, "checksum: the rows are not those that were written")
    yield from _told(file, check.bad_embedding & ~check.bad_checksum, "items/embedding: not the mean of the rows")


class _ItemChecks:
    """Walks the rows and the items side by side."""

    def __init__(self, file: FeatureFile) -> None:
        self._file = file
        self._counts = file.items["count"]
        self._item, self._left = -1, 0
        self._row = 0
        self._embeddings = np.zeros((0, file.dim), dtype=np.float32)
        self._digest = RowsDigest()
        self._total = np.zeros(file.dim)
        self.not_finite, self.bad_tissue, self.bad_owner, self.bad_checksum, self.bad_embedding = (
            np.zeros(len(file), dtype=bool) for _ in range(5)
        )

    def update(self, block: Rows) -> None:
        owners = self._file.dataset("tiles/item")[self._row : self._row + len(block)]
        self._row += len(block)
        first = 0
        while first < len(block):
            if self._left == 0:
                self._next()
                continue
            last = min(len(block), first + self._left)
            self._take(block.part(first, last), owners[first:last])
            first = last

    def finish(self) -> None:
        while self._item < len(self._counts):
            self._next()

    def _take(self, part: Rows, owners: npt.NDArray[np.int32]) -> None:
        self._digest.update(part)
        self._total += np.asarray(part.features, dtype=np.float64).sum(axis=0)
        self.not_finite[self._item] |= not np.isfinite(part.features).all()
        self.bad_tissue[self._item] |= not ((part.tissue >= 0) & (part.tissue <= 1)).all()
        self.bad_owner[self._item] |= not (owners == self._item).all()
        self._left -= len(part)

    def _next(self) -> None:
        if self._item >= 0:
            self._compare()
        self._item += 1
        self._left = int(self._counts[self._item]) if self._item < len(self._counts) else 0
        self._digest = RowsDigest()
        self._total[:] = 0

    def _compare(self) -> None:
        item, count = self._item, int(self._counts[self._item])
        self.bad_checksum[item] = self._digest.hexdigest() != self._file.items["rows_sha256"][item]
        mean = self._total / max(1, count)
        stored = self._embedding(item)
        near = 1e-5 if self._file.dtype == "float32" else 2e-3
        scale = max(1e-6, float(np.abs(mean).max(initial=0.0)))
        self.bad_embedding[item] = not np.isfinite(mean).all() or not np.allclose(
            stored, mean, rtol=near, atol=near * scale
        )

    def _embedding(self, item: int) -> npt.NDArray[np.float32]:
        if item % _EMBEDDINGS == 0:
            self._embeddings = self._file.dataset("items/embedding")[item : item + _EMBEDDINGS]
        row: npt.NDArray[np.float32] = self._embeddings[item % _EMBEDDINGS]
        return row
