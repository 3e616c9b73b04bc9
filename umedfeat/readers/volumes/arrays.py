"""Volumes that libraries read as a whole: NRRD and MetaImage (SimpleITK, an extra) and MINC (nibabel).

They are held in memory as they are stored. 4-D files are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats32
from umedfeat.contract import Collected, Found, Json, Reader, Skipped, Source
from umedfeat.errors import InputError, TooLarge, UnreadableInput, UnsupportedInput
from umedfeat.naming import Pseudonyms, stem_of
from umedfeat.policy import Policy
from umedfeat.readers.stacks.geometry import acquired_axis
from umedfeat.readers.stacks.intensity import StoredVoi
from umedfeat.readers.stacks.stack import StackFacts
from umedfeat.readers.stacks.volume import VolumeReader
from umedfeat.readers.volumes.itk import ItkVolume, data_file, itk_kind, read_itk
from umedfeat.readers.volumes.labels import flat_labels

__all__ = ["ArrayStack", "collect", "open_source", "sniff"]

_HEAD_BYTES = 4096
_NETCDF, _HDF5 = (b"CDF\x01", b"CDF\x02"), b"\x89HDF\r\n\x1a\n"
_MINC_AXES = (b"xspace", b"yspace", b"zspace")
_VOXEL_SUFFIXES = (".raw", ".zraw", ".gz", ".bin", ".img")
_SEGMENTS = b"Segment0_"
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AGAIN = "copy it again from its origin"
_EMBED = "give it a modality in a manifest to embed it"


def sniff(path: Path, head: bytes) -> bool:
    """NRRD, MetaImage, MINC, or the voxel file beside a header?"""
    return bool(itk_kind(head)) or _is_minc(path, head) or _owner(path) is not None


def collect(found: Sequence[Found], policy: Policy, pseudonyms: Pseudonyms) -> Collected:
    """One source per volume; voxel files of headers and label maps are skipped."""
    sources: list[Source] = []
    skipped: list[Skipped] = []
    heads = {file.path: _head(file.path) for file in found}
    shapes = [_shape_line(heads[file.path]) for file in found]
    for file, shape in zip(found, shapes, strict=True):
        head = heads[file.path]
        if (owner := _owner(file.path)) is not None:
            skipped.append(Skipped(file.name, f"the voxels of {owner.name}"))
        elif _SEGMENTS in head and not file.row.get("modality"):
            skipped.append(Skipped(file.name, f"a label map by its header; {_EMBED}"))
        elif shape and shapes.count(shape) > 1 and not file.row.get("modality") and _looks_flat(file, policy):
            skipped.append(Skipped(file.name, f"looks like a label map beside its image; {_EMBED}"))
        else:
            voxels = _voxels_of(file, head)
            files = (file.path,) if voxels is None else (file.path, voxels)
            sources.append(Source(stem_of(file.name), "array", file.path, files, file.name))
    return Collected(sources, skipped, [])


def open_source(source: Source, policy: Policy, prepared: Mapping[str, Any] | None = None) -> Reader:
    """Open one volume.

    Raises:
        InputError: damaged, too large, of a kind that is not read, or SimpleITK is not installed.
    """
    modality = (source.modality or policy.volume.modality).upper() or "unknown"
    kind = itk_kind(_head(source.path))
    limit = policy.limits.max_voxels
    volume = read_itk(source.path, source.name, limit) if kind else _read_minc(source.path, source.name, limit)
    return VolumeReader(ArrayStack(volume, source.name, kind or "minc", modality), policy, prepared, source.roi)


class ArrayStack:
    """SliceStack over a volume in memory.

    Args:
        volume: its voxels and their place.
        name: for messages.
        kind: "nrrd", "metaimage" or "minc".
        modality: declared, or "unknown".
    """

    def __init__(self, volume: ItkVolume, name: str, kind: str, modality: str) -> None:
        values = volume.values
        colour = values.ndim == 4
        if colour and values.dtype != np.uint8:
            message = f"{name}: {values.shape[3]} numbers of {values.dtype} per voxel, no picture"
            raise UnsupportedInput(message, remedy="leave it out")
        if values.dtype.kind not in "iuf":
            raise UnsupportedInput(f"{name}: voxel type {values.dtype} is not read", remedy="convert it to float32")
        self._values = values
        slices, rows, cols = values.shape[:3]
        axis, why = _acquired(volume.affine, (cols, rows, slices))
        detail: dict[str, Json] = {"slice_axis": why, "voxel_type": str(values.dtype)}
        self.facts = StackFacts(
            name=name,
            format=kind,
            modality=modality,
            cols=cols,
            rows=rows,
            slices=slices,
            affine=volume.affine,
            acquired_axis=axis,
            colour=colour,
            calibrated=modality != "CT" or values.dtype != np.uint8,  # no room for air, hence no Hounsfield units
            units_told=False,
            floating=values.dtype.kind == "f",
            detail=detail,
        )

    def slice(self, k: int) -> tuple[Floats32, None]:
        """Stored plane k; colours (rows, columns, 3) in [0, 1], alpha composited on black."""
        plane = self._values[k]
        if not self.facts.colour:
            with np.errstate(over="ignore"):
                return plane.astype(np.float32), None
        colours: Floats32 = plane[..., :3].astype(np.float32) / np.float32(255)
        if plane.shape[2] == 4:
            colours *= plane[..., 3:].astype(np.float32) / np.float32(255)
        return colours, None

    def stored_voi(self, k: int) -> StoredVoi | None:
        """None is stored."""
        return None

    def close(self) -> None:
        """Let go of the voxels."""
        self._values = self._values[:0]


def _acquired(affine: npt.NDArray[np.float64], shape: tuple[int, int, int]) -> tuple[int, str]:
    try:
        return acquired_axis(affine, shape)
    except ValueError:  # a singular affine: VolumeReader refuses it with the file's name
        return 2, "unknown"


def _is_minc(path: Path, head: bytes) -> bool:
    if head.startswith(_NETCDF):
        return all(axis in head for axis in _MINC_AXES)
    if not head.startswith(_HDF5):
        return False
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "minc-2.0" in file
    except OSError:
        return False


def _read_minc(path: Path, name: str, max_voxels: int) -> ItkVolume:
    """nibabel's axes are those of the file, slowest first, and so are ours."""
    try:
        image: Any = nibabel.load(path)
        shape = tuple(int(n) for n in image.shape)
        _refuse_shape(shape, name, max_voxels)
        values = np.asanyarray(image.dataobj)
        affine = _RAS_TO_LPS @ image.affine[:, [2, 1, 0, 3]]
    except (InputError, MemoryError):
        raise
    except Exception as error:  # nibabel, netCDF and HDF5 raise whatever damaged bytes lead to
        raise UnreadableInput(f"{name}: the MINC file is damaged ({type(error).__name__})", remedy=_AGAIN) from error
    return ItkVolume(values, affine, {})


def _refuse_shape(shape: tuple[int, ...], name: str, max_voxels: int) -> None:
    if len(shape) != 3:
        raise UnsupportedInput(f"{name}: {len(shape)} dimensions", remedy="save each volume as a file of its own")
    if int(np.prod(shape, dtype=object)) > max_voxels:
        message = f"{name}: {'x'.join(map(str, shape))} voxels, more than {max_voxels}"
        raise TooLarge(message, remedy="raise --max-voxels if this is right")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError:
        return b""


def _shape_line(head: bytes) -> bytes:
    """What a header tells of its shape; b"" where it tells none."""
    if not itk_kind(head):
        return b""
    lines = [line.strip() for line in head.splitlines() if line.lower().startswith((b"sizes:", b"dimsize"))]
    return lines[0] if lines else b""


def _looks_flat(file: Found, policy: Policy) -> bool:
    try:
        volume = read_itk(file.path, file.name, policy.limits.max_voxels)
    except InputError:  # reported when the file is planned
        return False
    return volume.values.ndim == 3 and flat_labels(volume.values)


def _voxels_of(file: Found, head: bytes) -> Path | None:
    if not itk_kind(head):
        return None
    try:
        return data_file(file.path, head, file.name)
    except InputError:  # reported when the file is planned
        return None


def _owner(path: Path) -> Path | None:
    """The header beside a file that names it as its voxels, or None."""
    if path.suffix.lower() not in _VOXEL_SUFFIXES:
        return None
    stem = path.name.split(".")[0]
    for suffix in (".mhd", ".nhdr"):
        header = path.with_name(stem + suffix)
        try:
            if header.is_file() and data_file(header, _head(header), header.name) == path:
                return header
        except InputError:
            continue
    return None
