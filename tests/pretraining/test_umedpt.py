"""UMedPT's networks in trainable form give the vectors of the frozen ones, and come back unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from umedfeat.encoders.config import Checkpoint, EncoderConfig
from umedfeat.encoders.umedpt import build_network
from umedfeat.encoders.weights.checkpoint import read_checkpoint
from umedfeat.encoders.weights.trained import build_trained
from umedfeat.pretraining.start import load_start
from umedfeat.pretraining.umedpt import UmedptBackbone

ORDERS = ("pool_first", "pool_last")


def small_swin() -> Checkpoint:
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

    torch.manual_seed(0)
    network = SwinTransformer(
        [4, 4], 24, [2, 2, 2, 2], [2, 2, 2, 2], [8, 8],
        block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2,
    )  # fmt: skip
    for parameter in network.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.2)
    tensors = {f"encoder.{name}": t for name, t in network.state_dict().items() if name.startswith("features.")}
    tensors |= {"squeezer.conv.weight": torch.randn(32, 192, 1, 1) * 0.1, "squeezer.conv.bias": torch.randn(32)}
    tensors |= {"squeezer.norm.weight": torch.rand(32) + 0.5, "squeezer.norm.bias": torch.randn(32)}
    return Checkpoint.of_tensors(EncoderConfig("swin", "", 24, (2, 2, 2, 2), (2, 2, 2, 2), 8, 32), tensors, "")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(64, 64), (96, 160), (224, 224)])
def test_trainable_equals_frozen(order: str, shape: tuple[int, int]) -> None:
    checkpoint = small_swin()
    frozen = build_network(checkpoint, order).in_float64()  # type: ignore[arg-type]
    trainable = UmedptBackbone(checkpoint, order).double()  # type: ignore[arg-type]
    images = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours = trainable.vector(trainable.pyramid(images.double())[-1]).float()
        torch.testing.assert_close(ours, frozen(images), rtol=1e-6, atol=1e-6)


def test_every_parameter_learns_from_every_label_type() -> None:
    trainable = UmedptBackbone(small_swin(), "pool_last")
    maps = trainable.pyramid(torch.rand(2, 3, 64, 64))
    assert [tuple(part.shape[1:]) for part in maps] == [(24, 16, 16), (48, 8, 8), (96, 4, 4), (192, 2, 2)]
    assert trainable.channels == (24, 48, 96, 32)
    (trainable.squeezed(maps[-1]).square().mean()).backward()
    without = [name for name, parameter in trainable.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("order", ORDERS)
def test_exported_tensors_make_the_frozen_network(order: str) -> None:
    checkpoint = small_swin()
    trainable = UmedptBackbone(checkpoint, order)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in trainable.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    import dataclasses

    facts = dataclasses.asdict(checkpoint.config)
    architecture = {"family": "umedpt", "config": facts, "pool_order": order}
    network = build_trained(architecture, trainable.exported(trainable.state_dict()), "mine")
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours = trainable.vector(trainable.pyramid(images)[-1])
        torch.testing.assert_close(ours, network(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["v104_swin_tiny_h512_cuda", "v163_swin_tiny_skel"])
def test_reference_checkpoints(ref_dir: Path, name: str) -> None:
    path = ref_dir / f"{name}.pt.zip"
    start = load_start("umedpt", path)
    checkpoint = read_checkpoint(path)
    frozen = build_network(checkpoint, start.architecture["pool_order"]).in_float64()
    images = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    backbone = start.backbone.double()  # type: ignore[attr-defined]
    with torch.inference_mode():
        ours = backbone.vector(backbone.pyramid(images.double())[-1]).float()
        torch.testing.assert_close(ours, frozen(images), rtol=1e-6, atol=1e-6)
