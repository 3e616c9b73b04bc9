"""Sources at URLs: within the room there is, removed when read, a fault costs its source; local ones pass through."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fake_reader import fake_source

from umedfeat.contract import Source
from umedfeat.engine import staging
from umedfeat.engine.messages import Unavailable
from umedfeat.engine.staging import Staged
from umedfeat.engine.supply import Listed
from umedfeat.errors import UnreadableInput
from umedfeat.remote.address import Address
from umedfeat.remote.fetch import RemoteFile


class Network:
    """Fetches at once; remembers how much lay on the disk at most, as a disk would count it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.most = 0
        self.fetched: list[str] = []
        self.guard = threading.Lock()

    def fetch(self, file: RemoteFile, stop: threading.Event) -> None:
        if file.place.name.startswith("bad"):
            raise UnreadableInput(f"{file.place.name}: cannot be fetched")
        with self.guard:
            file.place.write_bytes(b"x" * file.size)
            self.fetched.append(file.place.name)
            self.most = max(self.most, sum(map(self._bytes, self.folder.iterdir())))

    @staticmethod
    def _bytes(path: Path) -> int:
        try:
            return path.stat().st_size
        except FileNotFoundError:  # released since the folder was listed
            return 0

    def source(self, name: str, *sizes: int, shared: str = "") -> Source:
        files = [self._file(shared or f"{name}-{number}", size) for number, size in enumerate(sizes)]
        return replace(fake_source(name), remote=tuple(files))

    def _file(self, name: str, size: int) -> RemoteFile:
        return RemoteFile(Address(f"s3://b/{name}", f"b/{name}", "s3"), size, "tag", self.folder / name)


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    made = Network(tmp_path)
    monkeypatch.setattr(staging, "fetch", made.fetch)
    return made


def work_off(staged: Staged) -> list[Source | Unavailable]:
    """Take and release, one at a time, as a loop does."""
    taken: list[Source | Unavailable] = []
    end = time.monotonic() + 30
    while not staged.ended and time.monotonic() < end:
        if (found := staged.take()) is None:
            time.sleep(0.001)
            continue
        taken.append(found)
        if isinstance(found, Source):
            assert all(file.place.exists() for file in found.remote)
            staged.release(found)
    staged.close()
    return taken


def test_never_more_than_there_is_room_for(network: Network) -> None:
    sources = [network.source(f"s{number}", 40, 20) for number in range(30)]
    taken = work_off(Staged(Listed(sources), room=130))
    assert {source.id for source in taken if isinstance(source, Source)} == {source.id for source in sources}
    assert 60 <= network.most <= 130
    assert not list(network.folder.iterdir())


def test_what_several_sources_share_is_fetched_once_while_it_is_here(network: Network) -> None:
    sources = [network.source(name, 50, shared="volume") for name in ("a", "b", "c")]
    staged = Staged(Listed(sources), room=60)
    found: list[Source] = []
    while len(found) < 3:
        if isinstance(one := staged.take(), Source):
            found.append(one)
    assert network.fetched == ["volume"]
    for source in found[:2]:
        staged.release(source)
        assert (network.folder / "volume").exists()
    staged.release(found[2])
    assert not (network.folder / "volume").exists() and staged.ended
    staged.close()


def test_what_cannot_be_fetched_costs_itself(network: Network) -> None:
    taken = work_off(
        Staged(Listed([network.source("a", 9), network.source("bad", 9), network.source("c", 9)]), room=20)
    )
    (fault,) = [found for found in taken if isinstance(found, Unavailable)]
    assert fault.source.id == "bad" and "cannot be fetched" in fault.error.message
    assert not list(network.folder.iterdir())


def test_what_is_larger_than_the_room_is_told_so(network: Network) -> None:
    taken = work_off(Staged(Listed([network.source("huge", 2000), network.source("a", 9)]), room=1000))
    (fault,) = [found for found in taken if isinstance(found, Unavailable)]
    assert fault.source.id == "huge" and "--scratch-size" in fault.error.remedy
    assert network.fetched == ["a-0"]


def test_local_sources_pass_through(network: Network) -> None:
    sources = [fake_source(name) for name in "abc"]
    assert work_off(Staged(Listed(sources), room=0)) == sources
