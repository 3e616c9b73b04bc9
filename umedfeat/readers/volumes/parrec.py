"""Philips PAR/REC volumes: nibabel reads the text header and sorts the slices, the .REC file is read slice by slice."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import IO, Any

import nibabel.parrec
import numpy as np
import numpy.typing as npt

from umedfeat.errors import UnreadableInput
from umedfeat.readers.faults import fault_line
from umedfeat.readers.stacks.geometry import acquired_axis
from umedfeat.readers.stacks.intensity import StoredVoi
from umedfeat.readers.stacks.volume import StackFacts, volumes_of
from umedfeat.readers.volumes.header import companion

__all__ = ["PAR_HEAD", "ParHeader", "ParRecStack"]

PAR_HEAD = b"# === DATA DESCRIPTION FILE"

_MAX_PAR_BYTES = 64 << 20
_FAULTS = (OSError, ArithmeticError, ValueError, LookupError, TypeError, AttributeError, nibabel.parrec.PARRECError)
_REMEDY = "export it again, or convert it to NIfTI"


class ParHeader:
    """What a .PAR file says about its .REC file.

    Attributes:
        rec: the .REC file.
        shape: (columns, rows, slices); ``volumes``: echoes, phases, dynamics, types.
        order: (slices * volumes,) place in the .REC file of every slice, volume after volume.
        slopes, inters: (slices * volumes,) scaling to displayed values, in the same order.
        affine: (4, 4) voxel indices to LPS millimetres.

    Raises:
        UnreadableInput: damaged, truncated, of an unknown version, or without its .REC file.
    """

    def __init__(self, path: Path, name: str) -> None:
        rec = companion(path, (".rec",))
        if rec is None:
            raise UnreadableInput(
                f"{name}: its voxel file (.REC) is missing", remedy="put the .REC file beside the .PAR file"
            )
        self.rec = rec
        try:
            header = _parsed(path)
            shape = tuple(int(n) for n in header.get_data_shape())
            self.shape = (shape[0], shape[1], shape[2])
            self.volumes = int((*shape, 1)[3])
            self.dtype = np.dtype(header.get_data_dtype()).newbyteorder("<")
            self.order = np.asarray(header.get_sorted_slice_indices(), np.int64)
            slopes, inters = (np.broadcast_to(a, (1, 1, *shape[2:])) for a in header.get_data_scaling("dv"))
            self.slopes, self.inters = slopes.ravel(order="F"), inters.ravel(order="F")
            self.affine: npt.NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0]) @ header.get_affine()
        except _FAULTS as error:
            raise UnreadableInput(f"{name}: damaged PAR file: {fault_line(error)}", remedy=_REMEDY) from error
        self._check(name)

    def _check(self, name: str) -> None:
        count = self.shape[2] * self.volumes
        if min(self.shape) < 1 or len(self.order) != count or self.dtype.kind not in "iu":
            raise UnreadableInput(f"{name}: damaged PAR file: {len(self.order)} slices of {count}", remedy=_REMEDY)
        needed = (int(self.order.max()) + 1) * self.shape[0] * self.shape[1] * self.dtype.itemsize
        size = self.rec.stat().st_size
        if size < needed:
            raise UnreadableInput(f"{name}: the REC file has {size} bytes of {needed}", remedy=_REMEDY)


class ParRecStack:
    """SliceStack over one volume (or the mean) of a PAR/REC pair."""

    def __init__(self, header: ParHeader, name: str, modality: str, rule: str) -> None:
        self._header, self._name = header, name
        self._volumes = volumes_of(header.volumes, rule, name)
        axis, why = acquired_axis(header.affine, header.shape, declared=2)
        self.facts = StackFacts(
            name=name,
            format="parrec",
            modality=modality,
            cols=header.shape[0],
            rows=header.shape[1],
            slices=header.shape[2],
            affine=header.affine,
            acquired_axis=axis,
            floating=not np.isfinite([header.slopes, header.inters]).all(),
            detail={"slice_axis": why} | ({"volumes": header.volumes, "volume": rule} if header.volumes > 1 else {}),
        )
        self._rec: IO[bytes] = header.rec.open("rb")

    def slice(self, k: int) -> tuple[npt.NDArray[np.float32], None]:
        """Slice k in displayed values, the mean where there are several volumes."""
        total = sum(self._scaled(k + v * self.facts.slices) for v in self._volumes)
        return np.asarray(total / len(self._volumes), np.float32), None

    def stored_voi(self, k: int) -> StoredVoi | None:
        """PAR files hold none that is used here."""
        return None

    def close(self) -> None:
        self._rec.close()

    def _scaled(self, index: int) -> npt.NDArray[np.float64]:
        header = self._header
        length = header.shape[0] * header.shape[1] * header.dtype.itemsize
        self._rec.seek(int(header.order[index]) * length)
        raw = np.frombuffer(self._rec.read(length), header.dtype)
        if raw.nbytes < length:
            raise UnreadableInput(f"{self._name}: the REC file ends in slice {index}", remedy=_REMEDY)
        values: npt.NDArray[np.float64] = raw.astype(np.float64) * header.slopes[index] + header.inters[index]
        return values.reshape(header.shape[1], header.shape[0])


def _parsed(path: Path) -> Any:
    with path.open("rb") as stream:
        text = stream.read(_MAX_PAR_BYTES).decode("latin-1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel warns of every version newer than 4.2
        return nibabel.parrec.PARRECHeader.from_fileobj(io.StringIO(text), permit_truncated=False)  # type: ignore[no-untyped-call]
