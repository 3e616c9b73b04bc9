"""Dense features: one size for all regions of a run, because the grids of a file are alike."""

from __future__ import annotations

import math
from dataclasses import replace

from umedfeat.contract import EncoderFacts
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.errors import SetupError
from umedfeat.policy import Policy
from umedfeat.store.schema import grid_in

__all__ = ["dim_of", "sized_for_tokens"]


def sized_for_tokens(choice: EncoderChoice, policy: Policy) -> tuple[EncoderChoice, Policy]:
    """The same where no tokens are asked for; else tiles and whole images of one size, which the encoder is told.

    Raises:
        SetupError: they were given different sizes.
    """
    if not choice.tokens:
        return choice, policy
    sides = sorted({policy.slide.tile_size, policy.image.size} - {0})
    if len(sides) > 1:
        message = f"tokens need regions of one size, and tiles of {policy.slide.tile_size} and images of "
        message += f"{policy.image.size} pixels were asked for"
        raise SetupError(message, remedy="the same --tile-size and --image-size, or one of them")
    return (replace(choice, side=sides[0]), policy.sized(sides[0])) if sides else (choice, policy)


def dim_of(encoder: EncoderFacts) -> int:
    """Length of the embedding alone, without the tokens behind it."""
    return encoder.dim - math.prod(grid_in(encoder.settings) or (0,))
