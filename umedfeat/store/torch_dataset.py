"""Features as a torch Dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from umedfeat.errors import SetupError

if TYPE_CHECKING:
    from umedfeat.store.read import FeatureFile

__all__ = ["FeatureDataset"]


class FeatureDataset(Dataset[Any]):
    """Vectors (with labels) of a feature file; every process opens the file for itself on first use.

    An element is a float32 tensor: (D,) for "item" and "tile", (n, D) for "bag"; with labels, a pair of the tensor and
    the number of its class.

    Attributes:
        items: (N,) number of the item that each element belongs to; ``file.ids[dataset.items[k]]`` is its id.
        classes: names of the classes, in the order of their numbers; () without labels.

    Args:
        file: the feature file; may be closed afterwards.
        unit: "item", "bag" or "tile".
        labels: one value per item, "" for items to leave out, or None.

    Raises:
        SetupError: an unknown unit.
    """

    def __init__(self, file: FeatureFile, unit: str, labels: npt.NDArray[Any] | None) -> None:
        if unit not in {"item", "bag", "tile"}:
            raise SetupError(f"unit {unit!r} is unknown", remedy="item, bag or tile")
        self._path = file.path.absolute()
        self._open = type(file)  # asked of the file itself: its class makes this dataset
        self._unit = unit
        texts = np.array([] if labels is None else [str(label) for label in labels], dtype=np.str_)
        self.classes: tuple[str, ...] = tuple(sorted(set(texts.tolist()) - {""}))
        self._classes_of = None if labels is None else np.searchsorted(np.array(self.classes, dtype=np.str_), texts)
        numbers = np.arange(len(file))
        owners = np.repeat(numbers, file.items["count"]) if unit == "tile" else numbers
        self._places = np.arange(len(owners)) if labels is None else np.flatnonzero(texts[owners] != "")
        self.items = owners[self._places]
        self._file: FeatureFile | None = None
        self._process = 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}  # an open file does not cross processes

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Any:
        file, place = self._opened(), int(self._places[index])
        if self._unit == "bag":
            values = file.features(place)
        else:
            values = file.dataset("features" if self._unit == "tile" else "items/embedding")[place]
        return self._element(values, index)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """A whole batch in one read; a DataLoader asks for it."""
        if self._unit == "bag":
            return [self[index] for index in indices]
        dataset = self._opened().dataset("features" if self._unit == "tile" else "items/embedding")
        rows, back = np.unique(self._places[np.asarray(indices)], return_inverse=True)
        values = np.asarray(dataset[rows])[back]
        return [self._element(value, index) for value, index in zip(values, indices, strict=True)]

    def _element(self, values: npt.NDArray[Any], index: int) -> Any:
        vector = torch.from_numpy(np.array(values, dtype=np.float32))
        return vector if self._classes_of is None else (vector, int(self._classes_of[self.items[index]]))

    def _opened(self) -> FeatureFile:
        if self._file is None or self._process != os.getpid():  # a handle that was forked is not ours
            self._file, self._process = self._open(self._path), os.getpid()
        return self._file
