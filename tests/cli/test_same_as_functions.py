"""A command does what the function of the same name does: same settings, same sizes, same fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import slide_factory
from PIL import Image

import umedfeat
from umedfeat.cli import run
from umedfeat.cli.options import policy_options
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, IntensityPolicy, Limits, Policy, SlidePolicy, VolumePolicy
from umedfeat.report.preview import preview
from umedfeat.store import FeatureFile

KEY = "a secret of the test suite"


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture and a slide with a mask, and a key for pseudonyms."""
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    monkeypatch.setenv("UMEDFEAT_ID_KEY", str(tmp_path / "key"))
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)).save(folder / "a.png")
    slide_factory.write_slide(folder / "slide.tif", slide_factory.tissue_like(1024, 1024), 0.5)
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(tmp_path / "masks" / "slide.png")
    return folder


def _policy_of(*arguments: str) -> Policy:
    """What the command line makes of flags."""
    found: list[Policy] = []

    @click.command()
    @policy_options
    def command(policy: Policy) -> None:
        found.append(policy)

    command.main(list(arguments), standalone_mode=False)
    return found[0]


def test_without_flags_a_command_has_the_functions_defaults() -> None:
    assert _policy_of() == Policy() and _policy_of().limits == Limits()


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        (
            ["--mpp", "1", "--overlap", "0", "--min-tissue", "0"],
            Policy(SlidePolicy(mpp=1.0, overlap=0, min_tissue=0.0)),
        ),
        (["--window", "-160.0,240", "--grey-window", "0,100"], Policy(intensity=IntensityPolicy("-160,240", "0,100"))),
        (["--modality", "ct", "--slices", "every-3"], Policy(volume=VolumePolicy(slices="every-3", modality="CT"))),
        (["--image-size", "96", "--tile"], Policy(image=ImagePolicy(size=96, tile=True))),
        (["--allow-upsample", "--source-mpp", "0.3"], Policy(SlidePolicy(allow_upsample=True, source_mpp=0.3))),
    ],
)
def test_flags_are_fields(flags: list[str], policy: Policy) -> None:
    assert _policy_of(*flags).to_json() == policy.to_json()


def _identity(path: Path) -> tuple[str, dict[str, Any], int]:
    with FeatureFile(path) as file:
        return file.fingerprint, dict(file.policy), file.n_rows


@pytest.mark.parametrize("masked", [False, True])
def test_extract_and_its_command_give_one_fingerprint(images: Path, tmp_path: Path, masked: bool) -> None:
    """Sizes left open, partly set, and the identity of external masks."""
    masks = str(tmp_path / "masks") if masked else ""
    policy = Policy(slide=SlidePolicy(mpp=1.0), image=ImagePolicy(size=96), limits=Limits(mask_dir=masks))
    choice = EncoderChoice("efficientnet-lite0", device="cpu")
    umedfeat.extract(images, tmp_path / "f.h5", encoder=choice, policy=policy)
    flags = ["--mpp", "1.0", "--image-size", "96", *(["--mask-dir", masks] if masked else [])]
    encoder = ["--encoder", "efficientnet-lite0", "--device", "cpu", "--progress", "none"]
    assert run(["extract", "-i", str(images), "-o", str(tmp_path / "c.h5"), *encoder, *flags]) == 0
    assert _identity(tmp_path / "f.h5") == _identity(tmp_path / "c.h5")
    stored = _identity(tmp_path / "f.h5")[1]
    assert stored["slide"]["tile_size"] == 224 and stored["image"]["size"] == 96
    assert bool(stored["slide"]["masks_sha256"]) == masked


def test_preview_and_its_command_draw_the_same(images: Path, tmp_path: Path) -> None:
    masks = str(tmp_path / "masks")
    policy = Policy(slide=SlidePolicy(mpp=1.0), limits=Limits(mask_dir=masks))
    summary = preview(images, tmp_path / "f", policy=policy, pseudonyms=Pseudonyms(KEY.encode()))
    flags = ["--mpp", "1.0", "--mask-dir", masks, "--progress", "none"]
    assert run(["preview", str(images), "--out", str(tmp_path / "c"), *flags]) == 0
    assert summary.page.read_text() == (tmp_path / "c" / "index.html").read_text()
    assert "224 px tiles" in summary.page.read_text() and "external masks" in summary.page.read_text()
