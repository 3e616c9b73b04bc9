"""Sound files of all generations are read; what is not known is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lookalike import write_official

from umedfeat.encoders import load_encoder
from umedfeat.encoders.weights.checkpoint import read_checkpoint
from umedfeat.encoders.weights.safetensors_io import write_safetensors
from umedfeat.errors import CheckpointRefused


@pytest.mark.parametrize(("pool", "generation"), [("pool", "1.0.4 or later"), ("avg", "1.0.3 or earlier")])
@pytest.mark.parametrize("out_channels", [16, -1])
def test_both_generations_with_and_without_convolution(
    tmp_path: Path, pool: str, generation: str, out_channels: int
) -> None:
    path = tmp_path / "look.pt.zip"
    network = write_official(path, pool=pool, out_channels=out_channels)
    checkpoint = read_checkpoint(path)
    assert checkpoint.config.generation == generation
    assert checkpoint.config.dim == (16 if out_channels > 0 else 64)
    assert checkpoint.config.depths == (2, 2, 2, 2)
    assert checkpoint.config.window == 4
    for name, value in network.state_dict().items():
        if "relative_" not in name:
            assert torch.equal(checkpoint.tensors[f"encoder.{name}"], value)


def test_sizes_come_from_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "look.pt.zip"
    write_official(path, embed=16, depths=(2, 4, 2), window=2)
    config = read_checkpoint(path).config
    assert (config.embed_dim, config.depths, config.num_heads, config.window) == (16, (2, 4, 2), (2, 4, 8), 2)


def test_extra_pyramid_channels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "look.pt.zip"
    write_official(path, pyramid_channels=(32,))
    with pytest.raises(CheckpointRefused, match="pyramid channels"):
        read_checkpoint(path)


def test_safetensors_round_trip_gives_the_same_vectors(tmp_path: Path) -> None:
    path, copy = tmp_path / "look.pt.zip", tmp_path / "copy.safetensors"
    write_official(path)
    write_safetensors(read_checkpoint(path), copy)
    images = torch.rand(3, 3, 64, 64)
    first, second = (load_encoder("umedpt", weights=file, device="cpu")(images) for file in (path, copy))
    assert torch.equal(first, second)
    write_safetensors(read_checkpoint(copy), tmp_path / "again.safetensors")
    assert copy.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_the_order_of_pooling_is_the_registrys_and_can_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "look.pt.zip"
    write_official(path)
    images = torch.rand(2, 3, 64, 64)
    default = load_encoder("umedpt", weights=path, device="cpu")
    first = load_encoder("umedpt", weights=path, device="cpu", pool_order="pool_first")
    last = load_encoder("umedpt", weights=path, device="cpu", pool_order="pool_last")
    assert default.settings["pool_order"] == "pool_first"
    assert torch.equal(default(images), first(images))
    assert (first(images) - last(images)).abs().max() > 1e-3


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\3\4 no zip", b"\x10\0\0\0\0\0\0\0{not json"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pt.zip"
    path.write_bytes(content)
    with pytest.raises(CheckpointRefused):
        read_checkpoint(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match=r"nothing\.pt\.zip"):
        read_checkpoint(tmp_path / "nothing.pt.zip")
