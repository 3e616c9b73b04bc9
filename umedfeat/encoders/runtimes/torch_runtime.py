"""Runs a network on a device: fixed-shape batches, threads, precision. The same for every encoder.

On a CPU the work is cut into small batches of one fixed shape (the last one padded), each computed by one thread: the
kernels then do the same arithmetic for an image wherever it stands, so that its vector is the same bit for bit, and one
thread per batch is faster than many threads inside one operation.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, overload

import torch
from torch import nn

from umedfeat.encoders.transform import Transform
from umedfeat.errors import SetupError
from umedfeat.machine import usable_cores

__all__ = ["TorchEncoder", "checked_images", "cpu_threads", "trial"]

Network = Callable[[torch.Tensor], torch.Tensor]

log = logging.getLogger("umedfeat")

#: Images per thread and call on a CPU: small enough to stay in the caches, and memory is reused, not mapped anew.
CPU_BATCH = 2
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def cpu_threads() -> int:
    """Cores that this process may use."""
    return usable_cores()


@contextlib.contextmanager
def trial() -> Iterator[None]:
    """Around a single image that only tells shapes: starting torch's threads would cost many times what it does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


class TorchEncoder:
    """An Encoder (see ``umedfeat.contract``) that computes a network with torch.

    Args:
        network: maps (n, 3, H, W) float32 RGB in [0, 1] to (n, D); frozen here.
        name, dim, image_size, settings: as in ``Encoder``; precision, runtime and compile are added to the settings.
        device: a device that exists.
        precision: "fp32", "bf16" or "fp16".
        compiled: compile the network first; falls back to the plain one with a warning where that fails.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        dim: int,
        image_size: int,
        settings: Mapping[str, Any],
        device: str = "cpu",
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        self.name = name
        self.dim = dim
        self.image_size = image_size
        self.device = device
        self.precision = precision
        self.settings = {**settings, "precision": precision, "runtime": "torch", "compiled": compiled}
        self._network = network.eval().requires_grad_(False).to(device)
        self._run = _compiled(self._network) if compiled else self._network
        self._compiled_for = 0
        self._exact: Network | None = None
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
        """See ``Encoder.__call__``.

        With ``return_pyramid`` the feature maps (n, C, h, w), strides 4, 8, 16, 32. With ``return_tokens`` the last map
        (n, rows, columns, C) float32: one vector per patch, before pooling.

        Raises:
            SetupError: images of another shape or type, or a network without pyramid or tokens.
        """
        images = checked_images(images)
        if return_pyramid:
            return self._pyramid(images)
        if return_tokens:
            return self._tokens(images)
        if not len(images):
            return torch.zeros(0, self.dim)
        if self.device.startswith("cuda"):
            return self._on_gpu(images)
        return self._on_cpu(images)

    def _tokens(self, images: torch.Tensor) -> torch.Tensor:
        grid: Network | None = getattr(self._network, "tokens", None)
        if grid is None:
            raise SetupError(f"{self.name} gives no tokens", remedy="a ViT, a Swin or a CNN")
        if not len(images):
            return self._tokens(images.new_zeros(1, *images.shape[1:]))[:0]

        def part(start: int) -> torch.Tensor:
            some = images[start : start + CPU_BATCH]
            with torch.inference_mode(), self._autocast():
                return grid(_padded(some, CPU_BATCH).to(self.device).contiguous()).float().cpu()[: len(some)]

        starts = range(0, len(images), CPU_BATCH)
        return torch.cat(list(map(part, starts) if self.device.startswith("cuda") else self._pool().map(part, starts)))

    def _pyramid(self, images: torch.Tensor) -> list[torch.Tensor]:
        stages: Callable[[torch.Tensor], list[torch.Tensor]] | None = getattr(self._network, "pyramid", None)
        if stages is None:
            raise SetupError(f"{self.name} gives no feature pyramid", remedy="use umedpt or one of its relatives")
        with torch.inference_mode():
            return [level.float().cpu().contiguous() for level in stages(images.to(self.device))]

    def _on_gpu(self, images: torch.Tensor) -> torch.Tensor:
        count = len(images)
        if self.settings["compiled"]:  # for another number of images it would be compiled anew
            self._compiled_for = max(self._compiled_for, count)
            images = _padded(images, self._compiled_for)
        with torch.inference_mode(), self._autocast():
            rows = self._run(images.to(self.device, memory_format=torch.channels_last)).float()
            return rows[:count].cpu()

    def _on_cpu(self, images: torch.Tensor) -> torch.Tensor:
        out = torch.empty(len(images), self.dim)
        run = self._in_float64() if self._wants_float64(images) else self._run
        starts = range(0, len(images), CPU_BATCH)
        list(self._pool().map(lambda start: self._one_batch(run, images, out, start), starts))
        return out

    def _one_batch(self, run: Network, images: torch.Tensor, out: torch.Tensor, start: int) -> None:
        part = _padded(images[start : start + CPU_BATCH], CPU_BATCH)
        with torch.inference_mode(), self._autocast():
            rows = run(part.contiguous()).float()
            out[start : start + CPU_BATCH] = rows[: len(out) - start]

    def _wants_float64(self, images: torch.Tensor) -> bool:
        wants = getattr(self._network, "wants_float64", None)
        return self.precision == "fp32" and wants is not None and bool(wants(images))

    def _in_float64(self) -> Network:
        if self._exact is None:
            self._exact = self._network.in_float64()  # type: ignore[operator]
        return self._exact

    def _autocast(self) -> torch.autocast:
        kind = self.device.partition(":")[0]
        return torch.autocast(kind, dtype=_DTYPES[self.precision], enabled=self.precision != "fp32")

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:  # made on first use: threads do not survive a fork
            self._threads = ThreadPoolExecutor(
                cpu_threads(), "encoder", initializer=torch.set_num_threads, initargs=(1,)
            )
        return self._threads


def _padded(images: torch.Tensor, count: int) -> torch.Tensor:
    """At least ``count`` images: the last one is repeated."""
    missing = count - len(images)
    return images if missing <= 0 else torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])


def checked_images(images: Any) -> torch.Tensor:
    """Images as float32; what no encoder takes is refused.

    Raises:
        SetupError: not float (N, 3, H, W).
    """
    if not isinstance(images, torch.Tensor):
        message = f"an encoder takes a tensor (N, 3, H, W), not {type(images).__name__}"
        raise SetupError(message, remedy="torch.from_numpy, or the encoder's transform")
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise SetupError(
            f"an encoder takes float (N, 3, H, W), not {images.dtype} {tuple(images.shape)}",
            remedy="scale RGB to [0, 1] first",
        )
    return images.float()


def _compiled(network: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """``torch.compile`` that gives up quietly: the first failure warns and uses the plain network from then on."""
    fast = torch.compile(network, dynamic=False)
    state = {"run": fast}

    def run(images: torch.Tensor) -> torch.Tensor:
        try:
            return state["run"](images)  # type: ignore[no-any-return]
        except Exception as error:
            if state["run"] is network:
                raise
            log.warning("--compile does not work here (%s); computing without it", type(error).__name__)
            state["run"] = network
            return network(images)  # type: ignore[no-any-return]

    return run
