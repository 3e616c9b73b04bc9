"""What an encoder gives is looked at before it is believed: of another shape it would stand beside the wrong images."""

from __future__ import annotations

from typing import Any

from umedfeat.contract import EncoderFacts
from umedfeat.errors import SetupError

__all__ = ["refuse_other_shape"]


def refuse_other_shape(encoder: EncoderFacts, given: Any, count: int) -> None:
    """Vectors must be as many as the images, and as long as the encoder said.

    Raises:
        SetupError: they are not (an encoder of another package).
    """
    shape = getattr(given, "shape", None)
    if shape is None or tuple(shape) != (count, encoder.dim):
        told = type(given).__name__ if shape is None else f"values of shape {tuple(shape)}"
        message = f"{encoder.name}: gave {told} for {count} images, not ({count}, {encoder.dim})"
        raise SetupError(message, remedy="a fault of that encoder: tell its authors")
