"""A fast encoder for the engine's tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from fake_reader import SIDE

from umedfeat.contract import Encoder
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.registry import ENCODERS, EncoderEntry
from umedfeat.errors import SetupError
from umedfeat.machine import usable_cores


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
    half = SIDE // 2
    corners = [images[:, :, y : y + half, x : x + half].double().mean((2, 3)) for y in (0, half) for x in (0, half)]
    return torch.cat(corners, dim=1).float()


class FragileEncoder(FakeEncoder):
    """Ends badly at its n-th call."""

    def __init__(self, how: str, at: int) -> None:
        self._how = how
        self._calls_left = at

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self._calls_left -= 1
        if self._calls_left == 0:
            if self._how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().__call__(images)


class FakeGpu(FakeEncoder):
    """Holds at most ``capacity`` images."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self._capacity:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__call__(images)


class OtherEncoder(FakeEncoder):
    """Computes something else."""

    settings: Mapping[str, Any] = {"name": "other"}


class CoresEncoder(FakeEncoder):
    """Its features are the number of cores that its process may use."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images), self.dim), float(usable_cores()))


@dataclass(frozen=True)
class FakeChoice(EncoderChoice):
    """Loads a fake encoder in a device process: "fake", "other", "cores", "missing", "gpu:N", "kill:N", "error:N"."""

    name: str = "fake"


def load_fake(choice: EncoderChoice) -> Encoder:
    """The loader of all names that FakeChoice takes; importing this module registers them."""
    kind, _, number = choice.name.partition(":")
    if kind == "missing":
        raise SetupError(f"{choice.device}: cannot be used")
    if kind == "gpu":
        return FakeGpu(int(number))
    if number:
        return FragileEncoder(kind, int(number))
    return {"fake": FakeEncoder, "other": OtherEncoder, "cores": CoresEncoder}[kind]()


class FakeEntry(EncoderEntry):
    """An entry of ours: what other packages' encoders must tell is not asked of devices that pretend to be one."""

    def load(self, choice: EncoderChoice) -> Encoder:
        return load_fake(choice)


for _name in ("fake", "other", "cores", "missing", "gpu:", "kill:", "error:"):
    ENCODERS[_name] = FakeEntry(_name, "a fake", "fake_encoder:load_fake", SIDE)
