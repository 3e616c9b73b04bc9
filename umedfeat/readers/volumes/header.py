"""Headers of NIfTI-1/2, Analyze and MGH files: what the voxels mean and where they lie, without reading them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from umedfeat.contract import Json
from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.readers.faults import BYTES_FAULTS, fault_line

__all__ = [
    "LABEL_INTENTS",
    "VolumeHeader",
    "companion",
    "head_of",
    "header_kind",
    "open_bytes",
    "read_header",
]

GZIP = b"\x1f\x8b"

#: NIFTI_INTENT_LABEL and NIFTI_INTENT_NEURONAME: every voxel is an index into a list of names.
LABEL_INTENTS = frozenset({1002, 1003})

#: Intents whose voxels are no picture: matrices, vectors, points.
_NO_PICTURE = {
    1004: "matrices", 1005: "symmetric matrices (tensors)", 1006: "a displacement field", 1007: "a vector field",
    1008: "points", 1009: "triangles", 1010: "quaternions",
}  # fmt: skip

_HEADER_BYTES = 544
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown (taken as mm), metre, millimetre, micrometre
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_CLASSES: dict[str, Any] = {
    "nifti": nibabel.Nifti1Header,
    "nifti2": nibabel.Nifti2Header,
    "analyze": nibabel.AnalyzeHeader,
    "mgh": nibabel.freesurfer.mghformat.MGHHeader,
}


@dataclass(frozen=True, eq=False)
class VolumeHeader:
    """One volume file.

    Attributes:
        kind: "nifti", "nifti2", "analyze" or "mgh".
        voxels: file that holds the voxels (the header itself, or the .img of a pair).
        dtype: of a stored voxel, with byte order; structured for RGB(A).
        shape: (columns, rows, slices); ``volumes``: product of the further dimensions.
        offset: byte of the first voxel.
        slope, inter: stored → physical values.
        affine: (4, 4) voxel indices to LPS millimetres.
        slice_dim: storage axis that the header calls the slice direction, or None.
        window: (low, high) display range of the header (cal_min, cal_max), or None.
        intent: NIfTI intent code, 0 without.
        detail: facts to store.
    """

    kind: str
    voxels: Path
    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    volumes: int
    offset: int
    slope: float
    inter: float
    affine: npt.NDArray[np.float64]
    slice_dim: int | None = None
    window: tuple[float, float] | None = None
    intent: int = 0
    detail: Mapping[str, Json] = field(default_factory=dict)


def header_kind(head: bytes) -> str | None:
    """Key of the header classes that the first bytes (decompressed) belong to, or None."""
    if head[344:348] in (b"n+1\0", b"ni1\0"):
        return "nifti"
    if head[4:8] in (b"n+2\0", b"ni2\0") and head[8:12] == b"\r\n\x1a\n":
        return "nifti2"
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    if 348 in sizes and len(head) >= 348:
        extents = {int.from_bytes(head[32:36], order) for order in ("little", "big")}
        return "analyze" if 16384 in extents or len(head) == 348 else None
    return "mgh" if _looks_like_mgh(head) else None


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed where the content is gzip, whatever the suffix says."""
    stream = path.open("rb")
    if stream.read(2) == GZIP:
        stream.close()
        return gzip.open(path, "rb")  # type: ignore[return-value]
    stream.seek(0)
    return stream


def companion(path: Path, suffixes: tuple[str, ...]) -> Path | None:
    """The sibling with the same stem (``.gz`` aside) and one of the suffixes, in either case."""
    stem = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    for suffix in suffixes:
        for spelled in (suffix, suffix.upper()):
            sibling = stem.with_suffix(spelled)
            if sibling != path and sibling.is_file():
                return sibling
            zipped = sibling.with_name(sibling.name + ".gz")
            if zipped != path and zipped.is_file():
                return zipped
    return None


def read_header(path: Path, name: str) -> VolumeHeader:
    """Read and check a header.

    Raises:
        UnreadableInput: damaged, inconsistent, or the voxel file of a pair is missing.
        UnsupportedInput: sound, but voxels of a type that is not read.
    """
    try:
        with open_bytes(path) as stream:
            head = stream.read(_HEADER_BYTES)
    except BYTES_FAULTS as error:
        raise UnreadableInput(
            f"{name}: the header cannot be read: {fault_line(error)}", remedy="copy it again from its origin"
        ) from error
    kind = header_kind(head)
    if kind is None:
        raise UnreadableInput(f"{name}: not a NIfTI, Analyze or MGH header", remedy="copy it again from its origin")
    try:
        header = _parsed(kind, head)
        return _described(kind, header, _voxel_file(path, name, kind, head), name)
    except (
        HeaderDataError,
        ValueError,
        OverflowError,
        np.linalg.LinAlgError,
        nibabel.wrapstruct.WrapStructError,
    ) as error:
        raise UnreadableInput(
            f"{name}: damaged {kind} header: {fault_line(error)}", remedy="copy it again from its origin"
        ) from error


def _parsed(kind: str, head: bytes) -> Any:
    if kind == "mgh":
        return _CLASSES[kind](head[:284], check=False)
    size = 540 if kind == "nifti2" else 348
    return _CLASSES[kind](head[:size], check=False)


def _looks_like_mgh(head: bytes) -> bool:
    if len(head) < 284 or head[:4] != b"\0\0\0\x01":
        return False
    fields = np.frombuffer(head[4:28], ">i4")  # three dimensions, frames, type, degrees of freedom
    good_ras = int.from_bytes(head[28:30], "big")
    return bool(
        (fields[:4] > 0).all() and (fields[:3] < 1 << 16).all() and fields[4] in (0, 1, 3, 4) and good_ras in (0, 1)
    )


def _voxel_file(path: Path, name: str, kind: str, head: bytes) -> Path:
    pair = kind == "analyze" or head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0"
    if not pair:
        return path
    image = companion(path, (".img",))
    if image is None:
        raise UnreadableInput(
            f"{name}: its voxel file (.img) is missing", remedy="put the .img file beside the .hdr file"
        )
    return image


def _described(kind: str, header: Any, voxels: Path, name: str) -> VolumeHeader:
    dims = tuple(int(d) for d in header.get_data_shape())
    shape, volumes = _shape(dims, kind, name)
    affine, detail = _affine(kind, header)
    slope, inter = _scaling(kind, header)
    nifti = kind in ("nifti", "nifti2")
    if nifti and int(header["intent_code"]) in _NO_PICTURE:
        what = _NO_PICTURE[int(header["intent_code"])]
        raise UnsupportedInput(f"{name}: {what} by its intent code, no picture", remedy="leave it out")
    return VolumeHeader(
        kind=kind,
        voxels=voxels,
        dtype=_dtype(header, name),
        shape=shape,
        volumes=volumes,
        offset=_offset(kind, header),
        slope=slope,
        inter=inter,
        affine=affine,
        slice_dim=_slice_dim(header) if nifti else None,
        window=_window(header) if nifti else None,
        intent=int(header["intent_code"]) if nifti else 0,
        detail=detail,
    )


def _shape(dims: tuple[int, ...], kind: str, name: str) -> tuple[tuple[int, int, int], int]:
    if not 2 <= len(dims) <= 7 or min(dims) < 1:
        raise UnreadableInput(
            f"{name}: damaged {kind} header: dimensions {dims}", remedy="copy it again from its origin"
        )
    three = (*dims, 1)[:3]
    volumes = 1
    for size in dims[3:]:
        volumes *= size
    return (three[0], three[1], three[2]), volumes


def _dtype(header: Any, name: str) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise UnsupportedInput(
            f"{name}: voxel type is not read: {fault_line(error)}", remedy="convert it to int16 or float32"
        ) from error
    if dtype.kind == "c":
        raise UnsupportedInput(f"{name}: complex voxels ({dtype.name})", remedy="export the magnitude image")
    if dtype.kind not in "iufV" or dtype.itemsize > 8:
        raise UnsupportedInput(f"{name}: voxel type {dtype.name} is not read", remedy="convert it to int16 or float32")
    if dtype.kind == "V" and (not dtype.names or set(dtype.names) not in ({"R", "G", "B"}, {"R", "G", "B", "A"})):
        raise UnsupportedInput(f"{name}: voxel type {dtype} is not read", remedy="convert it to int16 or float32")
    return dtype


def _offset(kind: str, header: Any) -> int:
    if kind == "mgh":
        return 284
    offset = int(header["vox_offset"])
    magic = bytes(header["magic"])[:3] if kind != "analyze" else b""
    if magic in (b"n+1", b"n+2"):
        least = 352 if magic == b"n+1" else 544
        offset = offset or least  # some writers leave the default unsaid
        if offset < (348 if magic == b"n+1" else 540):
            raise ValueError(f"voxels would start inside the header (byte {offset})")
    if offset < 0:
        raise ValueError(f"voxels would start at byte {offset}")
    return offset


def _scaling(kind: str, header: Any) -> tuple[float, float]:
    if kind not in ("nifti", "nifti2"):
        return 1.0, 0.0
    slope, inter = header.get_slope_inter()  # 0 and non-finite slopes mean "no scaling"
    return (1.0, 0.0) if slope is None else (float(slope), float(inter or 0.0))


def _affine(kind: str, header: Any) -> tuple[npt.NDArray[np.float64], dict[str, Json]]:
    if kind == "mgh":
        return _RAS_TO_LPS @ header.get_affine(), {"orientation_source": "mgh"}
    if kind == "analyze":
        return _RAS_TO_LPS @ header.get_base_affine(), {
            "orientation_source": "none: axes taken as left, anterior, superior"
        }
    code = int(header["xyzt_units"]) & 7
    to_mm = np.diag([_MM_PER_UNIT.get(code, 1.0)] * 3 + [1.0])
    sform, qform = _sform(header), _qform(header)
    detail: dict[str, Json] = {"orientation_source": _affine_source(sform, qform)}
    if sform is not None and qform is not None and (gap := float(np.abs(sform - qform).max())) > 1e-2:
        detail["sform_qform_difference"] = round(gap, 4)
    chosen = sform if sform is not None else qform
    affine = header.get_base_affine() if chosen is None else chosen
    return _RAS_TO_LPS @ to_mm @ affine, detail


def _affine_source(sform: npt.NDArray[np.float64] | None, qform: npt.NDArray[np.float64] | None) -> str:
    if sform is not None:
        return "sform"
    return "qform" if qform is not None else "none: axes taken as left, anterior, superior"


def _sform(header: Any) -> npt.NDArray[np.float64] | None:
    affine = np.asarray(header.get_sform(), np.float64)
    usable = int(header["sform_code"]) > 0 and np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12
    return affine if usable else None


def _qform(header: Any) -> npt.NDArray[np.float64] | None:
    if int(header["qform_code"]) <= 0:
        return None
    try:
        affine = np.asarray(header.get_qform(), np.float64)
    except (HeaderDataError, ValueError):  # a quaternion that is none
        return None
    usable = np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12
    return affine if usable else None


def _slice_dim(header: Any) -> int | None:
    axis = (int(header["dim_info"]) >> 4) & 3
    return axis - 1 if axis else None


def _window(header: Any) -> tuple[float, float] | None:
    low, high = float(header["cal_min"]), float(header["cal_max"])
    return (low, high) if np.isfinite([low, high]).all() and low < high else None


def head_of(path: Path, head: bytes) -> bytes:
    """The first bytes of a file as they read decompressed; ``head`` as stored. Empty where the gzip is damaged."""
    if not head.startswith(GZIP):
        return head
    try:
        with gzip.open(io.BytesIO(head), "rb") as stream:
            return stream.read1(_HEADER_BYTES)
    except BYTES_FAULTS:
        return b""
