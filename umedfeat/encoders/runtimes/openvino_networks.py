"""The networks that OpenVINO computes here: what their graphs are made of, and what becomes of their outputs.

Neither torch nor OpenVINO is imported before it is needed: a compiled graph may lie in the cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from umedfeat.encoders.config import Arrays, Checkpoint, PoolOrder
from umedfeat.encoders.networks.lite0_layout import DIM
from umedfeat.encoders.networks.pooling import pooling_of
from umedfeat.encoders.networks.windows import wants_float64

__all__ = ["Lite0Network", "Network", "SwinNetwork"]


class Network(Protocol):
    """A network as graphs of one image and one size each."""

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells its graphs from those of every other network; JSON-able."""
        ...

    def graph(self, height: int, width: int, precision: str) -> Any:
        """An ``openvino.Model`` of (1, 3, height, width) RGB in [0, 1], with one output."""
        ...

    def vector(self, output: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
        """The vector (D,) of an image out of what the graph gives for it."""
        ...

    def needs_torch(self, height: int, width: int) -> bool:
        """Are images of this size computed otherwise?"""
        ...


class SwinNetwork:
    """UMedPT's Swin V2. Args: ``order`` of the squeezer's parts, or None for the mean over the map."""

    def __init__(self, checkpoint: Checkpoint, order: PoolOrder | None) -> None:
        self._checkpoint = checkpoint
        self._pool = pooling_of(checkpoint, order)

    @property
    def dim(self) -> int:
        return self._checkpoint.config.dim

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"weights": self._checkpoint.sha256, "config": repr(self._checkpoint.config)}

    def graph(self, height: int, width: int, precision: str) -> Any:
        """The deepest map; in fp32 with long sums made of pieces."""
        from umedfeat.encoders.runtimes.openvino_sums import sum_in_pieces
        from umedfeat.encoders.runtimes.openvino_swin import swin_graph

        graph = swin_graph(self._checkpoint.config, self._checkpoint.arrays, height, width)
        if precision == "fp32":
            sum_in_pieces(graph)
        return graph

    def vector(self, output: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
        return self._pool(output[0])

    def needs_torch(self, height: int, width: int) -> bool:
        return wants_float64(height, width)

    def try_out(self, side: int) -> None:
        """Build the graph of a small image, without compiling it, and pool a map.

        Raises:
            KeyError, ValueError, RuntimeError: the weights do not fit each other.
        """
        graph = self.graph(side, side, "bf16")
        self.vector(np.zeros(tuple(graph.output(0).shape), dtype=np.float32))


class Lite0Network:
    """EfficientNet-Lite0.

    Args:
        arrays: see ``lite0_shapes``.
        sha256: of the file that they come from.
        mean, std: per channel.
    """

    dim = DIM

    def __init__(self, arrays: Arrays, sha256: str, mean: Sequence[float], std: Sequence[float]) -> None:
        self._arrays = arrays
        self._mean, self._std = tuple(mean), tuple(std)
        self.identity = {"weights": sha256, "config": f"lite0 {self._mean} {self._std}"}

    def graph(self, height: int, width: int, precision: str) -> Any:
        """The vector itself."""
        from umedfeat.encoders.runtimes.openvino_lite0 import lite0_graph

        return lite0_graph(self._arrays, self._mean, self._std, height, width)

    def vector(self, output: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
        vector: npt.NDArray[np.floating] = output[0]
        return vector

    def needs_torch(self, height: int, width: int) -> bool:
        return False
