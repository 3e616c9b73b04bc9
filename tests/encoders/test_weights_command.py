"""``umedfeat weights``: list, where, fetch, verify, convert; the authors' golden numbers where there is a network."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from lookalike import write_official
from PIL import Image

from umedfeat.cli import root
from umedfeat.encoders import load_encoder
from umedfeat.encoders.weights import golden
from umedfeat.encoders.weights.download import ensure_weights
from umedfeat.encoders.weights.models import GOLDEN_IMAGE, MODELS
from umedfeat.errors import CheckpointRefused, SetupError, WeightsUnavailable


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UMEDFEAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["weights", *arguments])


def test_the_list_has_what_a_user_must_know() -> None:
    models = json.loads(run("list", "--json").stdout)
    assert [model["name"] for model in models] == ["umedpt", "tissue-concepts", "unicorn", "wsc-tiny"]
    for model in models:
        assert "non-commercial" in model["licence"]
        assert model["citation"]
        assert model["urls"]
        assert all(url.startswith("https://") for url in model["urls"])
        assert model["pool_order"] in ("pool_first", "pool_last")
        assert model["cached"] is False


def test_where(cache: Path) -> None:
    assert run("where").stdout.strip() == str(cache)


def test_fetch_offline_tells_the_ways_out() -> None:
    error = run("fetch", "umedpt", "--offline").exception
    assert isinstance(error, WeightsUnavailable)
    assert "--weights FILE" in error.remedy


def test_a_model_of_the_cache_is_verified_against_its_pin(cache: Path) -> None:
    path = cache / MODELS["umedpt"].file
    cache.mkdir()
    write_official(path)
    assert "sound" in run("verify", "umedpt").stdout
    write_official(path, out_channels=24)
    assert isinstance(run("verify", "umedpt").exception, CheckpointRefused)


def test_a_converted_file_is_loaded_by_the_same_call(tmp_path: Path) -> None:
    source, target = tmp_path / "look.pt.zip", tmp_path / "own.safetensors"
    write_official(source)
    assert run("convert", str(source), str(target)).exit_code == 0
    facts = json.loads(run("verify", str(target), "--json").stdout)
    assert facts["architecture"] == "swin (16 values)"
    images = torch.rand(2, 3, 160, 128)
    one, other = (load_encoder("umedpt", weights=path, device="cpu", runtime="torch") for path in (source, target))
    assert torch.equal(one(images), other(images))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"window": 0}, "impossible"),
        ({"window": 10**6}, "impossible"),
        ({"num_heads": [1, 0, 4, 8]}, "impossible"),
        ({"depths": []}, "impossible"),
        ({"depths": [2, 2, 2, 10**9]}, "impossible"),
        ({"out_channels": "16"}, "impossible"),
        ({"family": "os"}, "impossible"),
        ({"pool_order": "both"}, "impossible"),
        ({"depths": [2, 2, 2, 3]}, "do not make"),
        ({"family": "convnext-tv", "variant": "list_models", "num_heads": [], "window": 0}, "knows no"),
    ],
)
def test_an_own_file_that_describes_no_network(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    from safetensors.torch import load_file, save_file

    source, target = tmp_path / "look.pt.zip", tmp_path / "own.safetensors"
    write_official(source)
    run("convert", str(source), str(target))
    header = json.loads(target.read_bytes()[8 : 8 + int.from_bytes(target.read_bytes()[:8], "little")])
    config = json.loads(header["__metadata__"]["umedfeat_encoder"]) | change
    save_file(load_file(target), target, metadata={"umedfeat_encoder": json.dumps(config)})
    with pytest.raises(CheckpointRefused, match=told):
        load_encoder("umedpt", weights=target, device="cpu", runtime="torch")


def test_golden_compares_with_the_published_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, image = tmp_path / "look.pt.zip", tmp_path / "image.png"
    write_official(weights)
    Image.effect_mandelbrot((300, 200), (-2, -1.5, 1, 1.5), 100).convert("RGB").save(image)
    arguments = ("verify", str(weights), "--golden", "--image", str(image))
    assert isinstance(run(*arguments).exception, SetupError)  # it is not the authors' network
    monkeypatch.setattr(golden, "GOLDEN_UMEDPT", golden_values(weights, image))
    assert "sound" in run(*arguments).stdout
    assert GOLDEN_IMAGE in getattr(run("verify", str(weights), "--golden").exception, "remedy", "")


def golden_values(weights: Path, image: Path) -> tuple[float, ...]:
    """By Pillow and torch: bilinear at 256 × 256 without antialiasing, rounded to whole grey values."""
    import numpy as np
    from torch.nn import functional

    pixels = torch.from_numpy(np.array(Image.open(image))).permute(2, 0, 1)[None].float()
    small = functional.interpolate(pixels, (256, 256), mode="bilinear").round() / 255
    vector = load_encoder("umedpt", weights=weights, device="cpu", runtime="torch")(small)[0]
    return tuple(float(value) for value in vector[:5])


@pytest.mark.network
def test_the_golden_numbers_of_the_authors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official file and image, from the cache or the network."""
    monkeypatch.delenv("UMEDFEAT_CACHE")
    weights = ensure_weights(MODELS["umedpt"])
    with urllib.request.urlopen(GOLDEN_IMAGE, timeout=60) as reply:
        (tmp_path / "teddy").write_bytes(reply.read())
    assert golden.golden_difference(weights, tmp_path / "teddy") < 1e-5
