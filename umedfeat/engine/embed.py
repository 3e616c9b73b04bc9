"""Pixels to vectors on one device: upload ahead, back-off where memory runs out, and the time it took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from umedfeat.contract import Encoder
from umedfeat.engine.messages import Embedded
from umedfeat.engine.vectors import refuse_other_shape
from umedfeat.errors import SetupError

__all__ = ["Embedder", "Uploaded", "Uploader", "default_batch_size"]

MAX_GPU_BATCH_SIZE = 256
_PROBED_IMAGES = 8
#: Of the free memory: other processes, fragmentation and a second batch under way want some.
_MEMORY_SHARE = 0.5


@dataclass(frozen=True)
class Uploaded:
    """(N, H, W, 3) pixels on their way to a device; ``arrival`` is the CUDA event to wait for, None on a CPU."""

    pixels: torch.Tensor
    arrival: Any = None


class Uploader:
    """Copies pixels to a device while it computes the batch before: pinned memory, a stream of its own.

    8-bit pixels travel as 8 bits. On a CPU nothing is copied.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._stream: Any = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __call__(self, pixels: npt.NDArray[Any]) -> Uploaded:
        on_host = torch.from_numpy(pixels)
        if self._stream is None:
            return Uploaded(on_host)
        try:
            with torch.cuda.stream(self._stream):
                on_device = on_host.pin_memory().to(self._device, non_blocking=True)
                return Uploaded(on_device, self._stream.record_event())
        except torch.OutOfMemoryError:  # the embedder uploads in parts
            return Uploaded(on_host)


class Embedder:
    """Embeds batches with one encoder; remembers how many images the device's memory held."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.fits: int | None = None

    def __call__(self, batch: Uploaded) -> Embedded:
        """Embed (N, H, W, 3) pixels, uint8 or float32 in [0, 1].

        A device that runs out of memory is no error: the parts are halved until they fit, and stay so.

        Raises:
            SetupError: not even one image fits.
        """
        begin = time.perf_counter()
        if batch.arrival is not None:
            stream = torch.cuda.current_stream(batch.pixels.device)
            stream.wait_event(batch.arrival)
            batch.pixels.record_stream(stream)  # its memory is free for another batch only when computed
        features = self._all(batch.pixels).numpy().astype(np.float32, copy=False)
        return Embedded(features, begin, time.perf_counter(), self.fits)

    def _all(self, pixels: torch.Tensor) -> torch.Tensor:
        done: list[torch.Tensor] = []
        first = 0
        while first < len(pixels):
            size = min(self.fits or len(pixels), len(pixels) - first)
            part = self._part(pixels[first : first + size])
            if part is None:  # retried out here, where no exception holds the failed attempt's memory
                self._back_off(size)
            else:
                done.append(part)
                first += size
        return torch.cat(done) if len(done) != 1 else done[0]

    def _part(self, pixels: torch.Tensor) -> torch.Tensor | None:
        try:
            given = self._encoder(_to_unit(pixels, self._encoder.device))
        except torch.OutOfMemoryError:
            return None
        refuse_other_shape(self._encoder, given, len(pixels))
        return torch.as_tensor(given).detach().cpu()

    def _back_off(self, size: int) -> None:
        if size == 1:
            raise SetupError(
                f"{self._encoder.device}: not enough memory for a single image",
                remedy="free the device, choose another --device, or a smaller --image-size or --tile-size",
            )
        self.fits = size // 2
        if self._encoder.device.startswith("cuda"):
            torch.cuda.empty_cache()


def default_batch_size(encoder: Encoder) -> int:
    """Images per batch on a GPU: what fits half of its free memory, measured on a few."""
    device = torch.device(encoder.device)
    size = encoder.image_size
    try:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        encoder(torch.zeros(_PROBED_IMAGES, 3, size, size))
        per_image = (torch.cuda.max_memory_allocated(device) - before) // _PROBED_IMAGES
        return fitting_batch_size(per_image, torch.cuda.mem_get_info(device)[0])
    except torch.OutOfMemoryError:
        return 1


def fitting_batch_size(bytes_per_image: int, free_bytes: int) -> int:
    """The largest power of two of images, at most 256, that half of the free memory holds; at least 1."""
    count = int(free_bytes * _MEMORY_SHARE) // max(1, bytes_per_image)
    return 1 << min(MAX_GPU_BATCH_SIZE, max(1, count)).bit_length() - 1


def _to_unit(pixels: torch.Tensor, device: str) -> torch.Tensor:
    """(N, H, W, 3) to (N, 3, H, W) float32 in [0, 1], on the device; 8-bit pixels travel as 8 bits."""
    images = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(255.0)
    return images.contiguous()
