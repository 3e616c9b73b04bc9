"""Weights that can give no features are refused when they are loaded, not input by input."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import timm
from safetensors.torch import save_file

from umedfeat.encoders import load_encoder
from umedfeat.errors import CheckpointRefused

TINY = "test_vit.r160_in1k"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_in_weights_is_named(tmp_path: Path, value: float) -> None:
    state = timm.create_model(TINY, pretrained=False, num_classes=0).state_dict()
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    load_encoder(f"timm:{TINY}", weights=path, device="cpu")
    state["norm.weight"] = state["norm.weight"].clone()
    state["norm.weight"][3] = value
    save_file(state, path)
    with pytest.raises(CheckpointRefused, match=r"NaN or infinity in norm\.weight"):
        load_encoder(f"timm:{TINY}", weights=path, device="cpu")


def test_every_checkpoint_is_looked_at() -> None:
    from umedfeat.encoders.config import Checkpoint, EncoderConfig

    config = EncoderConfig("swin", "", 96, (2, 2), (3, 6), 8)
    with pytest.raises(CheckpointRefused, match="NaN"):
        Checkpoint(config, {"encoder.x": np.array([1.0, float("nan")])}, "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["umedpt", f"timm:{TINY}"])
def test_weights_through_a_pipe_do_not_hang(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "weights.pt.zip")
    with pytest.raises(CheckpointRefused, match="named pipe"):
        load_encoder(name, weights=tmp_path / "weights.pt.zip", device="cpu")
