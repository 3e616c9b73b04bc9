"""Files of ``umedfeat pretrain``: one card, the same bytes, and refusals that name the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import umedfeat
from umedfeat.encoders.baseline import efficientnet_lite0
from umedfeat.encoders.weights.card import read_card
from umedfeat.encoders.weights.trained import write_trained
from umedfeat.errors import CheckpointRefused


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    _, _, settings = efficientnet_lite0()
    architecture = {"family": "timm", "name": "tf_efficientnet_lite0", "mean": settings["mean"], "std": settings["std"]}
    return {"name": "mine", "image_size": 96, "architecture": architecture, "tasks": [{"licence": "CC0 ü"}]}


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    network, _, _ = efficientnet_lite0()
    return dict(network.network.state_dict())  # type: ignore[union-attr,operator]


def test_the_file_decides_name_size_and_network(tmp_path: Path, card: dict[str, Any], tensors: Any) -> None:
    path = tmp_path / "any.safetensors"
    write_trained(path, tensors, card)
    encoder = umedfeat.load_encoder(weights=path, device="cpu")
    start = umedfeat.load_encoder("efficientnet-lite0", device="cpu")
    assert (encoder.name, encoder.image_size, encoder.dim) == ("mine", 96, 1280)
    images = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(encoder(images), start(images))
    assert encoder.settings["weights_sha256"] != start.settings["weights_sha256"]
    assert read_card(path) == card


def test_the_same_content_gives_the_same_bytes(tmp_path: Path, card: dict[str, Any], tensors: Any) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    write_trained(one, tensors, card)
    write_trained(two, dict(reversed(tensors.items())), dict(reversed(card.items())))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    "wrong",
    [
        {"architecture": {"family": "alien"}},
        {"architecture": {"family": "timm", "name": "no_such_model", "mean": [0], "std": [1]}},
        {"architecture": {"family": "timm"}},
        {"architecture": {"family": "umedpt", "config": {"depths": [1], "num_heads": [1]}}},
        {"image_size": 10**9},
        {"image_size": "wide"},
        {"name": None, "architecture": None},
    ],
)
def test_hostile_cards_are_refused(tmp_path: Path, card: dict[str, Any], wrong: dict[str, Any]) -> None:
    path = tmp_path / "bad.safetensors"
    write_trained(path, {"x": torch.zeros(1)}, card | wrong)
    with pytest.raises(CheckpointRefused, match=r"bad\.safetensors"):
        umedfeat.load_encoder(weights=path, device="cpu")


def test_other_files_have_no_card(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, str(path))
    assert read_card(path) is None
    path.write_bytes(b"\x00" * 40)
    assert read_card(path) is None
    assert read_card(tmp_path / "none.safetensors") is None


def test_the_shipped_encoder_needs_no_network_and_names_its_sources() -> None:
    encoder = umedfeat.load_encoder("umedfeat-open", device="cpu", offline=True)
    path = Path(umedfeat.__file__).parent / "encoders" / "weights" / "umedfeat-open.safetensors"
    card = read_card(path)
    assert card is not None
    assert (encoder.name, encoder.dim, encoder.image_size) == ("umedfeat-open", 1280, card["image_size"])
    assert path.stat().st_size < 20 << 20
    assert all(task["licence"] and task["attribution"] for task in card["tasks"])
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    assert encoder(images).isfinite().all()
    start = umedfeat.load_encoder("efficientnet-lite0", device="cpu")
    cosine = torch.nn.functional.cosine_similarity(encoder(images), start(images), dim=1)
    assert 0.3 < float(cosine.min()) < 0.999
