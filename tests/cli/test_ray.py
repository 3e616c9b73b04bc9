"""``--engine ray``: the bytes of a local run, whatever dies, or a named error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killing import arguments, write_inputs
from ray_cluster import a_cluster

from umedfeat.cli import run
from umedfeat.store import FeatureFile

pytestmark = [
    # Ray leaves its log files and sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path_factory.mktemp("key") / "id-key"
    key.write_text("a secret of the test suite")
    monkeypatch.setenv("UMEDFEAT_ID_KEY", str(key))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with a_cluster(nodes=2) as made:
        yield made


def on(cluster: Any, *options: str) -> list[str]:
    return ["--engine", "ray", "--ray-address", cluster.address, *options]


@pytest.mark.parametrize("results", ["driver", "shared"])
def test_undisturbed_the_bytes_of_a_local_run(cluster: Any, tmp_path: Path, results: str) -> None:
    source = write_inputs(tmp_path / "in", 12, every_reader=results == "driver")
    assert run(arguments(source, tmp_path / "local.h5")) == 1  # one input is damaged
    assert run(arguments(source, tmp_path / "ray.h5", *on(cluster, "--ray-results", results))) == 1
    assert (tmp_path / "ray.h5").read_bytes() == (tmp_path / "local.h5").read_bytes()
    with FeatureFile(tmp_path / "ray.h5") as file:
        assert len(file) >= 12


def test_without_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs umedfeat[ray]")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    source = write_inputs(tmp_path / "in", 1, every_reader=False)
    assert run(arguments(source, tmp_path / "feats.h5", "--engine", "ray", "--ray-address", "127.0.0.1:1")) == 2
    assert "ray start --head" in capsys.readouterr().err
    assert not (tmp_path / "feats.h5").exists()
