"""Runs a network on CPUs with OpenVINO: one stream of one thread per core, one image per request, fp32.

The graph is made from our own torch network for each size of input. One image per request means that a vector depends
on its image alone, bit for bit. Optional: ``pip install 'umedfeat[openvino]'``.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from queue import SimpleQueue
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from umedfeat.encoders.networks.squeezer import Embedder
from umedfeat.encoders.runtimes.openvino_sums import sum_in_pieces
from umedfeat.encoders.runtimes.torch_runtime import TorchEncoder, checked_images, cpu_threads
from umedfeat.encoders.transform import Transform

__all__ = ["OpenVinoEncoder", "openvino_is_installed"]

#: Compiled graphs that are kept, one per size of input.
_KEPT_SIZES = 4


def openvino_is_installed() -> bool:
    """Is the extra there?"""
    return find_spec("openvino") is not None


class OpenVinoEncoder:
    """An Encoder (see ``umedfeat.contract``) that computes with OpenVINO on the CPU in fp32.

    Args:
        network: encoder and squeezer.
        name, dim, image_size, settings: as in ``Encoder``; precision and runtime are added to the settings.
    """

    device = "cpu"
    precision = "fp32"

    def __init__(self, network: Embedder, *, name: str, dim: int, image_size: int, settings: Mapping[str, Any]) -> None:
        self.name = name
        self.dim = dim
        self.image_size = image_size
        self.settings = {**settings, "precision": "fp32", "runtime": "openvino", "compiled": False}
        self._network = network.eval().requires_grad_(False)
        self._torch = TorchEncoder(network, name=name, dim=dim, image_size=image_size, settings=settings)
        self._idle: OrderedDict[tuple[int, int], SimpleQueue[Any]] = OrderedDict()
        self._threads: ThreadPoolExecutor | None = None

    @property
    def transform(self) -> Transform:
        """Pictures to what this encoder takes: RGB in [0, 1] of its size."""
        return Transform(self.image_size)

    @overload
    def __call__(self, images: torch.Tensor, *, return_tokens: bool = False) -> torch.Tensor: ...
    @overload
    def __call__(self, images: torch.Tensor, *, return_pyramid: Literal[True]) -> list[torch.Tensor]: ...
    def __call__(
        self, images: torch.Tensor, *, return_pyramid: bool = False, return_tokens: bool = False
    ) -> torch.Tensor | list[torch.Tensor]:
        """As ``TorchEncoder``; feature maps, tokens and tiny images are computed with torch."""
        checked_images(images)
        if return_pyramid:
            return self._torch(images, return_pyramid=True)
        if return_tokens:
            return self._torch(images, return_tokens=True)
        if not len(images) or self._network.wants_float64(images):
            return self._torch(images)
        out = torch.empty(len(images), self.dim)
        idle = self._requests(int(images.shape[2]), int(images.shape[3]))
        pixels = np.ascontiguousarray(images.numpy(), dtype=np.float32)
        list(self._pool().map(lambda place: self._one(idle, pixels, out, place), range(len(pixels))))
        return out

    def _one(self, idle: SimpleQueue[Any], pixels: npt.NDArray[np.float32], out: torch.Tensor, place: int) -> None:
        """One image by one request; the squeezer stays with torch, which computes it in float64."""
        request = idle.get()
        try:
            request.infer({0: pixels[place : place + 1]})
            with torch.inference_mode():
                out[place] = self._network.squeezer(torch.from_numpy(request.get_output_tensor(0).data))[0]
        finally:
            idle.put(request)

    def _requests(self, height: int, width: int) -> SimpleQueue[Any]:
        """The idle requests of the compiled graph for one size, as many as cores."""
        size = (height, width)
        if size not in self._idle:
            while len(self._idle) >= _KEPT_SIZES:
                self._idle.popitem(last=False)
            self._idle[size] = _compiled(_Deepest(self._network.encoder), height, width)
        self._idle.move_to_end(size)
        return self._idle[size]

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:  # made on first use: threads do not survive a fork
            self._threads = ThreadPoolExecutor(
                cpu_threads(), "openvino", initializer=torch.set_num_threads, initargs=(1,)
            )
        return self._threads


class _Deepest(nn.Module):
    """An encoder's last feature map."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.encoder(images)[-1]
        return maps


def _compiled(network: nn.Module, height: int, width: int) -> SimpleQueue[Any]:
    """Requests are run and waited for one by one: results of callbacks could be read before they were written."""
    import openvino
    from openvino import properties

    shape = (1, 3, height, width)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns that sizes become constants, which is what is wanted
        graph = openvino.convert_model(network, example_input=torch.zeros(shape), input=[shape], share_weights=False)
    sum_in_pieces(graph)
    threads = cpu_threads()
    compiled = openvino.Core().compile_model(
        graph,
        "CPU",
        {
            properties.hint.inference_precision(): openvino.Type.f32,
            properties.num_streams(): threads,
            properties.inference_num_threads(): threads,
        },
    )
    idle: SimpleQueue[Any] = SimpleQueue()
    for _ in range(threads):
        idle.put(compiled.create_infer_request())
    return idle
