"""Writes volume files of every kind, byte by byte where libraries would be too tidy."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

RAS = np.array([[-1.0, 0, 0, 40], [0, -1.0, 0, 30], [0, 0, 2.5, -20], [0, 0, 0, 1]])


def phantom(shape: tuple[int, int, int] = (24, 20, 8), seed: int = 0) -> np.ndarray:
    """(x, y, z) int16 in the range of Hounsfield units, without symmetry."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    body = 60 * (x**2 + (1.2 * y) ** 2 < 0.8) - 1000 * (x**2 + (1.2 * y) ** 2 >= 0.8)
    body = body + 300 * ((x - 0.3) ** 2 + (y + 0.2) ** 2 + (z - 0.1) ** 2 < 0.1) - 150 * (x > 0.1) * (body > 0)
    return (body + rng.normal(0, 8, shape)).astype(np.int16)


def write(
    path: Path,
    data: np.ndarray | None = None,
    affine: np.ndarray = RAS,
    *,
    endian: str = "<",
    kind: Any = nibabel.Nifti1Image,
    zipped: bool | None = None,
    slope: tuple[float, float] | None = None,
    **fields: Any,
) -> Path:
    """Write a volume; ``zipped`` overrules the suffix, ``fields`` are set in the header as they are."""
    data = phantom() if data is None else data
    header = kind.header_class(endianness=endian)
    image = kind(data, affine, header)
    image.header.set_data_dtype(data.dtype)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    raw = serialised(image, fields, scaled=slope is not None)
    path.write_bytes(gzip.compress(raw, 1) if (path.suffix == ".gz" if zipped is None else zipped) else raw)
    return path


def serialised(image: Any, fields: dict[str, Any], *, scaled: bool) -> bytes:
    """Header, four empty bytes and voxels. With ``scaled`` the slope is declared, the stored values stay."""
    header = image.header.copy()
    stored = np.asanyarray(image.dataobj)
    header.set_data_shape(stored.shape)
    if "sform_code" not in fields:
        header.set_sform(image.affine, 1)
    if "qform_code" not in fields:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header.set_qform(image.affine, 1, strip_shears=True)
    header["magic"] = b"n+2" if isinstance(header, nibabel.Nifti2Header) else b"n+1"
    header["vox_offset"] = 544 if isinstance(header, nibabel.Nifti2Header) else 352
    if not scaled:
        header["scl_slope"] = np.nan
        header["scl_inter"] = np.nan
    for name, value in fields.items():
        header[name] = value
    voxels = stored.astype(stored.dtype.newbyteorder(header.endianness))
    return header.binaryblock + b"\0\0\0\0" + voxels.tobytes(order="F")


def write_pair(folder: Path, data: np.ndarray | None = None, *, kind: Any = nibabel.Nifti1Pair) -> tuple[Path, Path]:
    """A .hdr and an .img file."""
    nibabel.save(kind(phantom() if data is None else data, RAS), folder / "pair.img")
    return folder / "pair.hdr", folder / "pair.img"


def reordered(data: np.ndarray, affine: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray]:
    """The same volume stored along other axes, e.g. "AIL"."""
    image = nibabel.Nifti1Image(data, affine)
    transform = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(tuple(codes))
    )
    moved = image.as_reoriented(transform)
    return np.asanyarray(moved.dataobj), moved.affine
