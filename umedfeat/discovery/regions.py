"""Regions of interest in a manifest: the columns ``mask``, ``box``, ``point`` and ``roi``."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

from umedfeat.contract import Roi
from umedfeat.errors import SetupError

__all__ = ["REGION_COLUMNS", "names_region", "region_of"]

#: Columns that name a region of interest; ``roi``: which region of a mask.
REGION_COLUMNS = ("mask", "box", "point", "roi")
_PLACES = ("mask", "box", "point")
_FORMS = {"box": ("x,y,z,x,y,z", "x,y,x,y", (6, 4)), "point": ("x,y,z", "x,y", (3, 2))}


def names_region(row: Mapping[str, str]) -> bool:
    """Does a row name a region of interest?"""
    return any(row.get(column) for column in _PLACES)


def region_of(row: Mapping[str, str], home: str, name: str) -> Roi | None:
    """The region that a row names, or None.

    Args:
        home: folder that a relative path of a mask starts from.
        name: of the image, for messages.

    Raises:
        SetupError: several of the columns are filled in, or numbers that are none.
    """
    given = [column for column in _PLACES if row.get(column)]
    if not given:
        return None
    if len(given) > 1:
        raise SetupError(
            f"{name}: {' and '.join(given)} both name its region of interest", remedy="fill in one of them"
        )
    if given[0] == "mask":
        return Roi(Path(os.path.normpath(os.path.join(home, row["mask"]))), row.get("roi", ""))  # noqa: PTH118
    numbers = _numbers(row[given[0]], given[0], name)
    return Roi(box=numbers) if given[0] == "box" else Roi(point=numbers)


def _numbers(text: str, kind: str, name: str) -> tuple[float, ...]:
    volume, flat, counts = _FORMS[kind]
    try:
        numbers = tuple(float(part) for part in re.split(r"[\s,;]+", text.strip().strip("()[]")))
    except ValueError:
        numbers = ()
    if len(numbers) not in counts or not all(map(math.isfinite, numbers)):
        raise SetupError(
            f"{name}: its {kind} is not {volume} (flat images: {flat})", remedy="millimetres, LPS as in DICOM"
        )
    return numbers
