"""Our own weights files: safetensors with the architecture in the metadata."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from umedfeat.encoders.config import Checkpoint, EncoderConfig
from umedfeat.errors import CheckpointRefused

__all__ = ["read_safetensors", "write_safetensors"]

_KEY = "umedfeat_encoder"


def write_safetensors(checkpoint: Checkpoint, path: Path) -> None:
    """Write tensors and configuration; same checkpoint, same bytes."""
    config = json.dumps(dataclasses.asdict(checkpoint.config), sort_keys=True)
    arrays = {name: np.ascontiguousarray(checkpoint.arrays[name]) for name in sorted(checkpoint.arrays)}
    save_file(arrays, str(path), metadata={_KEY: config})


def read_safetensors(path: Path, sha256: str) -> Checkpoint:
    """Read what ``write_safetensors`` wrote.

    Raises:
        CheckpointRefused: damaged, or without our metadata.
    """
    try:
        with safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise CheckpointRefused(
                    f"{path.name}: no encoder configuration", remedy="write it with `umedfeat weights convert`"
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        facts = json.loads(metadata[_KEY])
        facts |= {key: tuple(facts[key]) for key in ("depths", "num_heads")}
        config = EncoderConfig(**facts)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointRefused(f"{path.name}: a damaged safetensors file ({type(error).__name__})") from error
    return Checkpoint(config, arrays, sha256)
