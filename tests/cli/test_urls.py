"""Inputs at URLs: the features of the same files on this machine, in bounded scratch space."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_server import serving
from killing import SMALL, write_inputs
from PIL import Image

from umedfeat.cli import run
from umedfeat.engine import staging
from umedfeat.remote import fetch
from umedfeat.store import FeatureFile

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:datetime.datetime.utcnow:DeprecationWarning",
)


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path_factory.mktemp("key") / "id-key"
    key.write_text("a secret of the test suite")
    monkeypatch.setenv("UMEDFEAT_ID_KEY", str(key))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide, a CT series, NIfTI, DICOM and flat images."""
    return write_inputs(tmp_path_factory.mktemp("world") / "in", 5, every_reader=True)


@pytest.fixture
def bucket(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The same in a store that speaks S3, on this machine."""
    pytest.importorskip("s3fs", reason="needs umedfeat[s3]")
    server_module = pytest.importorskip("moto.server", reason="needs moto[server]")
    import boto3

    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "of a test",
        "AWS_SECRET_ACCESS_KEY": "of a test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="cohort")
    folders = {f"in/{path.parent.relative_to(world)}/".replace("/./", "/") for path in world.rglob("*")}
    for name in folders:  # as consoles make them: objects without content
        client.put_object(Bucket="cohort", Key=name, Body=b"")
    for path in sorted(world.rglob("*")):
        if path.is_file():
            client.put_object(Bucket="cohort", Key=f"in/{path.relative_to(world)}", Body=path.read_bytes())
    yield client
    server.stop()


def extract(source: str, out: Path, *options: str) -> int:
    fixed = ["--device", "cpu", "--workers", "2", "--progress", "none", "--include-derived"]
    return run(["extract", "--input", source, "--out", str(out), *SMALL, *fixed, *options])


def same_features(one: Path, other: Path) -> None:
    with FeatureFile(one) as first, FeatureFile(other) as second:
        assert list(first.ids) == list(second.ids)
        for column in ("content_sha256", "patient", "modality", "count", "width"):
            assert list(first.items[column]) == list(second.items[column])
        np.testing.assert_array_equal(first.embeddings, second.embeddings)


def test_a_bucket_is_a_folder(world: Path, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All readers; what was read is removed, and nothing is fetched twice."""
    local, remote, scratch = tmp_path / "local.h5", tmp_path / "remote.h5", tmp_path / "scratch"
    scratch.mkdir()
    fetched: list[Path] = []

    def watched(file: fetch.RemoteFile, stop: Any = None) -> None:
        fetch.fetch(file, stop)
        fetched.append(file.place)

    monkeypatch.setattr(staging, "fetch", watched)
    assert extract(str(world), local) == 1  # one input is damaged
    assert extract("s3://cohort/in/", remote, "--scratch", str(scratch)) == 1
    same_features(local, remote)
    assert not list(scratch.iterdir())
    assert len(fetched) == len(set(fetched))
    with FeatureFile(remote) as file:
        told = {name: json.loads(detail)["remote"] for name, detail in zip(file.ids, file.items["detail"], strict=True)}
    assert max(facts["objects"] for facts in told.values()) == 24  # slices of the CT
    assert all(facts["etag"] and facts["bytes"] for facts in told.values()) and "cohort" not in json.dumps(told)


def test_what_is_done_is_not_fetched_again(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "feats.h5"
    assert extract("s3://cohort/in/image001.png", out) == 0
    before = out.read_bytes()
    monkeypatch.setattr(staging, "fetch", lambda *arguments: pytest.fail("fetched again"))
    assert extract("s3://cohort/in/image001.png", out) == 0
    assert out.read_bytes() == before
    monkeypatch.undo()


def test_a_manifest_of_urls_and_files(world: Path, bucket: Any, tmp_path: Path) -> None:
    shutil.copy(world / "image002.png", tmp_path / "here.png")
    rows = ["path,id,label", "s3://cohort/in/image001.png,far,x", "here.png,near,y"]
    (tmp_path / "study.csv").write_text("\n".join(rows) + "\n")
    assert extract(str(tmp_path / "study.csv"), tmp_path / "feats.h5") == 0
    with FeatureFile(tmp_path / "feats.h5") as file:
        assert sorted(file.ids) == ["far", "near"]


def test_no_room(bucket: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extract("s3://cohort/in/image001.png", tmp_path / "feats.h5", "--scratch-size", "0.001MB") == 1
    told = capsys.readouterr()
    assert "more than the scratch space" in told.out + told.err


def test_a_bucket_that_is_not_there(bucket: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extract("s3://elsewhere/in/", tmp_path / "feats.h5") == 2
    assert "s3://elsewhere/in" in capsys.readouterr().err


def test_a_web_server_that_cuts(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One input comes in spite of it, one never does and is named; the run goes on."""
    pytest.importorskip("aiohttp", reason="needs umedfeat[http]")
    monkeypatch.setattr(fetch, "_PAUSE_SECONDS", 0.01)
    files = {f"/{name}.png": (world / f"{name}.png").read_bytes() for name in ("image001", "image002")}
    with serving(files) as site:
        site.cuts, site.times = 100, 2
        (tmp_path / "urls.csv").write_text("path\n" + "".join(f"{site.url}{name}\n" for name in files))
        assert extract(str(tmp_path / "urls.csv"), tmp_path / "feats.h5") == 0
    with FeatureFile(tmp_path / "feats.h5") as file:
        assert len(file) == 2


def test_an_object_that_no_disk_takes_is_one_failure(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    Image.fromarray(np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3)).save(tmp_path / "a.png")
    picture = (tmp_path / "a.png").read_bytes()
    long = f"/{'x' * 300}.png"
    with serving({"/a.png": picture, long: picture}) as site:
        assert extract(f"{site.url}/a.png", tmp_path / "feats.h5", "--input", f"{site.url}{long}") == 1
    with FeatureFile(tmp_path / "feats.h5") as file:
        assert len(file) == 1 and "File name too long" in file.failures["message"][0]
