"""Fast encoders for the engine's tests. Device processes import this: torch only where an encoder is one of torch's."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from fake_reader import SIDE

from umedfeat.contract import ArrayEncoder, Encoder
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.registry import ENCODERS, EncoderEntry
from umedfeat.errors import SetupError
from umedfeat.machine import usable_cores

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]


class FakeEncoder:
    """Means of four corners per channel: fast, and every row depends on its own image alone."""

    name = "fake"
    dim = 12
    image_size = SIDE
    device = "cpu"
    precision = "fp32"
    settings: Mapping[str, Any] = {"name": "fake"}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return expected_features(images)


def expected_features(images: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) float32 in [0, 1] to (N, 12) float32."""
    import torch

    return torch.from_numpy(corner_means(images.permute(0, 2, 3, 1).numpy()))


def corner_means(images: Array) -> npt.NDArray[np.float32]:
    """(N, H, W, 3) float32 in [0, 1] to (N, 12) float32."""
    half = SIDE // 2
    corners = [images[:, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    return np.concatenate([c.mean((1, 2), dtype=np.float64) for c in corners], axis=1).astype(np.float32)


class FakeArrayEncoder(FakeEncoder):
    """The same, that takes pixels as they were read."""

    def prepare(self, height: int, width: int) -> None:
        return None

    def embed(self, pixels: Array) -> npt.NDArray[np.float32]:
        return corner_means(pixels / np.float32(255) if pixels.dtype == np.uint8 else pixels)


class FragileEncoder(FakeArrayEncoder):
    """Ends badly at its n-th call."""

    def __init__(self, how: str, at: int) -> None:
        self._how = how
        self._calls_left = at

    def embed(self, pixels: Array) -> npt.NDArray[np.float32]:
        self._calls_left -= 1
        if self._calls_left == 0:
            if self._how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().embed(pixels)


class FakeGpu(FakeEncoder):
    """Holds at most ``capacity`` images."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        import torch

        if len(images) > self._capacity:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__call__(images)


class OtherEncoder(FakeArrayEncoder):
    """Computes something else."""

    settings: Mapping[str, Any] = {"name": "other"}


class CoresEncoder(FakeArrayEncoder):
    """Its features are the number of cores that its process may use."""

    def embed(self, pixels: Array) -> npt.NDArray[np.float32]:
        return np.full((len(pixels), self.dim), usable_cores(), np.float32)


@dataclass(frozen=True)
class FakeChoice(EncoderChoice):
    """Loads a fake encoder in a device process: "fake", "other", "cores", "missing", "gpu:N", "kill:N", "error:N"."""

    name: str = "fake"


def load_fake(choice: EncoderChoice) -> Encoder | ArrayEncoder:
    """The loader of all names that FakeChoice takes; importing this module registers them."""
    kind, _, number = choice.name.partition(":")
    if kind == "missing":
        raise SetupError(f"{choice.device}: cannot be used")
    if kind == "gpu":
        return FakeGpu(int(number))
    if number:
        return FragileEncoder(kind, int(number))
    return {"fake": FakeArrayEncoder, "other": OtherEncoder, "cores": CoresEncoder}[kind]()


class FakeEntry(EncoderEntry):
    """An entry of ours: what other packages' encoders must tell is not asked of devices that pretend to be one."""

    def load(self, choice: EncoderChoice) -> Encoder:
        return load_fake(choice)


for _name in ("fake", "other", "cores", "missing", "gpu:", "kill:", "error:"):
    ENCODERS[_name] = FakeEntry(_name, "a fake", "fake_encoder:load_fake", SIDE)
