"""NIfTI-1/2 (single files and pairs, gzip by content), Analyze, MGH/MGZ and Philips PAR/REC volumes.

A label map (a segmentation lying beside its image) is skipped, never embedded as an image: see ``nifti_labels``.
A 4-D file needs ``policy.volume.volume_index``: "N", "mean" or "all" (every volume becomes an item of its own).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats32
from umedfeat.contract import Collected, Found, Json, Reader, Skipped, Source
from umedfeat.errors import InputError, TooLarge
from umedfeat.naming import Pseudonyms, stem_of
from umedfeat.policy import Limits, Policy
from umedfeat.readers.stacks.geometry import acquired_axis
from umedfeat.readers.stacks.intensity import StoredVoi, linear_voi
from umedfeat.readers.stacks.volume import StackFacts, VolumeReader, volumes_of
from umedfeat.readers.volumes import parrec
from umedfeat.readers.volumes.header import VolumeHeader, companion, head_of, header_kind, read_header
from umedfeat.readers.volumes.labels import label_maps
from umedfeat.readers.volumes.voxels import Voxels

__all__ = ["NiftiStack", "collect", "open_source", "sniff"]


_CIFTI_INTENTS = range(3000, 3100)
_HEAD_BYTES = 4096


def sniff(path: Path, head: bytes) -> bool:
    """Is this a volume file, or the voxel file of a pair?"""
    return _is_header(path, head) or _owner(path) is not None


def collect(found: Sequence[Found], policy: Policy, pseudonyms: Pseudonyms) -> Collected:
    """One source per file (per volume of a 4-D file with ``volume_index="all"``); label maps and CIFTI are skipped."""
    sources: list[Source] = []
    skipped: list[Skipped] = []
    headers: list[tuple[Found, VolumeHeader]] = []
    for file in found:
        if (owner := _owner(file.path)) is not None:
            skipped.append(Skipped(file.name, f"the voxels of {owner.name}"))
            continue
        header = _header_if_sound(file)
        if header is not None and header.intent in _CIFTI_INTENTS:
            skipped.append(Skipped(file.name, "a CIFTI matrix, not an image"))
            continue
        if header is not None:
            headers.append((file, header))
        sources += _sources(file, policy)
    labels = label_maps(headers)
    skipped += [Skipped(file.name, labels[file.path]) for file, _ in headers if file.path in labels]
    return Collected([source for source in sources if source.path not in labels], skipped, [])


def open_source(source: Source, policy: Policy, prepared: Mapping[str, Any] | None = None) -> Reader:
    """Open one volume.

    Raises:
        InputError: damaged, of a kind that is not read, or 4-D without ``volume_index``.
    """
    modality = (source.modality or policy.volume.modality).upper() or "unknown"
    rule = str(json.loads(source.selector)["volume"]) if source.selector else policy.volume.volume_index
    if _is_par(source.path):
        header = parrec.ParHeader(source.path, source.name)
        stack: Any = parrec.ParRecStack(header, source.name, modality, rule)
    else:
        stack = NiftiStack(read_header(source.path, source.name), source.name, modality, rule, policy.limits)
    if source.selector:
        stack.facts = replace(stack.facts, part=source.selector)
    return VolumeReader(stack, policy, prepared, source.roi)


class NiftiStack:
    """SliceStack over the planes of a volume file as they are stored, slowest axis last.

    Args:
        header: of the file.
        name: for messages.
        modality: declared, or "unknown".
        rule: which volume of a 4-D file: "N" or "mean".
        limits: refuses volumes with more voxels than ``max_voxels``.
    """

    def __init__(self, header: VolumeHeader, name: str, modality: str, rule: str, limits: Limits) -> None:
        self._header = header
        self._volumes = volumes_of(header.volumes, rule, name)
        _check_voxels(header, limits, name)
        self._voxels = Voxels(header, name, self._volumes.start, self._volumes.stop)
        axis, why = _acquired(header)
        detail: dict[str, Json] = {**header.detail, "slice_axis": why, "voxel_type": _type_name(header)}
        if header.volumes > 1:
            detail |= {"volumes": header.volumes, "volume": rule}
        self.facts = StackFacts(
            name=name,
            format=header.kind,
            modality=modality,
            cols=header.shape[0],
            rows=header.shape[1],
            slices=header.shape[2],
            affine=header.affine,
            acquired_axis=axis,
            colour=header.dtype.kind == "V",
            calibrated=modality != "CT" or header.dtype != np.uint8,  # no room for air, hence no Hounsfield units
            units_told=False,
            floating=header.dtype.kind == "f",
            detail=detail,
        )

    def slice(self, k: int) -> tuple[Floats32, None]:
        """Stored plane k in physical units; (rows, cols, 3) in [0, 1] for RGB, alpha composited on black."""
        if self.facts.colour:
            return np.mean([_colours(self._voxels.plane(k, v)) for v in self._volumes], axis=0, dtype=np.float32), None
        with np.errstate(over="ignore"):
            if len(self._volumes) == 1 and (self._header.slope, self._header.inter) == (1.0, 0.0):
                return self._voxels.plane(k, self._volumes[0]).astype(np.float32), None
            total = sum(self._physical(k, v) for v in self._volumes)
            return np.asarray(total / len(self._volumes), np.float32), None

    def stored_voi(self, k: int) -> StoredVoi | None:
        """The header's display range (cal_min, cal_max)."""
        return linear_voi(*self._header.window) if self._header.window else None

    def close(self) -> None:
        """Close the file and remove scratch space."""
        self._voxels.close()

    def _physical(self, k: int, volume: int) -> npt.NDArray[np.float64]:
        with np.errstate(over="ignore", invalid="ignore"):
            return self._voxels.plane(k, volume).astype(np.float64) * self._header.slope + self._header.inter


def _colours(plane: npt.NDArray[Any]) -> Floats32:
    colours: Floats32 = np.stack([plane[c] for c in "RGB"], axis=-1).astype(np.float32) / np.float32(255)
    if plane.dtype.names and "A" in plane.dtype.names:
        colours *= plane["A"][..., None].astype(np.float32) / np.float32(255)
    return colours


def _type_name(header: VolumeHeader) -> str:
    return "".join(header.dtype.names or ()).lower() or str(header.dtype.name)


def _acquired(header: VolumeHeader) -> tuple[int, str]:
    try:
        return acquired_axis(header.affine, header.shape, header.slice_dim)
    except ValueError:  # a singular affine: VolumeReader refuses it with the file's name
        return 2, "unknown"


def _check_voxels(header: VolumeHeader, limits: Limits, name: str) -> None:
    cols, rows, slices = header.shape
    if cols * rows * slices > limits.max_voxels:
        message = f"{name}: {cols}x{rows}x{slices} voxels, more than {limits.max_voxels}"
        raise TooLarge(message, remedy="raise --max-voxels if this is right, or crop it")


def _sources(file: Found, policy: Policy) -> list[Source]:
    files: tuple[Path, ...] = (file.path,)
    voxels = companion(file.path, (".img", ".rec"))
    if voxels is not None and _owner(voxels) == file.path:
        files = (file.path, voxels)
    whole = Source(stem_of(file.name), "nifti", file.path, files, file.name)
    count = _volume_count(file) if policy.volume.volume_index == "all" else 1
    if count == 1:
        return [whole]
    digits = len(str(count - 1))
    return [
        replace(whole, id=f"{whole.id}/volume-{v:0{digits}d}", selector=json.dumps({"volume": v})) for v in range(count)
    ]


def _volume_count(file: Found) -> int:
    try:
        if _is_par(file.path):
            return parrec.ParHeader(file.path, file.name).volumes
        return read_header(file.path, file.name).volumes
    except InputError:  # reported when the file is planned
        return 1


def _header_if_sound(file: Found) -> VolumeHeader | None:
    try:
        return None if _is_par(file.path) else read_header(file.path, file.name)
    except InputError:  # reported when the file is planned
        return None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError:
        return b""


def _is_par(path: Path) -> bool:
    return parrec.PAR_HEAD in _head(path)


def _is_header(path: Path, head: bytes) -> bool:
    return header_kind(head_of(path, head)) is not None or parrec.PAR_HEAD in head


def _owner(path: Path) -> Path | None:
    """The header whose voxels this file holds (.img of .hdr, .rec of .par), or None."""
    suffix = path.with_suffix("").suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    wanted = {".img": (".hdr",), ".rec": (".par",)}.get(suffix)
    owner = companion(path, wanted) if wanted else None
    return owner if owner is not None and _is_header(owner, _head(owner)) else None
