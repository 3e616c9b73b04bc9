"""Half precision: what stays in float32, how far it agrees, and what is chosen where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lookalike import write_official
from torch.nn import functional

from umedfeat.encoders import load_encoder
from umedfeat.encoders.networks import swin
from umedfeat.encoders.runtimes import choosing
from umedfeat.encoders.runtimes.choosing import choose_precision
from umedfeat.encoders.umedpt import build_network
from umedfeat.encoders.weights.checkpoint import read_checkpoint
from umedfeat.errors import SetupError
from umedfeat.machine import has_bfloat16


def test_norms_directions_and_squeezer_stay_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast, as on a GPU: products are bfloat16; norms, q/k normalisation and squeezer are not."""
    write_official(tmp_path / "look.pt.zip")
    network = build_network(read_checkpoint(tmp_path / "look.pt.zip"), "pool_last")
    seen: dict[str, set[torch.dtype]] = {"norm": set(), "direction": set(), "attention": set()}
    norm, length, attention = functional.layer_norm, swin._length, functional.scaled_dot_product_attention

    def watched_norm(*arguments: Any) -> torch.Tensor:
        result = norm(*arguments)
        seen["norm"].add(result.dtype)
        return result

    def watched_length(vectors: torch.Tensor) -> torch.Tensor:
        seen["direction"].add(vectors.dtype)
        return length(vectors)

    def watched_attention(*arguments: torch.Tensor, attn_mask: torch.Tensor, **options: Any) -> torch.Tensor:
        seen["attention"] |= {tensor.dtype for tensor in (*arguments, attn_mask)}
        return attention(*arguments, attn_mask=attn_mask, **options)

    monkeypatch.setattr(swin.functional, "layer_norm", watched_norm)
    monkeypatch.setattr(swin.functional, "scaled_dot_product_attention", watched_attention)
    monkeypatch.setattr(swin, "_length", watched_length)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        vectors = network(torch.rand(2, 3, 150, 130))
    assert vectors.dtype == torch.float32
    assert seen == {"norm": {torch.float32}, "direction": {torch.float32}, "attention": {torch.bfloat16}}


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_bfloat16_agrees(ref_dir: Path, monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
        if not has_bfloat16():
            pytest.skip("this processor emulates bfloat16, and OpenVINO then computes in fp32")
    monkeypatch.setattr(choosing, "has_bfloat16", lambda: True)
    weights = ref_dir / "v104_swin_tiny_h512_cuda.pt.zip"
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    encoders = [
        load_encoder("umedpt", weights=weights, device="cpu", precision=precision, runtime=runtime)
        for precision in ("bf16", "fp32")
    ]
    assert [encoder.settings["precision"] for encoder in encoders] == ["bf16", "fp32"]
    half, full = (encoder(images) for encoder in encoders)
    assert functional.cosine_similarity(half, full).min() >= 0.9999
    assert not torch.equal(half, full)


@pytest.mark.parametrize(
    ("asked", "device", "has_bf16", "chosen"),
    [
        ("auto", "cpu", False, "fp32"),
        ("auto", "cuda:0", True, "bf16"),
        ("auto", "cuda:0", False, "fp32"),
        ("fp16", "cuda:0", True, "fp16"),
        ("bf16", "cpu", False, "bf16"),
    ],
)
def test_what_is_chosen(monkeypatch: pytest.MonkeyPatch, asked: str, device: str, has_bf16: bool, chosen: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bf16)
    monkeypatch.setattr(choosing, "has_bfloat16", lambda: True)
    assert choose_precision(asked, device) == chosen


def test_what_is_not_to_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "has_bfloat16", lambda: False)
    with pytest.raises(SetupError, match="would emulate it"):
        choose_precision("bf16", "cpu")
    with pytest.raises(SetupError, match="needs a GPU"):
        choose_precision("fp16", "cpu")
    with pytest.raises(SetupError, match="precision"):
        choose_precision("int8", "cpu")
