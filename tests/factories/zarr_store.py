"""OME-Zarr stores of version 0.4 and 0.5, and as bioformats2raw lays them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from slide_factory import halved

Planes = npt.NDArray[np.uint8]

_KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def write_picture(
    place: Path,
    planes: Planes,
    mpp: float,
    *,
    version: str = "0.4",
    axes: str = "cyx",
    levels: int = 2,
    unit: str | None = "micrometer",
    chunk: int = 128,
    name: str = "",
    channels: tuple[str, ...] = (),
) -> Path:
    """A group of several levels.

    Args:
        planes: in the order of ``axes``, y and x last.
        channels: labels in the omero part.
    """
    import zarr

    group = zarr.open_group(str(place), mode="a", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(levels):
        chunks = (*(1,) * (planes.ndim - 2), chunk, chunk)
        group.create_array(str(level), data=planes, chunks=chunks, chunk_key_encoding=_separator(version))
        scale = [mpp * 2**level if axis in "yx" else 1.0 for axis in axes]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
        planes = _halved(planes)
    told = {"version": version, "name": name, "axes": [_axis(axis, unit) for axis in axes], "datasets": datasets}
    attributes: dict[str, Any] = {"multiscales": [told]}
    if channels:
        attributes["omero"] = {"channels": [{"label": label, "color": "00FF00"} for label in channels]}
    group.attrs.update(attributes if version == "0.4" else {"ome": {"version": version, **attributes}})
    return place


def write_series(place: Path, pictures: dict[str, Planes], mpp: float) -> Path:
    """A store as bioformats2raw makes it: groups 0, 1 …, their names in OME/METADATA.ome.xml."""
    import zarr

    zarr.open_group(str(place), mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    for number, planes in enumerate(pictures.values()):
        write_picture(place / str(number), planes, mpp)
    (place / "OME").mkdir()
    images = "".join(f'<Image Name="{name}"><Pixels SizeX="1" SizeY="1"/></Image>' for name in pictures)
    xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{images}</OME>'
    (place / "OME" / "METADATA.ome.xml").write_text(xml)
    return place


def _axis(axis: str, unit: str | None) -> dict[str, str]:
    told = {"name": axis, "type": _KINDS[axis]}
    return told | ({"unit": unit} if unit and axis in "zyx" else {})


def _separator(version: str) -> dict[str, str]:
    return {"name": "v2", "separator": "/"} if version == "0.4" else {"name": "default", "separator": "/"}


def _halved(planes: Planes) -> Planes:
    flat = planes.reshape(-1, *planes.shape[-2:])
    small = np.stack([halved(np.repeat(plane[..., None], 3, axis=2))[..., 0] for plane in flat])
    return small.reshape(*planes.shape[:-2], *small.shape[-2:])
