"""TRIDENT: ``features_<encoder>/<slide>.h5`` and ``patches/<slide>_patches.h5``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from umedfeat.store.layouts.base import new_h5, slide_facts
from umedfeat.store.read import FeatureFile

__all__ = ["Trident"]


class Trident:
    """``features`` (n, D) and ``coords`` (n, 2) with attributes that give scale and extent. Slides only."""

    def __init__(self, file: FeatureFile, folder: Path, nominal_magnification: bool) -> None:
        self._file = file
        self._nominal = nominal_magnification
        encoder = re.sub(r"[^\w.-]", "_", str(file.encoder.get("name", "")) or "umedfeat")
        self._features = folder / f"features_{encoder}"
        self._patches = folder / "patches"

    def add(self, number: int, name: str) -> None:
        attributes = slide_facts(self._file, number, name, self._nominal)
        coords = self._file.coords(number)
        with new_h5(self._features / f"{name}.h5") as target:
            target["features"] = self._file.features(number).astype(np.float32)
            _write_coords(target, coords, attributes)
        with new_h5(self._patches / f"{name}_patches.h5") as target:
            _write_coords(target, coords, attributes)

    def close(self) -> None:
        """Nothing spans items."""


def _write_coords(target: h5py.File, coords: npt.NDArray[np.int64], attributes: dict[str, Any]) -> None:
    target["coords"] = coords
    for name, value in attributes.items():
        target["coords"].attrs[name] = value
