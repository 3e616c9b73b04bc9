"""``--compile`` is an option that never costs a run: it falls back by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lookalike import write_official

from umedfeat.encoders import load_encoder
from umedfeat.encoders.runtimes.torch_runtime import TorchEncoder


def test_a_compiler_that_fails_is_told_once_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: object, **options: object) -> object:
        def run(images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no compiler on this machine")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    write_official(tmp_path / "look.pt.zip")
    plain = load_encoder("umedpt", weights=tmp_path / "look.pt.zip", device="cpu", runtime="torch")
    compiled = load_encoder("umedpt", weights=tmp_path / "look.pt.zip", device="cpu", runtime="torch", compiled=True)
    images = torch.rand(2, 3, 128, 128)
    assert torch.equal(compiled(images), plain(images))
    assert compiled.settings["compiled"] is True
    assert "computing without it" in caplog.text


@pytest.mark.slow
def test_the_network_compiles_and_gives_the_same_vectors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The real compiler on the real formulation, shifted windows and padding included."""
    write_official(tmp_path / "look.pt.zip")
    plain = load_encoder("umedpt", weights=tmp_path / "look.pt.zip", device="cpu", runtime="torch")
    compiled = load_encoder("umedpt", weights=tmp_path / "look.pt.zip", device="cpu", runtime="torch", compiled=True)
    images = torch.rand(3, 3, 150, 130)
    assert (compiled(images) - plain(images)).abs().max() < 1e-5
    assert "computing without it" not in caplog.text


def test_the_last_batch_of_a_compiled_network_is_padded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, where batches are large: a shorter last one would be compiled anew."""
    shapes = []

    def compile_nothing(network: torch.nn.Module, **options: object) -> object:
        def run(images: torch.Tensor) -> torch.Tensor:
            shapes.append(len(images))
            return network(images)  # type: ignore[no-any-return]

        return run

    monkeypatch.setattr(torch, "compile", compile_nothing)
    write_official(tmp_path / "look.pt.zip")
    options = {"weights": tmp_path / "look.pt.zip", "device": "cpu", "runtime": "torch"}
    plain, compiled = (load_encoder("umedpt", compiled=asked, **options) for asked in (False, True))
    assert isinstance(compiled, TorchEncoder)
    for count in (5, 2):
        images = torch.rand(count, 3, 128, 128)
        vectors = compiled._on_gpu(images)
        assert vectors.shape == (count, plain.dim)
        torch.testing.assert_close(vectors, plain(images), atol=1e-5, rtol=0)
    assert shapes == [5, 5]
