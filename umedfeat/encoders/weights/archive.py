"""The zip files around official weights, read with suspicion: names, sizes, kinds and counts are checked first."""

from __future__ import annotations

import stat
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from umedfeat.encoders.weights.inert_reader import MAX_STREAM_BYTES, StorageRef, TensorView, read_tree
from umedfeat.errors import CheckpointRefused

__all__ = ["ITEM_BYTES", "TorchArchive", "as_array", "checked_view", "open_module", "opened_archive"]

_MAX_MEMBERS = 20_000
#: The largest official encoder has 0.8 GB.
_MAX_MODULE_BYTES = 2 << 30
#: Of one element of a storage.
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8, "int64": 8, "int32": 4, "bool": 1}
_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    ValueError,
    OverflowError,
    KeyError,
    IndexError,
    MemoryError,
)


@contextmanager
def opened_archive(stream: Path | IO[bytes], name: str) -> Iterator[zipfile.ZipFile]:
    """A zip whose directory is sane; whatever goes wrong while it is read becomes a CheckpointRefused."""
    try:
        with zipfile.ZipFile(stream) as archive:
            _check_directory(archive, name)
            yield archive
    except _DAMAGE as error:
        raise CheckpointRefused(
            f"{name}: the archive is damaged ({type(error).__name__})",
            remedy="download it again: umedfeat weights fetch",
        ) from error


def _check_directory(archive: zipfile.ZipFile, name: str) -> None:
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise CheckpointRefused(f"{name}: refused: {len(members)} members")
    repeated = [member for member, count in Counter(m.filename for m in members).items() if count > 1]
    if repeated:
        raise CheckpointRefused(f"{name}: refused: member {repeated[0][:80]!r} stands twice")
    for member in members:
        fault = _member_fault(member)
        if fault is not None:
            raise CheckpointRefused(f"{name}: refused: member {member.filename[:80]!r}: {fault}")


def _member_fault(member: zipfile.ZipInfo) -> str | None:
    parts = member.filename.replace("\\", "/").split("/")
    if member.filename.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        return "a path that leaves the archive"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "a link"
    if member.flag_bits & 0x1:
        return "encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "an unknown compression"
    if member.file_size > _MAX_MODULE_BYTES:
        return f"{member.file_size} bytes, more than any known encoder"
    return None


@contextmanager
def open_module(archive: zipfile.ZipFile, member: str, name: str) -> Iterator[TorchArchive]:
    """One ``*.pt`` of an official file. Its bytes go to a temporary file, never whole into memory.

    Raises:
        CheckpointRefused: missing, damaged or unsafe.
    """
    label = f"{name}: {member}"
    if member not in archive.namelist():
        raise CheckpointRefused(
            f"{name}: holds no {member}", remedy="give an official UMedPT file or a safetensors file"
        )
    with tempfile.TemporaryFile() as copy:
        _copy_out(archive, member, copy, label)
        with opened_archive(copy, label) as inner:
            yield TorchArchive(inner, label)


def _copy_out(archive: zipfile.ZipFile, member: str, copy: IO[bytes], label: str) -> None:
    left = archive.getinfo(member).file_size
    with archive.open(member) as source:
        block = source.read(4)
        if block != b"PK\3\4":
            raise CheckpointRefused(f"{label}: refused: not written by torch.save")
        while block:
            left -= len(block)
            if left < 0:
                raise CheckpointRefused(f"{label}: refused: larger than it says")
            copy.write(block)
            block = source.read(1 << 20)
    if left:
        raise CheckpointRefused(f"{label}: refused: smaller than it says")
    copy.seek(0)


class TorchArchive:
    """What torch.save wrote: an object stream and the bytes of its tensors.

    Args:
        archive: the inner zip.
        label: for messages.
    """

    def __init__(self, archive: zipfile.ZipFile, label: str) -> None:
        self._archive = archive
        self._label = label
        streams = [member for member in archive.namelist() if member.endswith("/data.pkl")]
        if len(streams) != 1 or streams[0].count("/") != 1:
            raise CheckpointRefused(f"{label}: refused: {len(streams)} object streams")
        self._root = streams[0].rpartition("/")[0]
        self._members = {member.filename: member for member in archive.infolist()}
        self._bytes_left = 2 * sum(member.file_size for member in self._members.values())  # float16 doubles
        order = f"{self._root}/byteorder"
        if order in self._members and self._small(order, 16).strip() != b"little":
            raise CheckpointRefused(f"{label}: refused: not little-endian")

    def tree(self) -> Any:
        """The module as plain data."""
        return read_tree(self._small(f"{self._root}/data.pkl", MAX_STREAM_BYTES), self._label)

    def array(self, view: TensorView, name: str) -> npt.NDArray[Any]:
        """A contiguous copy of a tensor; floating types as float32.

        Raises:
            CheckpointRefused: the view leaves its storage, or the storage is not what it says.
        """
        self._bytes_left -= checked_view(view, name, self._label)
        if self._bytes_left < 0:
            raise CheckpointRefused(f"{self._label}: refused: its tensors are larger than the file that holds them")
        return as_array(view, self._storage(view.storage, name))

    def _storage(self, storage: StorageRef, name: str) -> bytes:
        if storage.numel == 0:
            raise CheckpointRefused(f"{self._label}: refused: tensor {name[:80]} is empty")
        member = self._members.get(f"{self._root}/data/{storage.key}")
        wanted = storage.numel * ITEM_BYTES[storage.dtype]
        if member is None or member.file_size != wanted or member.compress_type != zipfile.ZIP_STORED:
            raise CheckpointRefused(f"{self._label}: refused: storage {storage.key} is not {wanted} plain bytes")
        data = self._archive.read(member)
        if len(data) != wanted:
            raise CheckpointRefused(f"{self._label}: refused: storage {storage.key} is cut short")
        return data

    def _small(self, member: str, limit: int) -> bytes:
        if self._members[member].file_size > limit:
            raise CheckpointRefused(f"{self._label}: refused: {member.rpartition('/')[2]} is too large")
        return self._archive.read(member)


def checked_view(view: TensorView, name: str, label: str) -> int:
    """Bytes that a tensor takes as an array.

    Raises:
        CheckpointRefused: it leaves its storage.
    """
    storage = view.storage
    elements = int(np.prod(view.size, dtype=object)) if view.size else 1
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.size, view.stride, strict=True))
    if elements > storage.numel or (elements and last >= storage.numel):
        raise CheckpointRefused(f"{label}: refused: tensor {name[:80]} leaves its storage")
    return elements * max(4, ITEM_BYTES[storage.dtype])


def as_array(view: TensorView, data: bytes) -> npt.NDArray[Any]:
    """A contiguous copy of a checked tensor out of its storage; floating types as float32."""
    raw = _numbers(data, view.storage.dtype)
    steps = [stride * raw.itemsize for stride in view.stride]
    strided = np.lib.stride_tricks.as_strided(raw[view.offset :], view.size, steps, writeable=False)
    with np.errstate(over="ignore", invalid="ignore"):  # infinite then, or NaN: refused as such, by name
        return np.array(strided, dtype=np.float32 if strided.dtype.kind == "f" else strided.dtype, order="C")


def _numbers(data: bytes, dtype: str) -> npt.NDArray[Any]:
    """The elements of a storage; bfloat16, which numpy lacks, is the upper half of a float32."""
    if dtype == "bfloat16":
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, dtype)
