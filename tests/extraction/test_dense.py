"""``extract --tokens``: the grids of what the encoder sees, through the whole job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slide_factory
import torch
from PIL import Image
from ray_cluster import a_cluster

import umedfeat
from umedfeat.cli import run
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.errors import SetupError
from umedfeat.extraction.tokens import sized_for_tokens
from umedfeat.policy import ImagePolicy, Policy, SlidePolicy
from umedfeat.store import FeatureFile, verify

SIDE = 96


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 96, 3), np.uint8)).save(folder / "a.png")
    slide_factory.write_slide(folder / "slide.tif", slide_factory.tissue_like(384, 384), 0.5)
    return folder


@pytest.fixture(scope="module")
def dense(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "dense.h5"
    assert embedded(images, out, "--device", "cpu") == 0
    return out


def embedded(images: Path, out: Path, *options: str) -> int:
    """``extract --tokens`` of all images."""
    command = ["extract", "-i", str(images), "-o", str(out), "--encoder", "efficientnet-lite0", "--tokens", "-q"]
    return run([*command, "--tile-size", str(SIDE), *options])


def test_tiles_and_images_have_grids(dense: Path, images: Path) -> None:
    assert verify(dense).faults == ()
    encoder = umedfeat.load_encoder("efficientnet-lite0", device="cpu")
    pixels = torch.from_numpy(np.asarray(Image.open(images / "a.png"), np.float32) / 255).permute(2, 0, 1)
    padded = torch.zeros(1, 3, SIDE, SIDE)
    padded[0, :, 8:88] = pixels
    with FeatureFile(dense) as file:
        assert file.grid == (3, 3, 1280) and file.dim == 1280
        assert len(file.tokens("slide")) == len(file.features("slide")) > 2
        expected = encoder(padded, return_tokens=True).numpy()  # type: ignore[call-arg]
        assert np.allclose(file.tokens("a"), expected, atol=1e-4)
        assert np.allclose(file.tokens("slide").mean((1, 2)), file.features("slide"), atol=1e-4)


def test_features_are_those_of_a_run_without(dense: Path, images: Path, tmp_path: Path) -> None:
    plain = umedfeat.extract(images, tmp_path / "plain.h5", like=dense)
    with FeatureFile(dense) as one, FeatureFile(plain.out) as other:
        assert np.array_equal(one.features(), other.features()) and other.grid is None
        assert one.fingerprint != other.fingerprint
    with pytest.raises(SetupError, match="other settings"):
        umedfeat.extract(images, plain.out, like=dense, encoder=EncoderChoice(tokens=True))


def test_two_devices_make_the_bytes_of_one(dense: Path, images: Path, tmp_path: Path) -> None:
    assert embedded(images, tmp_path / "two.h5", "--device", "cpu,cpu", "--batch-size", "2") == 0
    assert (tmp_path / "two.h5").read_bytes() == dense.read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("results", ["driver", "shared"])
def test_a_cluster_makes_the_bytes_of_one_machine(dense: Path, images: Path, tmp_path: Path, results: str) -> None:
    (tmp_path / "site.key").write_text("0123456789abcdef" * 4)
    (tmp_path / "site.key").chmod(0o600)
    key = ("--id-key", str(tmp_path / "site.key"))
    assert embedded(images, tmp_path / "local.h5", *key, "--device", "cpu") == 0
    with a_cluster(cpus=2) as cluster:
        there = (
            "--engine",
            "ray",
            "--ray-address",
            cluster.address,
            "--ray-results",
            results,
            "--cpus-per-worker",
            "1",
        )
        assert embedded(images, tmp_path / "ray.h5", *key, *there) == 0
    assert (tmp_path / "ray.h5").read_bytes() == (tmp_path / "local.h5").read_bytes()
    with FeatureFile(tmp_path / "ray.h5") as file, FeatureFile(dense) as other:
        assert np.array_equal(file.tokens("slide"), other.tokens("slide"))


def test_all_regions_have_one_size() -> None:
    choice = EncoderChoice(tokens=True)
    sized, policy = sized_for_tokens(choice, Policy(image=ImagePolicy(size=128)))
    assert (sized.side, policy.slide.tile_size) == (128, 128)
    assert sized_for_tokens(choice, Policy()) == (choice, Policy())
    with pytest.raises(SetupError, match="one size"):
        sized_for_tokens(choice, Policy(slide=SlidePolicy(tile_size=256), image=ImagePolicy(size=128)))
