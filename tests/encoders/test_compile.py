"""``--compile`` is an option that never costs a run: it falls back by itself."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from lookalike import write_official

from umedfeat.encoders import load_encoder


def test_a_compiler_that_fails_is_told_once_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: object, **options: object) -> object:
        def run(images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no compiler on this machine")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(logging.getLogger("umedfeat"), "propagate", True)
    write_official(tmp_path / "look.pt.zip")
    plain = load_encoder("umedpt", weights=tmp_path / "look.pt.zip", device="cpu", runtime="torch")
    compiled = load_encoder("umedpt", weights=tmp_path / "look.pt.zip", device="cpu", runtime="torch", compile=True)
    images = torch.rand(2, 3, 128, 128)
    assert torch.equal(compiled(images), plain(images))
    assert compiled.settings["compiled"] is True
    assert "computing without it" in caplog.text
