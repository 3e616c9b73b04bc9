"""``return_tokens`` and ``transform``: maps in one order whatever the network, and the pixels of ``extract``."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import umedfeat
from umedfeat.encoders import load_encoder
from umedfeat.encoders.baseline import Baseline, as_encoder
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.networks.grids import grid_of
from umedfeat.encoders.networks.pooled_vits import AttentionPooled, ClassAndMean, Projected
from umedfeat.encoders.registry import load_chosen
from umedfeat.encoders.transform import Transform
from umedfeat.errors import SetupError


@pytest.mark.parametrize(
    ("name", "stride", "arguments"),
    [
        ("test_vit", 16, {"img_size": 64}),
        ("swinv2_cr_tiny_224", 32, {"img_size": 224, "depths": (1, 1, 1, 1), "embed_dim": 24}),
        ("swin_tiny_patch4_window7_224", 32, {"depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1, 1, 2, 2)}),
        ("test_convnext", 32, {}),
    ],
)
def test_one_vector_per_patch(name: str, stride: int, arguments: dict[str, int]) -> None:
    """The mean of the tokens of a half differs where that half differs: rows and columns are where they seem."""
    import timm

    model = timm.create_model(name, pretrained=False, num_classes=0, **arguments)
    encoder = as_encoder(
        Baseline(model, [0.5] * 3, [0.5] * 3), 224, {}, EncoderChoice("tiny", device="cpu", precision="fp32")
    )
    side = arguments.get("img_size", 224)
    images = torch.rand(3, 3, side, side)
    grid = encoder(images, return_tokens=True)  # type: ignore[call-arg]
    assert grid.shape == (3, side // stride, side // stride, model.num_features)
    assert grid.dtype == torch.float32
    assert torch.equal(grid[1], encoder(images[1:2], return_tokens=True)[0])  # type: ignore[call-arg]
    assert encoder(images[:0], return_tokens=True).shape == (0, *grid.shape[1:])  # type: ignore[call-arg]
    changed = images.clone()
    changed[:, :, : side // 4, -side // 4 :] = 0
    moved = (encoder(changed, return_tokens=True) - grid).abs().sum(-1).mean(0)  # type: ignore[call-arg]
    rows = side // stride
    assert divmod(int(moved.argmax()), rows)[0] < rows / 2 <= divmod(int(moved.argmax()), rows)[1]


def test_lite0_has_tokens_whose_mean_is_its_vector() -> None:
    encoder = load_encoder("efficientnet-lite0", device="cpu")
    images = torch.rand(2, 3, 96, 64)
    grid = encoder(images, return_tokens=True)  # type: ignore[call-arg]
    assert grid.shape == (2, 3, 2, 1280)
    assert torch.allclose(
        grid.mean((1, 2)), encoder(images), atol=5e-5
    )  # the vector may be OpenVINO's, the grid is torch's


@pytest.mark.filterwarnings("ignore:--encoder random")
def test_a_network_without_a_map_says_so() -> None:
    with pytest.raises(SetupError, match="gives no tokens"):
        load_encoder("random", device="cpu")(torch.rand(1, 3, 32, 32), return_tokens=True)  # type: ignore[call-arg]


@pytest.mark.parametrize("maps", [torch.zeros(1, 9, 4), torch.zeros(1, 4), [torch.zeros(1, 4, 2, 2)]])
def test_a_sequence_that_is_no_grid_is_told_as_that(maps: object) -> None:
    class Mixer(nn.Module):
        def forward_features(self, images: torch.Tensor) -> object:
            return maps

    with pytest.raises(SetupError, match="gives no tokens"):
        grid_of(Mixer(), torch.zeros(1, 3, 32, 32))


def test_the_transform_gives_the_pixels_of_extract(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (70, 130, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    summary = umedfeat.extract(tmp_path / "one.png", tmp_path / "feats.h5", encoder="efficientnet-lite0")
    encoder = load_encoder("efficientnet-lite0", device="cpu")
    image = encoder.transform(Image.open(tmp_path / "one.png"))  # type: ignore[attr-defined]
    assert image.shape == (3, 224, 224)
    with umedfeat.FeatureFile(summary.out) as file:
        assert np.array_equal(file.embeddings, encoder(image[None]).numpy())


def test_the_transform_takes_pictures_and_is_picklable() -> None:
    transform = pickle.loads(pickle.dumps(Transform(32)))
    grey = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    assert transform(grey).shape == (3, 32, 32)
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert float(transform(clear).min()) == 1.0  # transparency lies on white
    for wrong in (np.zeros((3, 8, 8)), np.full((8, 8), 255.0), np.zeros((8, 8), np.int32), np.zeros((0, 8))):
        with pytest.raises(SetupError, match="takes pictures"):
            transform(wrong)
    with pytest.raises(SetupError, match="no scale"):
        transform(Image.new("I;16", (8, 8)))


def test_vectors_and_grids_come_from_one_pass_and_are_the_same() -> None:
    """With tokens asked for, an encoder's rows are its vectors bit for bit, and its grids behind them."""
    for name, side in (("efficientnet-lite0", 96), ("umedfeat-open", 64)):
        plain = load_chosen(EncoderChoice(name, device="cpu", runtime="torch"))  # which computes tokens
        dense = load_chosen(EncoderChoice(name, device="cpu", tokens=True, side=side))
        images = torch.rand(3, 3, side, side)
        rows, columns, width = dense.settings["tokens"]
        assert dense.dim == plain.dim + rows * columns * width and (rows, columns) == (side // 32, side // 32)
        found = dense(images)
        assert torch.equal(found[:, : plain.dim], plain(images))
        grids = plain(images, return_tokens=True)  # type: ignore[call-arg]
        assert torch.equal(found[:, plain.dim :].view(3, rows, columns, width), grids)
        assert {key: value for key, value in dense.settings.items() if key != "tokens"} == plain.settings


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("test_vit", {"img_size": 64}),
        ("test_convnext", {}),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1, 1, 2, 2)}),
    ],
)
def test_networks_of_timm_give_both(name: str, arguments: dict[str, int]) -> None:
    import timm

    model = timm.create_model(name, pretrained=False, num_classes=0, **arguments)
    side = arguments.get("img_size", 224)
    network = Baseline(model, [0.5] * 3, [0.5] * 3)
    choice = EncoderChoice("tiny", device="cpu", precision="fp32")
    plain = as_encoder(network, side, {"name": "tiny"}, choice)
    dense = as_encoder(network, side, {"name": "tiny"}, replace(choice, tokens=True))
    images = torch.rand(1, 3, side, side)
    assert torch.equal(dense(images)[:, : plain.dim], plain(images))
    assert dense.dim == plain.dim + math.prod(dense.settings["tokens"])


@pytest.mark.parametrize(
    "kind",
    [ClassAndMean, lambda vit: Projected(vit, torch.rand(5, vit.num_features)), lambda vit: AttentionPooled(vit, 16)],
)
def test_other_vectors_of_transformers_too(kind: Callable[[Any], nn.Module]) -> None:
    import timm

    vit = timm.create_model("test_vit", pretrained=False, num_classes=0, img_size=64)
    network = kind(vit)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        vectors, grids = Baseline(network.eval(), [0.5] * 3, [0.5] * 3).dense(images)
        assert torch.equal(vectors, network((images - 0.5) / 0.5))
    assert grids.shape == (2, 4, 4, vit.num_features)


@pytest.mark.filterwarnings("ignore:--encoder random")
def test_encoders_without_tokens_say_so_before_anything_is_embedded() -> None:
    with pytest.raises(SetupError, match="gives no tokens"):
        load_chosen(EncoderChoice("random", device="cpu", tokens=True))
