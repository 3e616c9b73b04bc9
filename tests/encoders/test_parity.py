"""Exactly UMedPT: the reference outputs of the original, torchvision's modules, and proof that the test has power."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lookalike import tiny_squeezer, write_official
from torch import nn

from umedfeat.encoders import load_encoder
from umedfeat.encoders.config import Checkpoint
from umedfeat.encoders.networks import swin, windows
from umedfeat.encoders.umedpt import build_network
from umedfeat.encoders.weights.checkpoint import read_checkpoint

TOLERANCE = 2e-5
TINY = ["v163_swin_tiny_skel", "v104_swin_tiny_h512_cuda"]
LARGE = ["v163_swin_large_skel", "v163_convnextv2_large_skel", "v163_tv_convnext_large_skel"]


def reference(ref_dir: Path, name: str) -> tuple[Any, Any, str]:
    outputs = np.load(ref_dir / f"{name}.npz")
    return outputs, np.load(ref_dir / "inputs.npz"), json.loads(str(outputs["meta"]))["order"]


def check(ref_dir: Path, name: str, sizes: list[str] | None, runtime: str = "torch") -> None:
    outputs, inputs, order = reference(ref_dir, name)
    weights = ref_dir / f"{name}.pt.zip"
    encoder = load_encoder("umedpt", weights=weights, device="cpu", pool_order=order, runtime=runtime)
    for key in (key for key in outputs.files if key.startswith("emb_")):
        size = key.removeprefix("emb_")
        if sizes is not None and size not in sizes:
            continue
        expected = outputs[key]
        ours = encoder(torch.from_numpy(inputs[f"x_{size}"][: len(expected)])).numpy()
        assert np.abs(ours - expected).max() <= TOLERANCE, size
        if f"emb64_{size}" in outputs.files:
            exact = outputs[f"emb64_{size}"]
            assert np.abs(ours - exact).max() <= np.abs(expected - exact).max(), size


def test_every_size_of_a_small_reference(ref_dir: Path) -> None:
    check(ref_dir, TINY[0], None)


def test_another_squeezer_and_order(ref_dir: Path) -> None:
    check(ref_dir, TINY[1], ["64x64", "192x320", "224x224"])


@pytest.mark.slow
def test_every_size_of_the_other_small_reference(ref_dir: Path) -> None:
    check(ref_dir, TINY[1], None)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY[:1])
def test_openvino_too(ref_dir: Path, name: str) -> None:
    pytest.importorskip("openvino")
    check(ref_dir, name, ["64x64", "230x250"], runtime="openvino")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TINY, "v163_swin_large_skel"])
def test_openvino_at_every_size(ref_dir: Path, name: str) -> None:
    pytest.importorskip("openvino")
    check(ref_dir, name, None, runtime="openvino")


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_the_large_references(ref_dir: Path, name: str) -> None:
    check(ref_dir, name, ["64x64"])


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_the_large_references_at_every_size(ref_dir: Path, name: str) -> None:
    check(ref_dir, name, None)


@pytest.mark.parametrize("name", TINY)
def test_the_pyramid(ref_dir: Path, name: str) -> None:
    outputs, inputs, order = reference(ref_dir, name)
    encoder: Any = load_encoder("umedpt", weights=ref_dir / f"{name}.pt.zip", device="cpu", pool_order=order)
    levels = encoder(torch.from_numpy(inputs["x_64x64"]), return_pyramid=True)
    assert [level.shape[2] for level in levels] == [16, 8, 4, 2]
    for number, level in enumerate(levels, start=1):
        expected = outputs[f"pyr{number}_64x64"]
        assert np.abs(level.numpy() - expected).max() <= 1e-5 * np.abs(expected).max()


class Original(nn.Module):
    """torchvision's modules and a plain squeezer: what the original package runs."""

    def __init__(self, network: nn.Module, parts: dict[str, nn.Module], order: str) -> None:
        super().__init__()
        self.network, self.parts, self.order = network, nn.ModuleDict(parts), order

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.network.features(images).permute(0, 3, 1, 2)  # type: ignore[operator]
        names = ["conv", "norm", "activation"]
        names = ["pool", *names] if self.order == "pool_first" else [*names, "pool"]
        for name in names:
            maps = self.parts[name](maps)
        return maps.flatten(1)


Written = Callable[[int, tuple[int, ...], int], tuple[Path, Any]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Official files by their sizes, each written once, with the network that is in it."""

    @functools.cache
    def write(embed: int, depths: tuple[int, ...], window: int) -> tuple[Path, Any]:
        path = tmp_path_factory.mktemp("written") / "look.pt.zip"
        return path, write_official(path, embed=embed, depths=depths, window=window)

    return write


@pytest.mark.parametrize("order", ["pool_first", "pool_last"])
@pytest.mark.parametrize(("embed", "depths", "window"), [(8, (2, 2, 2, 2), 4), (16, (2, 4, 2), 3), (8, (2, 2), 8)])
@pytest.mark.parametrize("size", [(64, 64), (33, 40), (61, 175), (150, 101), (160, 192)])
def test_equals_torchvision(
    written: Written, order: str, embed: int, depths: tuple[int, ...], window: int, size: tuple[int, int]
) -> None:
    """Tiny (float64), padded, and so large that blocks work on a few windows at a time."""
    path, network = written(embed, depths, window)
    channels = embed * 2 ** (len(depths) - 1)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = Original(network, tiny_squeezer(channels, 16, "pool"), order)(images)
    ours = load_encoder("umedpt", weights=path, device="cpu", pool_order=order, runtime="torch")(images)
    assert (ours - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("size", [(150, 101), pytest.param((128, 160), marks=pytest.mark.slow)])
def test_openvino_equals_torchvision(tmp_path: Path, size: tuple[int, int]) -> None:
    pytest.importorskip("openvino")
    network = write_official(tmp_path / "look.pt.zip", depths=(2, 4, 2))
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = Original(network, tiny_squeezer(32, 16, "pool"), "pool_first")(images)
    ours = load_encoder("umedpt", weights=tmp_path / "look.pt.zip", device="cpu", runtime="openvino")(images)
    assert (ours - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_tiny_images_are_computed_in_float64(tmp_path: Path, runtime: str) -> None:
    """At 64 pixels four positions are pooled: fp32 would err as much as the original does."""
    if runtime == "openvino":
        pytest.importorskip("openvino")
    write_official(tmp_path / "look.pt.zip")
    network = build_network(read_checkpoint(tmp_path / "look.pt.zip"), "pool_first")
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        exact, single = network.in_float64()(images), network(images)
    ours = load_encoder("umedpt", weights=tmp_path / "look.pt.zip", device="cpu", runtime=runtime)(images)
    assert torch.equal(ours, exact)
    assert not torch.equal(single, exact)


def vectors(checkpoint: Checkpoint, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return build_network(checkpoint, "pool_first")(images)


def test_the_parity_test_has_power(ref_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each deliberate mistake moves the result by more than the tolerance."""
    checkpoint = read_checkpoint(ref_dir / "v104_swin_tiny_h512_cuda.pt.zip")
    images = torch.from_numpy(np.load(ref_dir / "inputs.npz")["x_64x64"])
    right = vectors(checkpoint, images)

    def moved(changed: torch.Tensor) -> float:
        return float((changed - right).abs().max())

    with torch.inference_mode():
        assert moved(build_network(checkpoint, "pool_last")(images)) > TOLERANCE
        scaled = {k: v * np.float32(1.01) if k.endswith("logit_scale") else v for k, v in checkpoint.arrays.items()}
        assert moved(build_network(replace(checkpoint, arrays=scaled), "pool_first")(images)) > TOLERANCE
        assert moved(build_network(checkpoint, "pool_first")((images - 0.45) / 0.225)) > TOLERANCE
        assert moved(build_network(checkpoint, "pool_first")((images * 255).round() / 255)) > TOLERANCE
    gelu = torch.nn.functional.gelu
    with monkeypatch.context() as patch:
        patch.setattr(swin.functional, "gelu", lambda x: gelu(x, approximate="tanh"))
        assert moved(vectors(checkpoint, images)) > TOLERANCE
    with monkeypatch.context() as patch:
        patch.setattr(swin, "_EPS", 1e-3)
        assert moved(vectors(checkpoint, images)) > TOLERANCE
    with monkeypatch.context() as patch:
        patch.setattr(windows, "_MASKED", 0.0)
        windows.window_geometry.cache_clear()
        assert moved(vectors(checkpoint, images)) > TOLERANCE
    windows.window_geometry.cache_clear()
    assert moved(vectors(checkpoint, images)) == 0.0
