"""EfficientNet-Lite0 as a table: blocks of convolutions, their names, shapes and padding, for whoever computes it.

Names of tensors are timm's (``tf_efficientnet_lite0``), in its order. No torch here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

__all__ = [
    "DIM",
    "EPSILON",
    "STAGES",
    "STEM",
    "Block",
    "Layer",
    "Stage",
    "lite0_blocks",
    "lite0_shapes",
    "same_padding",
]

#: TensorFlow's; torch's own default is 1e-5.
EPSILON = 1e-3
#: Channels of the first convolution and of the last one, which are those of the vector.
STEM, DIM = 32, 1280


class Stage(NamedTuple):
    """Blocks of one resolution; the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class Layer(NamedTuple):
    """A convolution without bias and its batch norm, then ReLU6 where ``active``.

    Attributes:
        convolution, norm: names of the modules.
        shape: of the weights (outputs, inputs of a group, rows, columns).
    """

    convolution: str
    norm: str
    shape: tuple[int, int, int, int]
    stride: int = 1
    active: bool = True

    @property
    def depthwise(self) -> bool:
        """Does every channel have a filter of its own?"""
        return self.shape[1] == 1

    @property
    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of its tensors."""
        yield f"{self.convolution}.weight", self.shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"{self.norm}.{part}", self.shape[:1]
        yield f"{self.norm}.num_batches_tracked", ()


class Block(NamedTuple):
    """Layers one after the other; the input is added to what they give where ``adds``."""

    layers: tuple[Layer, ...]
    adds: bool = False


@cache
def lite0_blocks() -> tuple[Block, ...]:
    """The whole network before the mean over its last map."""
    blocks, inputs = [Block((Layer("conv_stem", "bn1", (STEM, 3, 3, 3), 2),))], STEM
    for number, stage in enumerate(STAGES):
        for k in range(stage.blocks):
            blocks.append(_block(f"blocks.{number}.{k}", stage, inputs, 1 if k else stage.stride))
            inputs = stage.channels
    return (*blocks, Block((Layer("conv_head", "bn2", (DIM, inputs, 1, 1)),)))


def _block(name: str, stage: Stage, inputs: int, stride: int) -> Block:
    """Depthwise and 1 × 1; before them, where the stage expands, 1 × 1 to more channels."""
    inner, kernel = inputs * stage.expansion, stage.kernel
    expanding = [Layer(f"{name}.conv_pw", "", (inner, inputs, 1, 1))] if stage.expansion > 1 else []
    last = f"{name}.{'conv_pwl' if expanding else 'conv_pw'}"
    layers = [
        *expanding,
        Layer(f"{name}.conv_dw", "", (inner, 1, kernel, kernel), stride),
        Layer(last, "", (stage.channels, inner, 1, 1), active=False),
    ]
    named = tuple(layer._replace(norm=f"{name}.bn{number}") for number, layer in enumerate(layers, start=1))
    return Block(named, adds=stride == 1 and inputs == stage.channels)


def lite0_shapes() -> dict[str, tuple[int, ...]]:
    """Shape of every tensor by its name, in timm's order."""
    return {name: shape for block in lite0_blocks() for layer in block.layers for name, shape in layer.shapes}


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels before and behind a side, as TensorFlow pads: ⌈side / stride⌉ outputs, the odd pixel at the end."""
    missing = max(0, (-(-side // stride) - 1) * stride + kernel - side)
    return missing // 2, missing - missing // 2
