"""Kinds of arrays, named once."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["RGB", "Bools", "Floats", "Floats32", "Ints", "Mask", "Rows", "Texts"]

Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
Floats32: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.intp]
#: Which pixels of a picture.
Mask: TypeAlias = npt.NDArray[np.bool_]
#: A picture of 8 bits, (height, width, 3) where nothing else is said.
RGB: TypeAlias = npt.NDArray[np.uint8]
#: Features of either precision.
Rows: TypeAlias = npt.NDArray[np.floating[Any]]
Texts: TypeAlias = npt.NDArray[np.str_]
