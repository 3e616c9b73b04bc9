"""Models of the Hugging Face hub: timm's and transformers' configurations, from a stubbed cache without network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from umedfeat.encoders import load_encoder
from umedfeat.encoders.weights import hub
from umedfeat.errors import CheckpointRefused, SetupError, WeightsUnavailable

TINY = "test_vit"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for every repository."""

    def fetch(repository: hub.Repository, names: list[str], *, offline: bool, notice: str = "") -> Path:
        found = [tmp_path / name for name in names if (tmp_path / name).is_file()]
        if not found:
            raise WeightsUnavailable(f"{repository.url} holds no {names}")
        return found[0]

    monkeypatch.setattr("umedfeat.encoders.timm_models.fetch_first", fetch)
    return tmp_path


def write(folder: Path, name: str, content: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(content))


def test_a_timm_model_with_its_own_arguments_and_normalisation(repository: Path) -> None:
    import timm

    torch.manual_seed(0)
    model = timm.create_model(TINY, pretrained=False, num_classes=3, embed_dim=32, num_heads=2, img_size=64).eval()
    save_file(model.state_dict(), repository / "model.safetensors")
    arguments = {"embed_dim": 32, "num_heads": 2, "img_size": 64, "checkpoint_path": "/etc/passwd"}
    preprocessing = {"input_size": [3, 64, 64], "fixed_input_size": True, "mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}
    content = {"architecture": TINY, "model_args": arguments, "pretrained_cfg": preprocessing}
    write(repository, "config.json", content)
    encoder = load_encoder("hf-hub:someone/tiny@v2", device="cpu")
    assert (encoder.dim, encoder.image_size, encoder.name) == (32, 64, "hf-hub:someone/tiny@v2")
    assert len(encoder.settings["weights_sha256"]) == 64
    images = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1), torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features((images - mean) / std), pre_logits=True)
    assert torch.allclose(encoder(images), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_a_transformer_of_transformers(repository: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    if kind == "vit":
        model = transformers.ViTModel(transformers.ViTConfig(intermediate_size=48, **sizes), False)
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(mlp_ratio=3, **sizes))
    model.eval().save_pretrained(repository)
    write(repository, "preprocessor_config.json", {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]})
    encoder = load_encoder("hf-hub:someone/transformer", device="cpu")
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        expected = model(pixel_values=(images - 0.5) / 0.25).last_hidden_state[:, 0]
    assert torch.allclose(encoder(images), expected, atol=1e-5)


def test_what_is_no_plain_network_is_refused(repository: Path) -> None:
    save_file({"x": torch.zeros(1)}, repository / "model.safetensors")
    write(repository, "preprocessor_config.json", {})
    for content in ({"model_type": "clip"}, {"model_type": "dinov2", "use_swiglu_ffn": True}, {"model_type": "vit"}):
        write(repository, "config.json", content)
        with pytest.raises(CheckpointRefused):
            load_encoder("hf-hub:someone/clip", device="cpu")
    (repository / "config.json").write_text("[1]")
    with pytest.raises(CheckpointRefused, match="no configuration"):
        load_encoder("hf-hub:someone/clip", device="cpu")


@pytest.mark.parametrize("name", ["uni", "a/b/c", "../x", "https://huggingface.co/a/b"])
def test_names_are_checked_before_anything_is_fetched(name: str) -> None:
    with pytest.raises(SetupError, match="no model of the hub"):
        load_encoder(f"hf-hub:{name}", device="cpu")
