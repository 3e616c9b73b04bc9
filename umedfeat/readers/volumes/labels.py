"""Which volume files are label maps: segmentations that lie beside their images and are no images themselves.

A file is a label map when its header says so (NIfTI intent LABEL or NEURONAME), or when all of this holds:

- another file of the inputs has the same grid (shape and affine) and is none of the following;
- its stored values are whole numbers, at most 256 different ones;
- at most 8 different ones, or 60 % of the neighbours in a row (background pairs left out) are equal: labels are flat,
  images noisy.

A file that a manifest row gives a modality is never taken for a label map.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Found
from umedfeat.errors import InputError
from umedfeat.readers.faults import BYTES_FAULTS
from umedfeat.readers.volumes.header import LABEL_INTENTS, VolumeHeader, open_bytes
from umedfeat.readers.volumes.voxels import Voxels, skip

__all__ = ["flat_labels", "label_maps"]

_FEW, _MANY = 8, 256
_FLAT = 0.6
_CHUNK_VOXELS = 1 << 20

_REMEDY = "give it a modality in a manifest to embed it"


def label_maps(files: Sequence[tuple[Found, VolumeHeader]]) -> dict[Path, str]:
    """The label maps among some volume files, with the reason."""
    labels: dict[Path, str] = {}
    groups: dict[tuple[object, ...], list[tuple[Found, VolumeHeader]]] = defaultdict(list)
    for file, header in files:
        if file.row.get("modality"):
            groups[_grid(header)].append((file, header))
        elif header.intent in LABEL_INTENTS:
            labels[file.path] = f"a label map by its header; {_REMEDY}"
        else:
            groups[_grid(header)].append((file, header))
    for group in groups.values():
        flat = [file for file, header in group if len(group) > 1 and _may_be(file, header) and _is_flat(header)]
        if len(flat) < len(group):
            labels |= {file.path: f"looks like a label map beside its image; {_REMEDY}" for file in flat}
    return labels


def _grid(header: VolumeHeader) -> tuple[object, ...]:
    return (header.shape, tuple(np.round(header.affine, 2).ravel() + 0.0))


def _may_be(file: Found, header: VolumeHeader) -> bool:
    return not file.row.get("modality") and header.volumes == 1 and header.dtype.kind in "iuf"


def _is_flat(header: VolumeHeader) -> bool:
    try:
        Voxels(header, "", 0, 1).close()  # long enough for what the header promises
        return _few_and_flat(_lines(header))
    except (*BYTES_FAULTS, InputError):
        return False  # the failure is reported when the file is planned


def flat_labels(values: npt.NDArray[Any]) -> bool:
    """Does a volume in memory, (slices, rows, columns), hold few whole numbers in flat regions?"""
    return _few_and_flat(iter(values))


def _few_and_flat(parts: Iterator[npt.NDArray[Any]]) -> bool:
    """The same of (rows, columns), (rows, columns) …; stops reading where an image gives itself away."""
    seen = np.empty(0, np.float64)
    pairs = equal = 0
    for lines in parts:
        seen = np.union1d(seen, np.unique(lines))
        if len(seen) > _MANY or not np.array_equal(seen, np.rint(seen)):
            return False
        drawn = (lines[:, 1:] != 0) | (lines[:, :-1] != 0)
        pairs += int(drawn.sum())
        equal += int((drawn & (lines[:, 1:] == lines[:, :-1])).sum())
    return 1 < len(seen) <= _FEW or (len(seen) > _FEW and equal > _FLAT * pairs)


def _lines(header: VolumeHeader) -> Iterator[npt.NDArray[Any]]:
    """The stored voxels as (rows of any slice, columns), a bounded number at a time."""
    cols, rows, slices = header.shape
    per_chunk = max(1, _CHUNK_VOXELS // cols)
    left = rows * slices
    with open_bytes(header.voxels) as stream:
        skip(stream, header.offset)
        while left > 0:
            count = min(per_chunk, left)
            raw = stream.read(count * cols * header.dtype.itemsize)
            if len(raw) < count * cols * header.dtype.itemsize:
                raise EOFError
            yield np.frombuffer(raw, header.dtype).reshape(count, cols)
            left -= count
