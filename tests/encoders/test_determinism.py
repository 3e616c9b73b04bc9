"""The same image gives the same bits alone, in any batch, at any place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lookalike import write_official

from umedfeat.encoders import load_encoder
from umedfeat.encoders.base import Encoder


@pytest.fixture(params=["umedpt on torch", "umedpt on openvino", "efficientnet-lite0"])
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> Encoder:
    name, _, runtime = request.param.partition(" on ")
    if name != "umedpt":
        return load_encoder(name, device="cpu")
    if runtime == "openvino":
        pytest.importorskip("openvino")
    write_official(tmp_path / "look.pt.zip")
    return load_encoder("umedpt", weights=tmp_path / "look.pt.zip", device="cpu", runtime=runtime)


def test_bits_do_not_depend_on_the_batch(encoder: Encoder) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(9, 3, 64, 64, generator=generator)
    together = encoder(images)
    for _ in range(6):
        order = torch.randperm(9, generator=generator)
        first = int(torch.randint(1, 4, (1,), generator=generator))
        second = int(torch.randint(1, 4, (1,), generator=generator))
        parts = [encoder(part) for part in images[order].split([first, second, 9 - first - second])]
        assert torch.equal(torch.cat(parts), together[order])


def test_reference_weights_too(ref_dir: Path) -> None:
    weights = ref_dir / "v163_swin_tiny_skel.pt.zip"
    encoder = load_encoder("umedpt", weights=weights, device="cpu", runtime="torch")
    images = torch.rand(5, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    together = encoder(images)
    assert torch.equal(together, torch.cat([encoder(images[k : k + 1]) for k in range(5)]))
    assert torch.equal(together.flip(0), encoder(images.flip(0)))
