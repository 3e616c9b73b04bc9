"""CLAM: ``h5_files/<slide>.h5`` and ``pt_files/<slide>.pt``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from umedfeat.store.layouts.base import new_h5, save_tensor
from umedfeat.store.read import FeatureFile

__all__ = ["Clam"]


class Clam:
    """``features`` float32 (n, D) and ``coords`` int32 (n, 2) in HDF5, the features again as one tensor."""

    def __init__(self, file: FeatureFile, folder: Path, nominal_magnification: bool) -> None:
        self._file = file
        self._folder = folder

    def add(self, number: int, name: str) -> None:
        features = self._file.features(number).astype(np.float32)
        with new_h5(self._folder / "h5_files" / f"{name}.h5") as target:
            target["features"] = features
            target["coords"] = self._file.coords(number).astype(np.int32)
        save_tensor(features, self._folder / "pt_files" / f"{name}.pt")

    def close(self) -> None:
        """Nothing spans items."""
