"""A disk that hangs at one file costs that file."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from umedfeat.discovery import discover, walk
from umedfeat.discovery.patience import Overdue, each_in_time
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.readers.images import reader as flat_images

PSEUDONYMS = Pseudonyms(b"test key")


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Set when the test ends, so that what hangs until then goes on."""
    event = threading.Event()
    yield event
    event.set()


def write_images(folder: Path, count: int) -> None:
    for k in range(count):
        pixels = np.random.default_rng(k).integers(0, 255, (32, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"image{k:02d}.png")


def test_results_keep_their_order_and_only_what_hangs_is_overdue(never: threading.Event) -> None:
    def work(number: int) -> int:
        if number in (3, 40):
            never.wait()
        return number * number

    results = each_in_time(work, range(1000), 0.3)
    assert {number for number, one in enumerate(results) if isinstance(one, Overdue)} == {3, 40}
    assert [one for one in results if not isinstance(one, Overdue)] == [n * n for n in range(1000) if n not in (3, 40)]


def test_a_fault_of_the_work_is_raised() -> None:
    def work(number: int) -> None:
        raise LookupError(number)

    with pytest.raises(LookupError):
        each_in_time(work, [1, 2], 5.0)


def test_a_disk_that_answers_nothing_ends_too(never: threading.Event) -> None:
    results = each_in_time(lambda _: never.wait(), range(50), 0.05)
    assert all(isinstance(one, Overdue) for one in results)


def test_one_of_sixty_files_hangs_and_the_others_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, never: threading.Event
) -> None:
    write_images(tmp_path, 60)

    def hang_at_one(path: Path, head: bytes) -> str:
        if path.name == "image17.png":
            never.wait()
        return "raster"

    monkeypatch.setattr(walk, "sniff", hang_at_one)
    found = discover([tmp_path], Policy(), PSEUDONYMS, seconds=0.3)
    assert len(found.sources) == 59
    assert [failure.source for failure in found.failures] == ["image17.png"]
    assert "no answer within" in found.failures[0].message


def test_a_file_that_hangs_while_its_format_is_grouped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, never: threading.Event
) -> None:
    write_images(tmp_path, 5)
    collect = flat_images.collect

    def hang_at_one(found: list[object], policy: Policy, pseudonyms: Pseudonyms) -> object:
        if any("image03" in str(file) for file in found):
            never.wait()
        return collect(found, policy, pseudonyms)  # type: ignore[arg-type]

    monkeypatch.setattr(flat_images, "collect", hang_at_one)
    monkeypatch.setattr(sys.modules["umedfeat.discovery.discover"], "_SECONDS_A_FILE", 0.0)
    found = discover([tmp_path], Policy(), PSEUDONYMS, seconds=0.3)
    assert [source.id for source in found.sources] == ["image00", "image01", "image02", "image04"]
    assert [failure.source for failure in found.failures] == ["image03.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_never_opened(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    found = discover([tmp_path], Policy(), PSEUDONYMS, seconds=5)
    assert [source.id for source in found.sources] == ["image00"]
    assert {skipped.name for skipped in found.skipped} == {"pipe.png", "link.png"}


def test_folders_that_are_not_searched_are_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write_images(tmp_path / "elsewhere", 1)
    write_images(tmp_path / "in", 1)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    found = discover([tmp_path / "in"], Policy(), PSEUDONYMS)
    assert [(s.name, s.reason) for s in found.skipped] == [("link", "a link to a folder, which is not followed")]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_a_failure(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    (tmp_path / "closed").mkdir(mode=0)
    found = discover([tmp_path], Policy(), PSEUDONYMS)
    (tmp_path / "closed").chmod(0o700)
    assert [failure.source for failure in found.failures] == ["closed"]
