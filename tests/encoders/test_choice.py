"""What --device names."""

from __future__ import annotations

import pytest
import torch

from umedfeat.encoders import choice
from umedfeat.encoders.choice import EncoderChoice, device_names
from umedfeat.errors import SetupError


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(choice, "may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cpu", ("cpu",)),
        ("cpu,cpu", ("cpu", "cpu")),
        ("cuda", ("cuda:0",)),
        ("cuda:0,1", ("cuda:0", "cuda:1")),
        ("cuda:0, cuda:3", ("cuda:0", "cuda:3")),
        ("auto", ("cuda:0", "cuda:1")),
        ("all", ("cuda:0", "cuda:1")),
        ("cuda:all", ("cuda:0", "cuda:1")),
    ],
)
def test_names(monkeypatch: pytest.MonkeyPatch, text: str, names: tuple[str, ...]) -> None:
    with_gpus(monkeypatch, 2)
    assert device_names(text) == names
    assert [one.device for one in EncoderChoice("random", device=text).each()] == list(names)


def test_a_machine_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 0)
    assert device_names("auto") == ("cpu",)
    with pytest.raises(SetupError, match="no CUDA device is visible"):
        device_names("all")


@pytest.mark.parametrize("text", ["cuda:0,0", "cuda,cuda:0", "cpu,", ""])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(SetupError, match="every device once"):
        device_names(text)
