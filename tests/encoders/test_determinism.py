"""The same image gives the same bits alone, in any batch, at any place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lookalike import write_official

from umedfeat.contract import Encoder
from umedfeat.encoders import load_encoder
from umedfeat.encoders.runtimes import openvino_runtime
from umedfeat.encoders.runtimes import torch_runtime as runtime_module


@pytest.fixture(params=["umedpt on torch", "umedpt on openvino", "efficientnet-lite0"])
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> Encoder:
    name, _, runtime = request.param.partition(" on ")
    if name != "umedpt":
        return load_encoder(name, device="cpu")
    if runtime == "openvino":
        pytest.importorskip("openvino")
    write_official(tmp_path / "look.pt.zip")
    return load_encoder("umedpt", weights=tmp_path / "look.pt.zip", device="cpu", runtime=runtime)


@pytest.mark.parametrize("size", [(64, 64), (150, 101), (160, 192)])
def test_bits_do_not_depend_on_the_batch(encoder: Encoder, size: tuple[int, int]) -> None:
    """In float64 (tiny), with padding, and where blocks work on a few windows at a time."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(9, 3, *size, generator=generator)
    together = encoder(images)
    for _ in range(4):
        order = torch.randperm(9, generator=generator)
        first = int(torch.randint(1, 4, (1,), generator=generator))
        second = int(torch.randint(1, 4, (1,), generator=generator))
        parts = [encoder(part) for part in images[order].split([first, second, 9 - first - second])]
        assert torch.equal(torch.cat(parts), together[order])


def test_reference_weights_too(ref_dir: Path) -> None:
    weights = ref_dir / "v163_swin_tiny_skel.pt.zip"
    encoder = load_encoder("umedpt", weights=weights, device="cpu", runtime="torch")
    images = torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    together = encoder(images)
    assert torch.equal(together, torch.cat([encoder(images[k : k + 1]) for k in range(3)]))
    assert torch.equal(together.flip(0), encoder(images.flip(0)))


@pytest.mark.parametrize(
    ("runtime", "threads"),
    [("torch", 1), ("torch", 3), ("torch", 7), pytest.param("openvino", 3, marks=pytest.mark.slow)],
)
def test_bits_do_not_depend_on_the_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, threads: int
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    write_official(tmp_path / "look.pt.zip")
    images = torch.rand(11, 3, 160, 128, generator=torch.Generator().manual_seed(2))
    expected = load_encoder("umedpt", weights=tmp_path / "look.pt.zip", device="cpu", runtime=runtime)(images)
    monkeypatch.setattr(runtime_module, "cpu_threads", lambda: threads)
    monkeypatch.setattr(openvino_runtime, "usable_cores", lambda: threads)
    encoder = load_encoder("umedpt", weights=tmp_path / "look.pt.zip", device="cpu", runtime=runtime)
    assert torch.equal(encoder(images), expected)
