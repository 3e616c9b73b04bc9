"""The state of a training on disk: whole or not at all, refused where it belongs to another training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from umedfeat.errors import OutputError

__all__ = ["read_state", "write_state"]

_VERSION = 1


def write_state(path: Path, state: dict[str, Any], fingerprint: str) -> None:
    """Write tensors and plain values; a kill at any moment leaves the former file or the new one.

    Raises:
        OutputError: the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as stream:
            torch.save({"version": _VERSION, "fingerprint": fingerprint, **state}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path}: {error.strerror}", remedy="free some space, or another --out") from error


def read_state(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state, or None where there is none; nothing in it is executed.

    Raises:
        OutputError: damaged, or of another training.
    """
    if not path.is_file():
        return None
    anew = "--overwrite starts anew"
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        known = (state["version"], state["fingerprint"])
    except Exception as error:
        raise OutputError(f"{path}: damaged ({type(error).__name__})", remedy=anew) from error
    if known != (_VERSION, fingerprint):
        message = f"{path}: the checkpoint of another training (other tasks, files, options or version)"
        raise OutputError(message, remedy=f"repeat its command, or {anew}")
    return state
