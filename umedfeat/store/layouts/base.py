"""What a layout is, and what several of them share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from umedfeat.store.file_writer import slide_attributes, written_whole
from umedfeat.store.guard import naming_damage
from umedfeat.store.new_hdf5 import new_hdf5
from umedfeat.store.read import FeatureFile

__all__ = ["Layout", "NotExportable", "new_h5", "nominal", "save_tensor", "slide_facts"]

_MAGNIFICATIONS = (1.25, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0)


class NotExportable(Exception):
    """An item has no place in a layout; the message says why."""


class Layout(Protocol):
    """Writes items one by one."""

    def add(self, number: int, name: str) -> None:
        """Write item ``number`` under the file name ``name``.

        Raises:
            NotExportable: the layout cannot hold it.
        """
        ...

    def close(self) -> None:
        """Finish what spans items."""
        ...


@contextmanager
def new_h5(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file that appears whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with written_whole(temporary, path), new_hdf5(temporary) as (file, _):
        yield file


def save_tensor(values: npt.NDArray[Any], path: Path) -> None:
    """One float32 tensor (n, D) as ``torch.load`` reads it."""
    import torch

    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with written_whole(temporary, path):
        torch.save(torch.from_numpy(np.array(values, dtype=np.float32)), temporary)


def slide_facts(file: FeatureFile, number: int, name: str, nominal_magnification: bool) -> dict[str, Any]:
    """The attributes of /coords that slide tools read.

    Raises:
        NotExportable: the item is not tiled, or has no scale.
        OutputError: the file's settings are not those of slides.
    """
    facts = {column: values[number] for column, values in file.items.items()}
    if not facts["tile_extent"] > 0:
        raise NotExportable("it is not tiled")
    if not facts["mpp_x"] > 0:
        raise NotExportable("it has no micrometres per pixel")
    with naming_damage(file.path):
        attributes = dict(slide_attributes(facts, file.policy["slide"])) | {"name": name}
        return nominal(attributes) if nominal_magnification else attributes


def nominal(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the nearest usual magnifications, and the extent that follows from them."""
    level0 = _nearest(attributes["level0_magnification"])
    target = _nearest(attributes["target_magnification"])
    extent = round(attributes["patch_size"] * level0 / target)
    return {
        **attributes,
        "level0_magnification": level0,
        "target_magnification": target,
        "patch_size_level0": extent,
    }


def _nearest(magnification: float) -> float:
    return min(_MAGNIFICATIONS, key=lambda usual: abs(np.log(usual / magnification)))
