"""Runs a network on CPUs with OpenVINO: one stream of one thread per core, one image per request.

The graph is made of plain arrays for each size of input; torch is imported for what OpenVINO does not compute (feature
maps, tokens, tiny images) and for callers who bring its tensors. One image per request means that a vector depends on
its image alone, bit for bit. Optional: ``pip install 'umedfeat[openvino]'``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from umedfeat.encoders.runtimes.openvino_networks import Network
from umedfeat.machine import usable_cores

if TYPE_CHECKING:
    import torch

    from umedfeat.encoders.runtimes.torch_runtime import TorchEncoder
    from umedfeat.encoders.transform import Transform

__all__ = ["OpenVinoEncoder"]

#: Compiled graphs that are kept, one per size of input.
_KEPT_SIZES = 4


class OpenVinoEncoder:
    """An Encoder (see ``umedfeat.contract``) that computes a network with OpenVINO on the CPU.

    Args:
        network: as graphs.
        name, image_size, settings: as in ``Encoder``; precision and runtime are added to the settings.
        precision: "fp32", or "bf16" where the processor has it.
        with_torch: makes the same encoder on torch.
    """

    device = "cpu"

    def __init__(
        self,
        network: Network,
        *,
        name: str,
        image_size: int,
        settings: Mapping[str, Any],
        precision: str,
        with_torch: Callable[[], TorchEncoder],
    ) -> None:
        self.name = name
        self.dim = network.dim
        self.image_size = image_size
        self.precision = precision
        self.settings = {**settings, "precision": precision, "runtime": "openvino", "compiled": False}
        self._network = network
        self._with_torch = with_torch
        self._on_torch: TorchEncoder | None = None
        self._idle: OrderedDict[tuple[int, int], SimpleQueue[Any]] = OrderedDict()
        self._threads: ThreadPoolExecutor | None = None

    def prepare(self, height: int, width: int) -> None:
        """See ``umedfeat.contract.ArrayEncoder``."""
        if not self._network.needs_torch(height, width):
            self._requests(height, width)

    @property
    def transform(self) -> Transform:
        """Pictures to what this encoder takes: RGB in [0, 1] of its size."""
        from umedfeat.encoders.transform import Transform

        return Transform(self.image_size)

    @overload
    def __call__(self, images: torch.Tensor, *, return_tokens: bool = False) -> torch.Tensor: ...
    @overload
    def __call__(self, images: torch.Tensor, *, return_pyramid: Literal[True]) -> list[torch.Tensor]: ...
    def __call__(
        self, images: torch.Tensor, *, return_pyramid: bool = False, return_tokens: bool = False
    ) -> torch.Tensor | list[torch.Tensor]:
        """As ``TorchEncoder``; feature maps, tokens and tiny images are computed with torch."""
        import torch

        from umedfeat.encoders.runtimes.torch_runtime import checked_images

        images = checked_images(images)
        if return_pyramid:
            return self._torch(images, return_pyramid=True)
        if return_tokens:
            return self._torch(images, return_tokens=True)
        return torch.from_numpy(self.embed(images.permute(0, 2, 3, 1).numpy()))

    def embed(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``umedfeat.contract.ArrayEncoder``."""
        count, height, width, _ = pixels.shape
        out = np.empty((count, self.dim), dtype=np.float32)
        if count and self._network.needs_torch(height, width):
            import torch

            return self._torch(torch.from_numpy(unit(pixels)).permute(0, 3, 1, 2)).numpy()
        if count:
            idle = self._requests(height, width)
            list(self._workers().map(lambda place: self._one(idle, pixels, out, place), range(count)))
        return out

    def _one(self, idle: SimpleQueue[Any], pixels: npt.NDArray[Any], out: npt.NDArray[np.float32], place: int) -> None:
        """One image by one request."""
        request = idle.get()
        try:
            image = np.ascontiguousarray(unit(pixels[place : place + 1]).transpose(0, 3, 1, 2))
            request.infer({0: image})
            out[place] = self._network.vector(request.get_output_tensor(0).data)
        finally:
            idle.put(request)

    @property
    def _torch(self) -> TorchEncoder:
        if self._on_torch is None:
            self._on_torch = self._with_torch()
        return self._on_torch

    def _requests(self, height: int, width: int) -> SimpleQueue[Any]:
        """The idle requests of the compiled graph for one size, as many as cores."""
        size = (height, width)
        if size not in self._idle:
            while len(self._idle) >= _KEPT_SIZES:
                self._idle.popitem(last=False)
            self._idle[size] = self._compiled(height, width)
        self._idle.move_to_end(size)
        return self._idle[size]

    def _compiled(self, height: int, width: int) -> SimpleQueue[Any]:
        """Requests are run and waited for one by one: results of callbacks could be read before they were written."""
        from umedfeat.encoders.runtimes.openvino_graphs import compiled_graph

        threads = usable_cores()
        compiled = compiled_graph(self._network, height, width, threads, self.precision)
        requests = [compiled.create_infer_request() for _ in range(threads)]
        # OpenVINO's binding sets something up at the first look at a tensor; two threads that come to it together wait
        # for each other for ever (one with the guard of a static variable, the other with Python's lock).
        _ = requests[0].get_input_tensor(0).data
        idle: SimpleQueue[Any] = SimpleQueue()
        for request in requests:
            idle.put(request)
        return idle

    def _workers(self) -> ThreadPoolExecutor:
        if self._threads is None:  # made on first use: threads do not survive a fork
            self._threads = ThreadPoolExecutor(usable_cores(), "openvino")
        return self._threads


def unit(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Pixels as float32 in [0, 1]; 8-bit ones are scaled."""
    return pixels.astype(np.float32) / np.float32(255) if pixels.dtype == np.uint8 else pixels.astype(np.float32)
