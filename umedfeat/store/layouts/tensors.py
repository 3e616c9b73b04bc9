"""Plain tensors: ``<item>.pt``."""

from __future__ import annotations

from pathlib import Path

from umedfeat.store.layouts.base import save_tensor
from umedfeat.store.read import FeatureFile

__all__ = ["Tensors"]


class Tensors:
    """One float32 tensor (n, D) per item."""

    def __init__(self, file: FeatureFile, folder: Path, nominal_magnification: bool) -> None:
        self._file = file
        self._folder = folder

    def add(self, number: int, name: str) -> None:
        save_tensor(self._file.features(number), self._folder / f"{name}.pt")

    def close(self) -> None:
        """Nothing spans items."""
