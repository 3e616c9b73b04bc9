"""``verify``: is a feature file whole? Every fault is one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umedfeat.errors import SetupError
from umedfeat.store.guard import naming_damage
from umedfeat.store.read import FeatureFile
from umedfeat.store.row_checks import RowChecks, TokenChecks

__all__ = ["Verified", "check", "verify"]

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
        return check(path, on_rows)
    except SetupError as error:
        return Verified((error.message,))


def check(path: Path, on_rows: Callable[[int], None] | None = None) -> Verified:
    """:func:`verify`, for who has to tell a damaged file from a failing disk.

    Raises:
        OutputError: the file is no feature file, or too damaged to be opened.
        DiskError: the disk reports an error while reading; whether the file is whole stays open.
    """
    with FeatureFile(path) as file, naming_damage(path):
        faults = tuple(_faults(file, on_rows))
        return Verified(faults, len(file), file.n_rows)


def _faults(file: FeatureFile, on_rows: Callable[[int], None] | None) -> Iterator[str]:
    yield from _settings(file)
    _read_texts(file)
    yield from _dropped(file)
    yield from _values(file, on_rows)


def _settings(file: FeatureFile) -> Iterator[str]:
    if file.header.fingerprint != file.fingerprint:
        yield "fingerprint: does not belong to the settings in the file"


def _read_texts(file: FeatureFile) -> None:
    """What no other check reads: a damaged text raises."""
    for table in (file.meta, file.failures, file.skipped):
        len(table)
    for number in range(len(file)):
        file.detail(number)


def _dropped(file: FeatureFile) -> Iterator[str]:
    found = np.bincount(file.dropped["item"], minlength=len(file))
    yield from _told(file, found != file.items["n_dropped"], "items/n_dropped: does not agree with /dropped")


def _told(file: FeatureFile, wrong: npt.NDArray[np.bool_], fault: str) -> Iterator[str]:
    numbers = np.flatnonzero(wrong)
    for number in numbers[:_TOLD]:
        yield f"{file.ids[number]}: {fault}"
    if len(numbers) > _TOLD:
        yield f"… and {len(numbers) - _TOLD} more items: {fault}"


def _values(file: FeatureFile, on_rows: Callable[[int], None] | None) -> Iterator[str]:
    """Faults of the rows, item by item, in one pass over the file."""
    check = RowChecks(file)
    tokens = None if file.grid is None else TokenChecks(file)
    with np.errstate(all="ignore"):  # damaged numbers overflow; they are told below
        for block in file.blocks():
            check.update(block)
            if tokens is not None:
                tokens.update(len(block))
            if on_rows is not None:
                on_rows(len(block))
        check.finish()
    yield from _told(file, check.not_finite, "features: NaN or infinity")
    yield from _told(file, check.bad_tissue, "tiles/tissue: not between 0 and 1")
    yield from _told(file, check.bad_owner, "tiles/item: rows belong to another item")
    yield from _told(file, check.bad_checksum & ~check.not_finite, "checksum: the rows are not those that were written")
    yield from _told(file, check.bad_embedding & ~check.bad_checksum, "items/embedding: not the mean of the rows")
    if tokens is not None:
        yield from _told(file, tokens.not_finite, "tokens: NaN or infinity")
        fault = "checksum: the tokens are not those that were written"
        yield from _told(file, tokens.bad_checksum & ~tokens.not_finite, fault)
