"""What a GPU would see, rehearsed with a device that waits: while it computes, the next batch travels and the last one
is stored. Each stage waits until the other has happened, so a loop that did one after the other would never end.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from fake_encoder import FakeEncoder, expected_features
from fake_engine import fake_engine
from fake_reader import fake_source
from fake_sink import Collected, expected

from umedfeat.engine import embed
from umedfeat.engine.device import LocalDevice
from umedfeat.engine.loop import EngineSettings
from umedfeat.engine.messages import Batch, Embedded

BATCHES, SIZE = 6, 4
_PATIENCE = 60.0


class Trace:
    """How many batches have come how far."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.count = {"uploaded": 0, "computing": 0, "stored": 0}

    def note(self, stage: str) -> int:
        """One more; returns which batch it is, from 0."""
        with self._changed:
            self.count[stage] += 1
            self._changed.notify_all()
            return self.count[stage] - 1

    def wait(self, stage: str, count: int) -> None:
        """Until so many have come so far."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count[stage] >= count, _PATIENCE), (stage, count, self.count)


class WaitingGpu(FakeEncoder):
    """Ends a batch only when the next one has been uploaded and the one before last is stored."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        number = self._trace.note("computing")
        self._trace.wait("uploaded", min(number + 2, BATCHES))
        self._trace.wait("stored", number)
        return expected_features(images)


class Watched(LocalDevice):
    """Notes what the host takes from the device."""

    trace: Trace

    def collect(self) -> list[tuple[Batch, Embedded]]:
        done = super().collect()
        for _ in done:
            self.trace.note("stored")
        return done


def test_upload_computing_and_storing_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Trace()
    upload = embed.Uploader.__call__

    def watched_upload(self: embed.Uploader, pixels: Any) -> embed.Uploaded:
        assert pixels.dtype == np.uint8
        trace.note("uploaded")
        return upload(self, pixels)

    monkeypatch.setattr(embed.Uploader, "__call__", watched_upload)
    device = Watched(WaitingGpu(trace))
    device.trace = trace
    sink = Collected()
    fake_engine(device, EngineSettings(workers=1, batch_size=SIZE), sink).run([fake_source("a", BATCHES * SIZE)])
    np.testing.assert_array_equal(sink.features["a"], expected("a", BATCHES * SIZE))
    assert trace.count == {"uploaded": BATCHES, "computing": BATCHES, "stored": BATCHES}


def test_pixels_travel_as_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times fewer bytes than float32; they become floats on the device."""
    crossed: list[tuple[torch.dtype, str]] = []
    to = torch.Tensor.to

    def watched(self: torch.Tensor, target: Any, **options: Any) -> torch.Tensor:
        if isinstance(target, str):
            crossed.append((self.dtype, target))
        return to(self, target, **options)

    monkeypatch.setattr(torch.Tensor, "to", watched)
    images = embed._to_unit(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), "meta")
    assert crossed == [(torch.uint8, "meta")]
    assert (images.dtype, images.device.type, tuple(images.shape)) == (torch.float32, "meta", (2, 3, 8, 8))
