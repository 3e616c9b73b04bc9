"""NRRD and MetaImage by SimpleITK (Apache-2.0), an extra: ``pip install 'umedfeat[itk]'``."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.errors import TooLarge, UnreadableInput, UnsupportedInput
from umedfeat.policy import Limits
from umedfeat.readers.faults import fault_line

__all__ = ["ItkVolume", "data_file", "is_itk", "itk_kind", "read_itk"]

_AGAIN = "copy it again from its origin"
_COMPRESSION = 1100  # deflate cannot expand further than 1032 : 1
_META_KEYS = (b"ObjectType", b"NDims", b"Comment", b"ID")
#: Where NRRD and MetaImage headers name the file of the voxels.
_ENCODING = re.compile(rb"(?mi)^encoding:[ \t]*(\w+)")
_UNREAD = (b"bzip2", b"bz2")
_DATA_FILE = re.compile(rb"^(?:data ?file|ElementDataFile)\s*[:=]\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)
_WITHIN = {"LOCAL", "LIST"}


class ItkVolume(NamedTuple):
    """A volume in memory.

    Attributes:
        values: (slices, rows, columns), or (slices, rows, columns, channels) for colours.
        affine: (4, 4), (column, row, slice, 1) to LPS millimetres.
        tags: what the header says besides.
    """

    values: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    tags: dict[str, str]


def itk_kind(head: bytes) -> str:
    """ "nrrd", "metaimage" or "" of a file's first bytes."""
    if head.startswith(b"NRRD000"):
        return "nrrd"
    return "metaimage" if head.lstrip().startswith(_META_KEYS) and b"DimSize" in head else ""


def is_itk(head: bytes) -> bool:
    """An NRRD or MetaImage header?"""
    return bool(itk_kind(head))


def data_file(path: Path, head: bytes, name: str) -> Path | None:
    """The file beside a header that holds its voxels; None where they follow the header.

    Raises:
        UnsupportedInput: the voxels are spread over several files, or lie in another folder.
        UnreadableInput: the file is not there.
    """
    found = _DATA_FILE.search(head)
    told = found[1].decode("utf-8", "replace") if found else "LOCAL"
    if told == "LOCAL":
        return None
    if told.split()[0] in _WITHIN or "%" in told or "/" in told or "\\" in told:
        raise UnsupportedInput(f"{name}: its voxels lie in several files, or elsewhere", remedy="save it as one file")
    voxels = path.with_name(told)
    if not voxels.is_file():
        raise UnreadableInput(f"{name}: its voxel file {told} is missing", remedy="put it beside the header")
    return voxels


def read_itk(path: Path, name: str, max_voxels: int = Limits.max_voxels) -> ItkVolume:
    """Read a volume.

    Raises:
        UnsupportedInput: SimpleITK is not installed; vectors, complex numbers, or more than three dimensions.
        TooLarge: more voxels than ``max_voxels``.
        UnreadableInput: damaged, or its header claims more than the file can hold.
    """
    try:
        sitk: Any = import_module("SimpleITK")
    except ImportError as error:
        raise UnsupportedInput(f"{name}: no reader for it", remedy="pip install 'umedfeat[itk]'") from error
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    voxels = data_file(path, head, name)
    _refuse_unread_encoding(head, name)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _refuse_claims(reader, path.stat().st_size + (voxels.stat().st_size if voxels else 0), name, max_voxels)
        image = reader.Execute()
    except RuntimeError as error:  # all that SimpleITK raises
        raise UnreadableInput(f"{name}: damaged ({fault_line(_last_line(error))})", remedy=_AGAIN) from error
    values = sitk.GetArrayFromImage(image)
    tags = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    return ItkVolume(values if image.GetDimension() == 3 else values[None], _affine(image), tags)


def _refuse_unread_encoding(head: bytes, name: str) -> None:
    """Encodings of NRRD that ITK does not decode; it would call the file damaged."""
    told = _ENCODING.search(head.partition(b"\n\n")[0])
    if told and told[1].lower() in _UNREAD:
        message = f"{name}: NRRD in {told[1].decode()} encoding is not read here"
        raise UnsupportedInput(message, remedy="save it with gzip or raw encoding")


def _refuse_claims(reader: Any, stored: int, name: str, max_voxels: int) -> None:
    size, channels = reader.GetSize(), reader.GetNumberOfComponents()
    voxels = int(np.prod([int(n) for n in size], dtype=object))
    if not 2 <= len(size) <= 3:
        raise UnsupportedInput(f"{name}: {len(size)} dimensions", remedy="save each volume as a file of its own")
    if channels not in (1, 3, 4):
        raise UnsupportedInput(f"{name}: {channels} numbers per voxel, no picture", remedy="leave it out")
    if voxels > max_voxels:
        raise TooLarge(f"{name}: {voxels} voxels, more than {max_voxels}", remedy="raise --max-voxels if this is right")
    if voxels > stored * _COMPRESSION:
        raise UnreadableInput(
            f"{name}: its header claims {voxels:,} voxels, the file has {stored:,} bytes", remedy=_AGAIN
        )


def _affine(image: Any) -> npt.NDArray[np.float64]:
    """ITK's physical space is LPS; a flat image lies in the axial plane."""
    dimension = image.GetDimension()
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)
    affine[:dimension, :dimension] = direction @ np.diag(image.GetSpacing())
    affine[:dimension, 3] = image.GetOrigin()
    return affine


def _last_line(error: RuntimeError) -> RuntimeError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return RuntimeError(lines[-1].partition("): ")[2] or type(error).__name__ if lines else type(error).__name__)
