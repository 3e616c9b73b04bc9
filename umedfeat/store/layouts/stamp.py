"""STAMP: ``<slide>.h5`` with features in half precision and coordinates in micrometres."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from umedfeat._version import __version__
from umedfeat.store.guard import naming_damage
from umedfeat.store.layouts.base import NotExportable, new_h5, slide_facts
from umedfeat.store.read import FeatureFile

__all__ = ["Stamp"]


class Stamp:
    """``feats`` float16 (n, D), ``coords`` float32 (n, 2) in µm from the slide's corner, tile sizes as attributes."""

    def __init__(self, file: FeatureFile, folder: Path, nominal_magnification: bool) -> None:
        self._file = file
        self._folder = folder
        with naming_damage(file.path):
            side, mpp = int(file.policy["slide"]["tile_size"]), float(file.policy["slide"]["mpp"])
        self._attributes = {
            "unit": "um",
            "tile_size_um": side * mpp,
            "tile_size_px": side,
            "extractor": f"umedfeat-{__version__}-{file.encoder.get('name', '')}",
            "feat_type": "tile",
        }

    def add(self, number: int, name: str) -> None:
        slide_facts(self._file, number, name, False)
        features = self._file.features(number)
        if np.abs(features).max(initial=0) > np.finfo(np.float16).max:
            raise NotExportable("its features do not fit half precision")
        scale = np.array([self._file.items["mpp_x"][number], self._file.items["mpp_y"][number]])
        with new_h5(self._folder / f"{name}.h5") as target:
            target["feats"] = features.astype(np.float16)
            target["coords"] = (self._file.coords(number) * scale).astype(np.float32)
            for key, value in self._attributes.items():
                target.attrs[key] = value

    def close(self) -> None:
        """Nothing spans items."""
