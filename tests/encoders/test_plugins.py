"""Another package's encoder: installed, it is there by its name, and nothing of it is imported before."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from installed_package import install

import umedfeat
from umedfeat.encoders import list_encoders, load_encoder, plugins
from umedfeat.encoders.registry import image_size_of
from umedfeat.engine.embed import Embedder, Uploaded
from umedfeat.errors import SetupError

MODULE = """
import torch
from torch import nn
from umedfeat.encoders.baseline import as_encoder

class Means(nn.Module):
    def forward(self, images):
        return images.mean((2, 3))

def load(choice):
    return as_encoder(Means(), 32, {"name": choice.name, "weights_sha256": "0"}, choice)

def nothing(choice):
    return object()

def nameless(choice):
    return as_encoder(Means(), 32, {}, choice)

def ends(choice):
    raise SystemExit(3)

def unheard(choice):
    return as_encoder(Means(), 32, {"name": choice.name, "of": object()}, choice)

def flat(choice):
    encoder = load(choice)
    encoder.image_size = 0
    return encoder

class Others:
    name, dim, image_size, device, precision = "others", 3, 32, "cpu", "fp32"
    settings = {"name": "others"}

    def __call__(self, images):
        return GIVES(images)

def others(choice):
    return Others()
"""
POINTS = """[umedfeat.encoders]
colours = colour_encoders:load
broken = colour_encoders:missing
nothing = colour_encoders:nothing
nameless = colour_encoders:nameless
umedpt = colour_encoders:load
colours-of: = colour_encoders:load
colours:all = colour_encoders:load
ends = colour_encoders:ends
unheard = colour_encoders:unheard
flat = colour_encoders:flat
others = colour_encoders:others
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install(tmp_path, monkeypatch, "colour-encoders", "colour_encoders", MODULE, POINTS)


@pytest.mark.usefixtures("installed")
def test_it_is_listed_without_being_imported() -> None:
    entry = next(entry for entry in list_encoders() if entry.name == "colours")
    assert entry.about == "from the package colour-encoders 1.2"
    assert "colour_encoders" not in sys.modules
    assert image_size_of("colours") == 224


@pytest.mark.usefixtures("installed")
def test_it_embeds(tmp_path: Path) -> None:
    encoder = load_encoder("colours", device="cpu")
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(encoder(images), images.mean((2, 3)))
    assert load_encoder("colours-of:x", device="cpu").name == "colours-of:x"
    from PIL import Image

    pixels = np.full((40, 40, 3), (255, 0, 51), np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "red.png")
    summary = umedfeat.extract(tmp_path / "in", tmp_path / "feats.h5", encoder="colours")
    with umedfeat.FeatureFile(summary.out) as file:
        assert np.allclose(file.embeddings, [[1, 0, 0.2]], atol=1e-6)
        assert file.header.encoder["name"] == "colours"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("broken", "cannot be imported"),
        ("nothing", "__call__"),
        ("nameless", "its own name"),
        ("ends", r"failed \(SystemExit: 3\)"),
        ("unheard", "settings that can be written as JSON"),
        ("flat", "a positive number as image_size"),
    ],
)
def test_what_is_no_encoder_names_its_package(name: str, told: str) -> None:
    with pytest.raises(SetupError, match=told) as caught:
        load_encoder(name, device="cpu")
    assert "colour-encoders 1.2" in str(caught.value)


@pytest.mark.usefixtures("installed")
def test_a_name_of_ours_is_not_given_away(caplog: pytest.LogCaptureFixture) -> None:
    plugins._tell_taken.cache_clear()
    with caplog.at_level(logging.WARNING):
        entries = [entry for entry in list_encoders() if entry.name == "umedpt"]
    assert [entry.loader for entry in entries] == ["umedfeat.encoders.umedpt:load_official"]
    assert "colour-encoders 1.2 registers an encoder 'umedpt'" in caplog.text


@pytest.mark.usefixtures("installed")
def test_it_is_suggested() -> None:
    with pytest.raises(SetupError) as caught:
        load_encoder("colour", device="cpu")
    assert "did you mean colours" in caught.value.remedy
    with pytest.raises(SetupError) as caught:
        load_encoder("timm:", device="cpu")
    assert "did you mean timm:?" not in caught.value.remedy


@pytest.mark.parametrize("code", ["raise RuntimeError('at import')", "import sys; sys.exit(3)", "def load(:"])
def test_a_module_that_cannot_be_imported_is_blamed(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "[umedfeat.encoders]\nbad = bad_encoders:load\n"
    install(tmp_path, monkeypatch, "bad-encoders", "bad_encoders", code, points)
    with pytest.raises(SetupError, match=r"bad-encoders 1\.2\) cannot be imported"):
        load_encoder("bad", device="cpu")


@pytest.mark.usefixtures("installed")
def test_a_colon_in_a_name() -> None:
    assert load_encoder("colours:all", device="cpu").name == "colours:all"


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda images: torch.ones(len(images) + 1, 3), r"others: gave values of shape \(3, 3\) for 2 images"),
        (lambda images: torch.ones(len(images), 4), "not .2, 3."),
        (lambda images: torch.ones(len(images), 3, 1), "shape .2, 3, 1."),
        (lambda images: [[0.0] * 3 for _ in images], "gave list"),
    ],
)
def test_what_is_no_vector_of_each_image_is_not_believed(
    gives: Callable[[torch.Tensor], object], told: str, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder("others", device="cpu")
    monkeypatch.setitem(sys.modules["colour_encoders"].__dict__, "GIVES", gives)
    with pytest.raises(SetupError, match=told):
        Embedder(encoder)(Uploaded(torch.zeros(2, 8, 8, 3)))


@pytest.mark.usefixtures("installed")
def test_arrays_and_vectors_that_remember_how_they_were_made_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder("others", device="cpu")
    array = lambda images: np.ones((len(images), 3))  # noqa: E731
    tensor = lambda images: torch.ones(len(images), 3, requires_grad=True)  # noqa: E731
    for gives in (array, tensor):
        monkeypatch.setitem(sys.modules["colour_encoders"].__dict__, "GIVES", gives)
        features = Embedder(encoder)(Uploaded(torch.zeros(2, 8, 8, 3))).features
        assert features.dtype == np.float32 and features.tolist() == [[1, 1, 1]] * 2
