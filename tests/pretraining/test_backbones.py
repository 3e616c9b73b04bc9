"""Networks of timm in trainable form: one round of training, exported and loaded again, CNN and Swin."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from drawn_tasks import draw_images, write_tasks
from safetensors.torch import load_file, save_file

import umedfeat
from umedfeat.errors import SetupError
from umedfeat.pretraining.backbones import freeze_first
from umedfeat.pretraining.run import pretrain, refuse_other_sizes
from umedfeat.pretraining.settings import TrainSettings
from umedfeat.pretraining.start import load_start

KINDS = ("classification", "segmentation", "detection")


def untrained(folder: Path, name: str) -> Path:
    """Weights of a model as its file; nothing is downloaded."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=0)
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, folder / "start.safetensors")
    return folder / "start.safetensors"


@pytest.mark.parametrize(
    ("name", "size"),
    [("mobilenetv3_small_050", 64), pytest.param("swin_tiny_patch4_window7_224", 224, marks=pytest.mark.slow)],
)
def test_one_round_of_every_label_type(tmp_path: Path, name: str, size: int) -> None:
    draw_images(tmp_path / "drawn", patients=3, each=1)
    tasks = write_tasks(tmp_path / "tasks.yaml", tmp_path / "drawn", *KINDS, batch=2)
    settings = TrainSettings(rounds=1, image_sizes=(size,), batch=2, alpha=1.0, warmup=1, holdout=0.3, ema=0.0)
    weights, out = untrained(tmp_path, name), tmp_path / "mine.safetensors"
    pretrain(tasks, out, encoder=f"timm:{name}", weights=weights, settings=settings, device="cpu")
    before, after = load_file(weights), load_file(out)
    assert before.keys() == after.keys()
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    learning = [key for key in before if key.endswith("weight")]
    assert len(moved) > 0.8 * len(learning)
    assert not [key for key in moved if "running" in key]  # statistics stay frozen
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    encoder = umedfeat.load_encoder(weights=out, device="cpu")
    assert encoder(images).shape == (2, encoder.dim)


def test_trainable_equals_frozen(tmp_path: Path) -> None:
    for name, size in (("mobilenetv3_small_050", 96), ("swin_tiny_patch4_window7_224", 224)):
        weights = untrained(tmp_path, name)
        frozen = umedfeat.load_encoder(f"timm:{name}", weights=weights, device="cpu")
        backbone = load_start(f"timm:{name}", weights).backbone
        images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            ours = backbone.vector(backbone.pyramid(images)[-1])
        torch.testing.assert_close(ours, frozen(images), rtol=1e-4, atol=1e-5)

        if size == 224:
            start = SimpleNamespace(name=name, backbone=backbone)
            with pytest.raises(SetupError, match="images of 224 pixels only") as fault:
                refuse_other_sizes(start, TrainSettings(image_sizes=(128, 224)))  # type: ignore[arg-type]
            assert fault.value.remedy == "--image-size 224"


def test_networks_without_a_pyramid_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="stride"):
        load_start("timm:vit_tiny_patch16_224", untrained(tmp_path, "vit_tiny_patch16_224"))


def test_weights_that_would_not_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="brings its own weights"):
        load_start("efficientnet-lite0", tmp_path / "mine.safetensors")


def test_the_last_blocks_alone_learn() -> None:
    backbone = load_start("efficientnet-lite0").backbone
    blocks = backbone.blocks()
    freeze_first(blocks, "last-2")
    assert [all(p.requires_grad for p in block) for block in blocks] == [False] * (len(blocks) - 2) + [True] * 2
    with pytest.raises(SetupError, match=f"the encoder has {len(blocks)} blocks"):
        freeze_first(blocks, f"last-{len(blocks) + 1}")
