"""EfficientNet-Lite0 on OpenVINO: the vectors of torch, without torch; chosen by encoder, device and installation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from umedfeat.encoders import load_encoder
from umedfeat.encoders.baseline import lite0_baseline
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.networks.lite0 import Lite0
from umedfeat.encoders.networks.lite0_layout import lite0_shapes, same_padding
from umedfeat.encoders.runtimes import choosing
from umedfeat.encoders.runtimes.choosing import uses_openvino
from umedfeat.encoders.weights.card import read_card
from umedfeat.encoders.weights.trained import write_trained
from umedfeat.encoders.weights.wheel import lite0_arrays
from umedfeat.errors import CheckpointRefused, SetupError

#: Values reach 6; either runtime is up to 1.4e-5 from the same network in float64.
TOLERANCE = 5e-5
SHIPPED = Path(choosing.__file__).parents[1] / "weights" / "umedfeat-open.safetensors"


def test_the_table_is_the_networks() -> None:
    assert lite0_shapes() == {name: tuple(tensor.shape) for name, tensor in Lite0().state_dict().items()}


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [(224, 3, 2, (0, 1)), (7, 5, 1, (2, 2)), (7, 3, 2, (1, 1)), (8, 5, 2, (1, 2))],
)
def test_padding_is_tensorflows(side: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
    assert same_padding(side, kernel, stride) == padding


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Any, Any]]:
    pytest.importorskip("openvino")
    yield tuple(load_encoder("efficientnet-lite0", device="cpu", runtime=name) for name in ("openvino", "torch"))


@pytest.mark.parametrize("size", [(32, 32), (65, 97), (128, 128), (224, 224), (230, 250)])
def test_vectors_are_torchs(pair: tuple[Any, Any], size: tuple[int, int]) -> None:
    ours, torchs = pair
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    assert float((ours(images) - torchs(images)).abs().max()) <= TOLERANCE


def test_errors_are_those_of_float32(pair: tuple[Any, Any]) -> None:
    """Against float64, both runtimes are wrong in the seventh digit, neither much more than the other."""
    images = torch.rand(4, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    network = lite0_baseline(Lite0(), lite0_arrays()).eval().double()
    with torch.inference_mode():
        exact = network(images.double())
    ours, torchs = (float((encoder(images) - exact).square().mean().sqrt()) for encoder in pair)
    assert ours <= 2 * torchs


def test_a_wrong_detail_is_seen(pair: tuple[Any, Any]) -> None:
    """The tolerance has power: another epsilon, mean or padding is far outside of it."""
    ours, _ = pair
    images = torch.rand(2, 3, 97, 97, generator=torch.Generator().manual_seed(0))
    network = lite0_baseline(Lite0(), lite0_arrays()).eval()
    wrong = {"mean": network.mean + 0.01}
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5
    with torch.inference_mode():
        assert float((ours(images) - network(images)).abs().max()) > 100 * TOLERANCE
    other = lite0_baseline(Lite0(), lite0_arrays()).eval()
    other.mean = wrong["mean"]
    with torch.inference_mode():
        assert float((ours(images) - other(images)).abs().max()) > 100 * TOLERANCE


def test_pixels_of_eight_bits(pair: tuple[Any, Any]) -> None:
    ours, torchs = pair
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 80, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    assert np.abs(ours.embed(pixels) - torchs(images).numpy()).max() <= TOLERANCE
    assert ours.embed(pixels[:0]).shape == (0, 1280)


def test_tokens_are_torchs(pair: tuple[Any, Any]) -> None:
    ours, torchs = pair
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(images, return_tokens=True), torchs(images, return_tokens=True))
    with_tokens = load_encoder_with_tokens()
    assert with_tokens.settings["runtime"] == "torch"


def load_encoder_with_tokens() -> Any:
    from umedfeat.encoders.registry import load_chosen

    return load_chosen(EncoderChoice("efficientnet-lite0", device="cpu", tokens=True, side=96))


def test_the_encoder_that_is_installed_too() -> None:
    pytest.importorskip("openvino")
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    ours, torchs = (load_encoder("umedfeat-open", device="cpu", runtime=name) for name in ("openvino", "torch"))
    assert float((ours(images) - torchs(images)).abs().max()) <= TOLERANCE
    differing = {key for key in ours.settings if ours.settings[key] != torchs.settings[key]}
    assert (ours.image_size, ours.name, differing) == (torchs.image_size, torchs.name, {"runtime"})


def test_it_is_computed_without_torch() -> None:
    pytest.importorskip("openvino")
    code = (
        "import sys, numpy; from umedfeat.encoders import load_encoder;"
        "e = load_encoder('umedfeat-open', device='cpu'); e.embed(numpy.zeros((1, 32, 32, 3), numpy.uint8));"
        "assert not {'torch', 'timm'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


CHOICE = EncoderChoice("any", device="cpu", precision="fp32")


@pytest.mark.parametrize(
    ("changes", "computed", "used"),
    [
        ({}, True, True),
        ({"precision": "bf16"}, True, True),
        ({"runtime": "openvino"}, True, True),
        ({}, False, False),
        ({"runtime": "torch"}, True, False),
        ({"device": "cuda:0"}, True, False),
        ({"tokens": True}, True, False),
        ({"compile": True}, True, False),
    ],
)
def test_when_openvino_computes(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], computed: bool, used: bool
) -> None:
    monkeypatch.setattr(choosing, "openvino_is_installed", lambda: True)
    assert uses_openvino(replace(CHOICE, **changes), computed=computed) is used
    if "runtime" not in changes:
        monkeypatch.setattr(choosing, "openvino_is_installed", lambda: False)
        assert not uses_openvino(replace(CHOICE, **changes), computed=computed)


@pytest.mark.parametrize(
    ("changes", "computed", "reason"),
    [
        ({}, False, "Swin encoders and EfficientNet-Lite0 on a CPU, not any"),
        ({"device": "cuda:0"}, True, "on a CPU"),
        ({"tokens": True}, True, "computed by torch"),
        ({}, True, "needs the extra"),
    ],
)
def test_when_it_cannot(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], computed: bool, reason: str) -> None:
    monkeypatch.setattr(choosing, "openvino_is_installed", lambda: False)
    with pytest.raises(SetupError, match=reason):
        uses_openvino(replace(CHOICE, runtime="openvino", **changes), computed=computed)


@pytest.mark.parametrize("fault", ["shape", "missing", "mean", "std", "nan"])
def test_files_that_do_not_fit_are_refused(tmp_path: Path, fault: str) -> None:
    """By their name, on either runtime, before anything is computed."""
    card = read_card(SHIPPED)
    assert card is not None
    tensors = {name: torch.from_numpy(array.copy()) for name, array in lite0_arrays().items()}
    if fault == "shape":
        tensors["bn1.bias"] = tensors["bn1.bias"][:-1]
    elif fault == "missing":
        del tensors["bn1.bias"]
    elif fault == "nan":
        tensors["bn1.bias"][3] = float("nan")
    else:
        card["architecture"] = {**card["architecture"], fault: ["grey", "grey", "grey"]}
    write_trained(tmp_path / "mine.safetensors", tensors, card)
    for runtime in ("torch", "auto"):
        with pytest.raises(CheckpointRefused, match=r"mine\.safetensors|NaN or infinity in bn1\.bias"):
            load_encoder(weights=tmp_path / "mine.safetensors", device="cpu", runtime=runtime)
