"""State dicts in the layout of torch before 1.6: torch's own tensors, and refusals of everything else."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from umedfeat.encoders.weights.old_layout import read_old_layout
from umedfeat.errors import CheckpointRefused


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture
def state() -> OrderedDict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    whole = torch.rand(6, 4, generator=generator)
    return OrderedDict(
        weight=torch.rand(3, 2, 5, 5, generator=generator),
        turned=whole.t(),
        row=whole[2],
        half=torch.rand(7, generator=generator).half(),
        rough=torch.rand(7, generator=generator).bfloat16(),
        double=torch.rand(2, generator=generator).double(),
        count=torch.tensor(12345678901),
        parameter=torch.nn.Parameter(torch.ones(2)),
    )


def test_tensors_are_torchs(tmp_path: Path, state: OrderedDict[str, torch.Tensor]) -> None:
    found = read_old_layout(saved(tmp_path / "state.pth", state))
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert found[name].dtype == (np.int64 if name == "count" else np.float32)
        np.testing.assert_array_equal(
            found[name], tensor.detach().to(torch.int64 if name == "count" else torch.float32)
        )


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("was executed",)


def test_nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointRefused, match=r"bad\.pth"):
        read_old_layout(saved(tmp_path / "bad.pth", {"weight": torch.zeros(2), "evil": Evil()}))
    assert not (tmp_path / "was executed").exists()


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"nested": {"weight": torch.zeros(2)}}, {"epoch": 3}, 7])
def test_other_objects_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(CheckpointRefused, match=r"bad\.pth"):
        read_old_layout(saved(tmp_path / "bad.pth", content))


def test_other_layouts_are_refused(tmp_path: Path, state: OrderedDict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(CheckpointRefused, match=r"bad\.pth: no state dict in the layout"):
        read_old_layout(tmp_path / "bad.pth")
    with pytest.raises(CheckpointRefused, match=r"none\.pth: damaged"):
        read_old_layout(tmp_path / "none.pth")


@pytest.mark.parametrize("value", [float("nan"), 1e300], ids=["nan", "beyond float32"])
def test_what_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    weight = torch.tensor([1.0, value], dtype=torch.float64)
    with pytest.raises(CheckpointRefused, match="NaN or infinity in weight"):
        read_old_layout(saved(tmp_path / "bad.pth", {"weight": weight}))


def test_every_cut_is_refused(tmp_path: Path, state: OrderedDict[str, torch.Tensor]) -> None:
    whole = saved(tmp_path / "state.pth", state).read_bytes()
    for length in [*range(0, len(whole) - 1, 37), len(whole) - 1]:
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(CheckpointRefused, match=r"cut\.pth"):
            read_old_layout(tmp_path / "cut.pth")


def test_flipped_bytes_give_tensors_or_a_refusal(tmp_path: Path, state: OrderedDict[str, torch.Tensor]) -> None:
    whole = bytearray(saved(tmp_path / "state.pth", state).read_bytes())
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(whole), 400):
        damaged = whole.copy()
        damaged[place] ^= int(generator.integers(1, 256))
        (tmp_path / "flipped.pth").write_bytes(damaged)
        try:
            found = read_old_layout(tmp_path / "flipped.pth")
        except CheckpointRefused:
            continue
        assert all(isinstance(array, np.ndarray) for array in found.values())


@pytest.mark.parametrize("fault", ["count", "huge", "doubled"])
def test_storages_are_what_the_tensors_say(tmp_path: Path, fault: str) -> None:
    """A storage of another length, one larger than any file, and one key for two kinds of numbers."""
    path = saved(tmp_path / "bad.pth", {"first": torch.zeros(4), "second": torch.zeros(4, dtype=torch.float64)})
    content = path.read_bytes()
    if fault == "count":
        place = content.rindex(struct.pack("<q", 4))
        path.write_bytes(content[:place] + struct.pack("<q", 5) + content[place + 8 :])
    elif fault == "huge":
        path.write_bytes(written({"w": ("1", 2**39, (2**39,))}, {"1": 2**39}))
    else:
        path.write_bytes(written({"v": ("1", 4, (4,)), "w": ("1", 8, (8,))}, {"1": 4}))
    with pytest.raises(CheckpointRefused, match=r"bad\.pth: refused"):
        read_old_layout(path)


def written(tensors: dict[str, tuple[str, int, tuple[int, ...]]], storages: dict[str, int]) -> bytes:
    """A file whose object stream says what it is told: name → (key, elements of its storage, shape)."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            return ("storage", torch.FloatStorage, *thing.value, None) if isinstance(thing, Stored) else None

    class Stored:
        def __init__(self, key: str, count: int) -> None:
            self.value = (key, "cpu", count)

    class View:
        def __init__(self, key: str, count: int, shape: tuple[int, ...]) -> None:
            self.arguments = (Stored(key, count), 0, shape, (1,), False, OrderedDict())

        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, self.arguments

    stream = io.BytesIO()
    for thing in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(thing, stream, protocol=2)
    Pickler(stream, protocol=2).dump({name: View(*told) for name, told in tensors.items()})
    pickle.dump(list(storages), stream, protocol=2)
    for count in storages.values():
        stream.write(struct.pack("<q", count) + b"\0" * min(4 * count, 64))
    return stream.getvalue()
