"""Compiled graphs in the cache: taken where they are sound and surely ours, else compiled anew."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from lookalike import write_official

from umedfeat.encoders import load_encoder
from umedfeat.encoders.runtimes import openvino_graphs

openvino = pytest.importorskip("openvino")
PIXELS = np.random.default_rng(0).random((3, 128, 160, 3), dtype=np.float32)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UMEDFEAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was compiled, one word a graph."""
    done: list[str] = []
    former = openvino.Core.compile_model

    def watched(self: Any, *arguments: Any) -> Any:
        done.append("compiled")
        return former(self, *arguments)

    monkeypatch.setattr(openvino.Core, "compile_model", watched)
    return done


def vectors(weights: Path, pixels: npt.NDArray[np.float32] = PIXELS) -> npt.NDArray[np.float32]:
    encoder: Any = load_encoder("umedpt", weights=weights, device="cpu", runtime="openvino")
    result: npt.NDArray[np.float32] = encoder.embed(pixels)
    return result


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    write_official(tmp_path / "look.pt.zip", depths=(2, 2))  # half the blocks to compile
    return tmp_path / "look.pt.zip"


def test_a_graph_is_compiled_once(cache: Path, compiled: list[str], weights: Path) -> None:
    first = vectors(weights)
    (graph,) = cache.glob("*.graph")
    assert (graph.stat().st_mode & 0o777, cache.stat().st_mode & 0o777) == (0o600, 0o700)
    np.testing.assert_array_equal(vectors(weights), first)
    assert compiled == ["compiled"]
    assert list(cache.iterdir()) == [graph]


def test_the_first_look_at_a_tensor_is_not_shared_by_threads(
    cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that came to it together waited for each other for ever, one of four times when provoked."""
    lookers: list[str] = []
    former = openvino.InferRequest.get_input_tensor

    def watched(self: Any, *arguments: Any) -> Any:
        lookers.append(threading.current_thread().name)
        return former(self, *arguments)

    monkeypatch.setattr(openvino.InferRequest, "get_input_tensor", watched)
    vectors(weights)
    assert lookers[0] == threading.current_thread().name
    assert any(name.startswith("openvino") for name in lookers[1:])


def test_other_sizes_and_weights_have_graphs_of_their_own(
    cache: Path, compiled: list[str], weights: Path, tmp_path: Path
) -> None:
    vectors(weights)
    vectors(weights, PIXELS[:, :, :128])
    write_official(tmp_path / "other.pt.zip", out_channels=24, depths=(2, 2))
    assert vectors(tmp_path / "other.pt.zip").shape == (3, 24)
    assert len(compiled) == len(list(cache.glob("*.graph"))) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "folder"])
def test_a_damaged_graph_is_compiled_anew(cache: Path, compiled: list[str], weights: Path, damage: str) -> None:
    first = vectors(weights)
    (graph,) = cache.glob("*.graph")
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes({"cut": content[:1000], "flipped": content}.get(damage, b""))
    if damage == "folder":
        graph.unlink()
        graph.mkdir()
    np.testing.assert_array_equal(vectors(weights), first)
    assert len(compiled) == 2
    if damage != "folder":
        np.testing.assert_array_equal(vectors(weights), first)
        assert len(compiled) == 2


def test_a_graph_of_another_build_is_compiled_anew(cache: Path, compiled: list[str], weights: Path) -> None:
    first = vectors(weights)
    (graph,) = cache.glob("*.graph")
    openvino_graphs._write(graph, b"sound, but nothing that this library has written")
    np.testing.assert_array_equal(vectors(weights), first)
    assert len(compiled) == 2


def test_a_cache_that_anybody_can_write_to_is_not_used(
    cache: Path, compiled: list[str], weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    with caplog.at_level(logging.WARNING, "umedfeat"):
        vectors(weights)
        vectors(weights)
    assert "anybody can write there" in caplog.text
    assert len(compiled) == 2
    assert not list(cache.iterdir())


def test_a_link_is_not_followed(cache: Path, compiled: list[str], weights: Path, tmp_path: Path) -> None:
    vectors(weights)
    (graph,) = cache.glob("*.graph")
    graph.rename(tmp_path / "elsewhere")
    graph.symlink_to(tmp_path / "elsewhere")
    vectors(weights)
    assert len(compiled) == 2


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (weights.parent / "file").touch()
    monkeypatch.setenv("UMEDFEAT_CACHE", str(weights.parent / "file"))
    assert np.isfinite(vectors(weights)).all()


def test_the_graphs_used_last_stay(
    cache: Path, compiled: list[str], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as fit into a bound of bytes."""
    vectors(weights)
    (graph,) = cache.glob("*.graph")
    monkeypatch.setattr(openvino_graphs, "_KEPT_BYTES", int(2.5 * graph.stat().st_size))
    for columns in (144, 160, 128, 160):  # 160 was compiled first; 128 takes the place of 144
        vectors(weights, PIXELS[:, :, :columns])
    assert (len(compiled), len(list(cache.glob("*.graph")))) == (3, 2)
    vectors(weights, PIXELS[:, :, :144])
    assert len(compiled) == 4


def test_the_newest_graph_stays_whatever_its_size(
    cache: Path, compiled: list[str], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_graphs, "_KEPT_BYTES", 1)
    for columns in (144, 160, 160):
        vectors(weights, PIXELS[:, :, :columns])
    assert (len(compiled), len(list(cache.glob("*.graph")))) == (2, 1)
