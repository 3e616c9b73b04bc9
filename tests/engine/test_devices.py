"""Several devices in one run: the same numbers, and a device that dies costs nothing but time."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from fake_encoder import FakeChoice, FakeEncoder, FakeGpu, expected_features
from fake_engine import fake_engine
from fake_reader import fake_source
from fake_sink import Collected, expected

from umedfeat.contract import Source
from umedfeat.engine.device import LocalDevice
from umedfeat.engine.embed import fitting_batch_size
from umedfeat.engine.local.device_pool import DevicePool
from umedfeat.engine.loop import EngineSettings
from umedfeat.engine.protocols import Devices
from umedfeat.engine.seconds import StageSeconds
from umedfeat.errors import SetupError

SOURCES = [fake_source(f"s{k}", 11) for k in range(6)]


def pool(*names: str) -> DevicePool:
    return DevicePool([FakeChoice(name, device="cpu") for name in names])


def embed(
    devices: Devices, sources: Sequence[Source] = SOURCES, *, dtype: str = "float32"
) -> tuple[Collected, StageSeconds]:
    sink = Collected()
    settings = EngineSettings(workers=1, batch_size=4, dtype=dtype)
    return sink, fake_engine(devices, settings, sink).run(sources)


def assert_complete(sink: Collected) -> None:
    assert sorted(sink.features) == [source.id for source in SOURCES]
    for source in SOURCES:
        np.testing.assert_array_equal(sink.features[source.id], expected(source.id, 11))


def test_two_devices_give_the_numbers_of_one() -> None:
    devices = pool("fake", "fake")
    assert (devices.count, devices.encoder.device, devices.encoder.dim) == (2, "cpu,cpu", 12)
    sink, seconds = embed(devices)
    assert_complete(sink)
    assert (seconds.devices, seconds.regions) == (2, 66)
    assert 0 < seconds.device_busy <= 1


@pytest.mark.parametrize(
    ("how", "told"), [("kill:1", "died (exit code -9)"), ("error:1", "the encoder failed (RuntimeError)")]
)
def test_a_device_that_dies_is_named_and_its_batches_go_to_the_other(
    how: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink, _ = embed(pool(how, "fake"))  # the first gets the first batch, also where reading is slow
    assert_complete(sink)
    assert told in caplog.text
    assert "going on without it" in caplog.text


def test_a_run_without_devices_left_says_so() -> None:
    with pytest.raises(SetupError, match="no device is left") as caught:
        embed(pool("kill:2", "error:2"))
    assert "resume" in caught.value.remedy


def test_a_device_that_cannot_be_used_is_left_out() -> None:
    devices = pool("missing", "fake")
    assert devices.count == 1
    assert_complete(embed(devices)[0])


def test_no_usable_device_is_told_before_the_run() -> None:
    with pytest.raises(SetupError, match="cpu: cannot be used"):
        pool("missing", "missing")


def test_devices_that_compute_other_numbers_are_refused() -> None:
    with pytest.raises(SetupError, match="different numbers"):
        pool("fake", "other")


def test_devices_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umedfeat.engine.local.device_pool.usable_cores", lambda: 2)
    sink, _ = embed(pool("cores", "cores"))
    assert all((features == 1).all() for features in sink.features.values())


def test_closing_ends_the_processes() -> None:
    devices = pool("fake", "fake")
    processes = [device.process for device in devices._devices]
    devices.close()
    devices.close()
    assert not any(process.is_alive() for process in processes)


def test_memory_that_runs_out_halves_once_and_is_recorded() -> None:
    sink, seconds = embed(LocalDevice(FakeGpu(3)))
    assert_complete(sink)
    assert seconds.images_at_once == 2
    sink, seconds = embed(pool("gpu:1"))
    assert_complete(sink)
    assert seconds.images_at_once == 1


def test_a_device_too_small_for_one_image_is_an_error_not_a_crash() -> None:
    with pytest.raises(SetupError, match="not enough memory for a single image"):
        embed(LocalDevice(FakeGpu(0)))


@pytest.mark.parametrize(
    ("per_image", "free", "count"), [(1 << 20, 1 << 30, 256), (10 << 20, 1 << 30, 32), (1 << 30, 1 << 30, 1), (0, 0, 1)]
)
def test_batch_size_that_half_of_the_memory_holds(per_image: int, free: int, count: int) -> None:
    assert fitting_batch_size(per_image, free) == count


def test_overflow_and_nan_cost_only_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder overflows on the images of one source; batches hold other sources' images too."""
    bright = expected("s2", 11)

    def overflowing(self: FakeEncoder, images: torch.Tensor) -> torch.Tensor:
        features = expected_features(images)
        features[(features.numpy() == bright[5]).all(axis=1)] = torch.inf
        return features

    monkeypatch.setattr(FakeEncoder, "__call__", overflowing)
    sink, _ = embed(LocalDevice(FakeEncoder()))
    assert sorted(sink.features) == ["s0", "s1", "s3", "s4", "s5"]
    assert (sink.failures["s2"].stage, sink.failures["s2"].error) == ("encode", "NotFinite")


def test_features_that_the_file_cannot_hold_fail_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEncoder, "__call__", lambda self, images: expected_features(images) * 1e6)
    sink, _ = embed(LocalDevice(FakeEncoder()), dtype="float16")
    assert not sink.features
    assert "does not fit float16" in sink.failures["s0"].message
    assert len(embed(LocalDevice(FakeEncoder()))[0].features) == len(SOURCES)


def test_the_wall_time_is_accounted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: FakeEncoder, images: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05)
        return expected_features(images)

    monkeypatch.setattr(FakeEncoder, "__call__", slow)
    _, slow_encoder = embed(LocalDevice(FakeEncoder()))
    assert slow_encoder.waits["encode"] > slow_encoder.waits["read"]
    monkeypatch.undo()
    _, slow_reader = embed(LocalDevice(FakeEncoder()), [fake_source("a", 40, seconds_per_row=0.02)])
    assert slow_reader.waits["read"] > slow_reader.waits["encode"]
    assert sum(slow_reader.waits.values()) <= 1.01
