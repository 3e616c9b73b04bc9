"""Objects come whole or not at all, whatever the server does; what is wrong is told by name."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hostile_server import Site, serving

from umedfeat.errors import SetupError, UnreadableInput
from umedfeat.remote import address, fetch
from umedfeat.remote.address import address_of, is_url
from umedfeat.remote.fetch import RemoteFile, facts_of_remote
from umedfeat.remote.mirror import Mirror

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(fetch, "_CHUNK", 1_000_000)
    monkeypatch.setattr(address, "STALL_SECONDS", 1.0)


def listed(site: Site, folder: Path, name: str = "/a/slide.bin") -> RemoteFile:
    mirror = Mirror(folder)
    mirror.add(site.url + name)
    (file,) = mirror.files.values()
    assert not mirror.faults
    return file


def test_what_is_a_url() -> None:
    assert is_url("s3://bucket/x") and is_url(Path("s3://bucket/x")) and not is_url("folder/x") and not is_url("/a:/b")
    assert address_of(Path("s3a://bucket/x.svs")).url == "s3://bucket/x.svs"
    assert address_of("https://host/x.svs?sig=secret").name == "host/x.svs"
    with pytest.raises(SetupError, match="ftp:// is not read"):
        address_of("ftp://host/x")
    with pytest.raises(SetupError, match="user name or password") as told:
        address_of("https://me:secret@host/x")
    assert "secret" not in str(told.value)


def test_an_object_comes_whole(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with serving({"/a/slide.bin": CONTENT}) as site:
        file = listed(site, tmp_path)
        assert file.place.stat().st_size == len(CONTENT)  # the stub has the size, and takes no room
        assert file.place.stat().st_blocks * 512 < len(CONTENT) / 2
        times = file.place.stat().st_mtime_ns
        fetch.fetch(file)
    assert file.place.read_bytes() == CONTENT and file.place.stat().st_mtime_ns == times == file.time_ns
    assert facts_of_remote([file])["bytes"] == len(CONTENT) and facts_of_remote([file])["etag"] == file.tag


@pytest.mark.parametrize("stalls", [0.0, 3.0], ids=["cut", "stalled"])
def test_a_connection_that_is_cut_or_stalls(tmp_path: Path, stalls: float) -> None:
    pytest.importorskip("aiohttp")
    with serving({"/a/slide.bin": CONTENT}) as site:
        file = listed(site, tmp_path)
        site.cuts, site.stalls, site.times = 1000, stalls, site.asked["/a/slide.bin"] + 2
        fetch.fetch(file)
    assert file.place.read_bytes() == CONTENT


def test_a_server_without_ranges(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with serving({"/a/slide.bin": CONTENT}) as site:
        site.ranges = False
        file = listed(site, tmp_path)
        fetch.fetch(file)
    assert file.place.read_bytes() == CONTENT


def test_a_server_that_never_gives_it(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with serving({"/a/slide.bin": CONTENT}) as site:
        file = listed(site, tmp_path)
        site.cuts, site.times = 1000, 10**6
        with pytest.raises(UnreadableInput, match=r"a/slide\.bin: cannot be fetched"):
            fetch.fetch(file)
    assert [path.name for path in file.place.parent.iterdir()] == ["slide.bin"]  # the stub; no half file


def test_an_object_that_changes_meanwhile(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with serving({"/a/slide.bin": CONTENT}) as site:
        file = listed(site, tmp_path)
        site.files["/a/slide.bin"] = CONTENT[::-1]
        with pytest.raises(UnreadableInput, match="changed while it was fetched"):
            fetch.fetch(file)


@pytest.mark.parametrize(
    ("status", "told"),
    [(404, "not there"), (403, "no permission"), (401, "no permission"), (451, "the server says 451")],
)
def test_an_object_that_is_not_given_is_asked_for_once_and_the_reason_told(
    status: int, told: str, tmp_path: Path
) -> None:
    pytest.importorskip("aiohttp")
    with serving({"/a/slide.bin": CONTENT}) as site:
        site.says = [status] * 2  # to HEAD and to GET
        with pytest.raises(SetupError, match=rf"http://127.*/a/slide\.bin: {told}"):
            listed(site, tmp_path)
        file = listed(site, tmp_path)
        site.says = [status]
        with pytest.raises(UnreadableInput, match=rf"a/slide\.bin: {told}"):
            fetch.fetch(file)
        assert not site.says


def test_a_server_that_is_busy_is_asked_again(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with serving({"/a/slide.bin": CONTENT}) as site:
        site.says = [503, 503, 429, 429]
        file = listed(site, tmp_path)
        site.says = [429, 500, 502]
        fetch.fetch(file)
        assert file.place.read_bytes() == CONTENT
        site.says = [503] * 100
        with pytest.raises(UnreadableInput, match=r"cannot be fetched \(the server says 503\)"):
            fetch.fetch(file)


def test_a_server_that_nobody_runs_is_told_as_that(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(SetupError, match=r"http://127\.0\.0\.1:9/x: cannot be fetched \(ClientConnectorError\)"):
        Mirror(tmp_path).add("http://127.0.0.1:9/x")


def test_a_name_that_no_disk_takes_is_a_fault_of_one_object(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    long = f"/a/{'x' * 300}.png"
    with serving({long: CONTENT, "/a/slide.bin": CONTENT}) as site:
        mirror = Mirror(tmp_path)
        mirror.add(site.url + long, site.url + "/a/slide.bin")
    (fault,) = mirror.faults.values()
    assert "xxx.png: cannot be put to" in fault.message and "File name too long" in fault.message


@pytest.mark.parametrize(("url", "module", "extra"), [("s3://b/x", "s3fs", "s3"), ("https://h/x", "aiohttp", "http")])
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, url: str, module: str, extra: str) -> None:
    known = import_module("fsspec.registry")._registry
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(known, url.partition(":")[0], raising=False)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    with pytest.raises(SetupError, match=rf"URLs need umedfeat\[{extra}\]"):
        address.file_system(address_of(url))
