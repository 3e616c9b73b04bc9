"""Features as a torch Dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from umedfeat.errors import SetupError

__all__ = ["FeatureDataset"]


class FeatureDataset(Dataset[Any]):
    """Vectors (with labels) of a feature file; opens it on first use in each process.

    An element is a float32 tensor: (D,) for "item" and "tile", (n, D) for "bag"; with labels, a pair of the tensor and
    the number of its class.

    Args:
        path: the feature file.
        unit: "item", "bag" or "tile".
        labels: one value per item, or None.

    Raises:
        SetupError: an unknown unit.
    """

    def __init__(self, path: Path, unit: str, labels: npt.NDArray[Any] | None) -> None:
        if unit not in {"item", "bag", "tile"}:
            raise SetupError(f"unit {unit!r} is unknown", remedy="item, bag or tile")
        self._path = path
        self._unit = unit
        self.classes: tuple[str, ...] = () if labels is None else tuple(sorted({str(label) for label in labels}))
        self._labels = None if labels is None else np.searchsorted(np.array(self.classes), labels.astype(str))
        self._file: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}  # an open file does not cross processes

    def __len__(self) -> int:
        return int(self._opened().n_rows if self._unit == "tile" else len(self._opened()))

    def __getitem__(self, index: int) -> Any:
        file = self._opened()
        if self._unit == "tile":
            values, item = file._file["features"][index], int(file._file["tiles/item"][index])
        else:
            item = index
            values = file._file["items/embedding"][index] if self._unit == "item" else file.features(index)
        vector = torch.from_numpy(np.asarray(values, dtype=np.float32))
        return vector if self._labels is None else (vector, int(self._labels[item]))

    def _opened(self) -> Any:
        if self._file is None:
            from umedfeat.store.read import FeatureFile

            self._file = FeatureFile(self._path)
        return self._file
