"""``--engine ray``: the bytes of a local run, whatever happens, or a named error."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from film_model import write_films
from hostile_server import serving
from killing import arguments, start, write_inputs
from PIL import Image
from ray_cluster import a_cluster

from umedfeat.cli import run
from umedfeat.store.segment import segment_files

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
    with a_cluster(cpus=2) as made:
        yield made


def on(cluster: Any, *options: str) -> list[str]:
    return ["--engine", "ray", "--ray-address", cluster.address, *options]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(port)


def test_undisturbed_the_bytes_of_a_local_run(cluster: Any, tmp_path: Path) -> None:
    source = write_inputs(tmp_path / "in", 12, every_reader=False)
    assert run(arguments(source, tmp_path / "local.h5")) == 1  # one input is damaged
    assert run(arguments(source, tmp_path / "ray.h5", *on(cluster))) == 1
    assert (tmp_path / "ray.h5").read_bytes() == (tmp_path / "local.h5").read_bytes()
    told = json.loads((tmp_path / "ray.h5.run.json").read_text())
    assert sum(told["nodes"].values()) == 12 and told["lost_leases"] == 0 and told["engine"] == "ray"


@pytest.mark.slow
@pytest.mark.parametrize("results", ["driver", "shared"])
def test_every_reader(cluster: Any, tmp_path: Path, results: str) -> None:
    source = write_inputs(tmp_path / "in", 6, every_reader=True)
    assert run(arguments(source, tmp_path / "local.h5")) == 1
    assert run(arguments(source, tmp_path / "ray.h5", *on(cluster, "--ray-results", results))) == 1
    assert (tmp_path / "ray.h5").read_bytes() == (tmp_path / "local.h5").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("results", ["driver", "shared"])
def test_interrupted_and_called_again(cluster: Any, tmp_path: Path, results: str) -> None:
    source = write_inputs(tmp_path / "in", 400, every_reader=False)
    scratch, out = tmp_path / "scratch", tmp_path / "ray.h5"
    assert run(arguments(source, tmp_path / "local.h5")) == 1
    options = on(cluster, "--ray-results", results)
    process = start(arguments(source, out, *options, "--progress", "json"), scratch)
    assert process.stdout is not None
    for line in process.stdout:
        if "regions_done" in line and json.loads(line)["regions_done"] > 20:
            break
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert segment_files(out)
    assert run(arguments(source, out, *options)) == 1
    assert out.read_bytes() == (tmp_path / "local.h5").read_bytes()
    assert json.loads((tmp_path / "ray.h5.run.json").read_text())["inputs"]["resumed"] > 0


@pytest.mark.slow
def test_two_keys(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out, other = write_inputs(tmp_path / "in", 2, every_reader=True), tmp_path / "feats.h5", tmp_path / "key"
    other.write_text("a secret of quite another site")
    assert run(arguments(source, out, *on(cluster))) == 1
    before = out.read_bytes()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(source / "new.png")
    assert run(arguments(source, out, *on(cluster, "--id-key", str(other)))) == 2
    assert "key" in capsys.readouterr().err
    assert out.read_bytes() == before


@pytest.mark.slow
def test_another_version(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("umedfeat.engine.ray.members.__version__", "9.9.9")
    source = write_inputs(tmp_path / "in", 1, every_reader=False)
    assert run(arguments(source, tmp_path / "feats.h5", *on(cluster))) == 2
    told = capsys.readouterr().err
    assert "this machine 9.9.9" in told and "install the same version on every node" in told
    assert not (tmp_path / "feats.h5").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:--encoder random is untrained")
def test_predict_embeds_on_the_cluster(cluster: Any, tmp_path: Path) -> None:
    films = write_films(tmp_path)
    asked = ["predict", str(films / "new"), "--model", str(films / "model.safetensors"), "--device", "cpu"]
    assert run([*asked, "--out", str(tmp_path / "local")]) == 0
    assert run([*asked, "--out", str(tmp_path / "ray"), *on(cluster)]) == 0
    for name in ("predictions.csv", "feats.h5"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    assert json.loads((tmp_path / "ray" / "feats.h5.run.json").read_text())["engine"] == "ray"
    assert run([*asked, "--out", str(tmp_path / "shard"), *on(cluster, "--shard", "1/2")]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("results", ["driver", "shared"])
def test_nodes_fetch_what_lies_at_urls(cluster: Any, tmp_path: Path, results: str) -> None:
    pytest.importorskip("aiohttp", reason="needs umedfeat[http]")
    source, scratch = write_inputs(tmp_path / "in", 12, every_reader=True), tmp_path / "scratch"
    scratch.mkdir()
    paths = [path for path in sorted(source.rglob("*")) if path.suffix in {".png", ".tif", ".tiff", ".gz"}]
    files = {f"/{path.relative_to(source)}": path.read_bytes() for path in paths}
    with serving(files) as site:
        (tmp_path / "urls.csv").write_text("path\n" + "".join(f"{site.url}{name}\n" for name in files))
        given = tmp_path / "urls.csv"
        assert run(arguments(given, tmp_path / "local.h5")) == 1  # one input is damaged
        options = on(cluster, "--ray-results", results, "--scratch", str(scratch))
        assert run(arguments(given, tmp_path / "ray.h5", *options)) == 1
    assert (tmp_path / "ray.h5").read_bytes() == (tmp_path / "local.h5").read_bytes()
    assert not list(scratch.iterdir())


@pytest.mark.slow
def test_a_client_outside_the_cluster(tmp_path: Path) -> None:
    """``ray://``: the driver is no node of the cluster."""
    pytest.importorskip("grpc", reason="needs umedfeat[ray]")
    source, port = write_inputs(tmp_path / "in", 12, every_reader=False), free_port()
    assert run(arguments(source, tmp_path / "local.h5")) == 1
    with a_cluster(cpus=1, ray_client_server_port=port):
        wait_for(port)
        given = arguments(source, tmp_path / "ray.h5", "--engine", "ray", "--ray-address", f"ray://127.0.0.1:{port}")
        assert run(given) == 1
    assert (tmp_path / "ray.h5").read_bytes() == (tmp_path / "local.h5").read_bytes()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "auto"])
def test_without_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    pytest.importorskip("ray", reason="needs umedfeat[ray]")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    source = write_inputs(tmp_path / "in", 1, every_reader=False)
    assert run(arguments(source, tmp_path / "feats.h5", "--engine", "ray", "--ray-address", address)) == 2
    assert "ray start --head" in capsys.readouterr().err
    assert not (tmp_path / "feats.h5").exists()


def test_a_key_is_not_made_on_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UMEDFEAT_ID_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    source = write_inputs(tmp_path / "in", 1, every_reader=False)
    assert run(arguments(source, tmp_path / "feats.h5", "--engine", "ray")) == 2
    assert "umedfeat key new" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--engine", "ray", "--shard", "1/2"], "two ways to divide one run"),
        (["--ray-workers", "3", "--cpus-per-worker", "2"], "--ray-workers, --cpus-per-worker: of a cluster"),
    ],
)
def test_options_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    assert run(arguments(tmp_path, tmp_path / "feats.h5", *options)) == 2
    assert told in capsys.readouterr().err
