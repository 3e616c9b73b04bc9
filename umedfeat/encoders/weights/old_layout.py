"""State dicts as torch wrote them before 1.6, read without torch and without executing anything.

A header, then three objects (the machine that wrote it, names and views of the tensors, keys of the storages), then the
storages in the order of their keys: the number of elements in eight bytes, and the elements.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import IO

import numpy as np

from umedfeat.encoders.config import Arrays, refuse_not_finite
from umedfeat.encoders.weights.archive import ITEM_BYTES, as_array, checked_view
from umedfeat.encoders.weights.inert_reader import MAX_STREAM_BYTES, StorageRef, TensorView, read_next
from umedfeat.errors import CheckpointRefused

__all__ = ["read_old_layout"]

#: Two pickles of their own: torch's magic number, and the version 1001 of the layout.
_HEADER = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."


def read_old_layout(path: Path) -> Arrays:
    """The tensors of a state dict by name, in the file's order; floating types as float32.

    Raises:
        CheckpointRefused: another layout, unsafe or damaged.
    """
    try:
        with path.open("rb") as stream:
            views, keys = _objects(stream, path.name)
            storages = _storages(stream, keys, _known(views, path.name), path.name)
    except (OSError, struct.error) as error:
        raise CheckpointRefused(f"{path.name}: damaged ({type(error).__name__})") from error
    _refuse_excess(views, path)
    arrays = {name: as_array(view, storages[view.storage.key]) for name, view in views.items()}
    refuse_not_finite({name: bool(np.isfinite(array).all()) for name, array in arrays.items()})
    return arrays


def _objects(stream: IO[bytes], name: str) -> tuple[dict[str, TensorView], list[str]]:
    """Views of the tensors and keys of the storages; the stream then stands before the storages."""
    head = io.BytesIO(stream.read(MAX_STREAM_BYTES))
    if head.read(len(_HEADER)) != _HEADER:
        raise CheckpointRefused(f"{name}: no state dict in the layout of torch before 1.6")
    machine, views, keys = (read_next(head, name) for _ in range(3))
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise CheckpointRefused(f"{name}: refused: not little-endian")
    named = isinstance(views, dict) and all(isinstance(view, TensorView) for view in views.values())
    if not named or not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CheckpointRefused(f"{name}: refused: something else than tensors and their names")
    stream.seek(head.tell())
    return {str(key): view for key, view in views.items()}, keys


def _known(views: dict[str, TensorView], name: str) -> dict[str, StorageRef]:
    """The storages that the tensors name, by their keys."""
    known: dict[str, StorageRef] = {}
    for view in views.values():
        if known.setdefault(view.storage.key, view.storage) != view.storage:
            raise CheckpointRefused(f"{name}: refused: storage {view.storage.key} is told in two ways")
    return known


def _storages(stream: IO[bytes], keys: list[str], known: dict[str, StorageRef], name: str) -> dict[str, bytes]:
    """The bytes of every storage by its key."""
    if set(keys) != known.keys():
        raise CheckpointRefused(f"{name}: refused: other storages than its tensors name")
    most = os.fstat(stream.fileno()).st_size
    found: dict[str, bytes] = {}
    for key in keys:
        wanted = known[key].numel * ITEM_BYTES[known[key].dtype]
        (count,) = struct.unpack("<q", stream.read(8))
        found[key] = stream.read(wanted) if count == known[key].numel and wanted <= most else b""
        if len(found[key]) != wanted or not wanted:
            raise CheckpointRefused(f"{name}: refused: storage {key} is not {wanted} bytes")
    return found


def _refuse_excess(views: dict[str, TensorView], path: Path) -> None:
    """Many views of one storage could fill the memory: float16 doubles, nothing else makes tensors larger."""
    if sum(checked_view(view, name, path.name) for name, view in views.items()) > 2 * path.stat().st_size:
        raise CheckpointRefused(f"{path.name}: refused: its tensors are larger than the file that holds them")
