"""The whole command, ended at a bad moment: nothing is lost, nothing is left behind, the bytes are the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import RESULT, arguments, kill, left_behind, running_in_group, start, wait_for_lock, write_inputs

from umedfeat.cli import run
from umedfeat.disk.lock import OutputLock
from umedfeat.store import FeatureFile, segment, verify
from umedfeat.store.segment import segment_files


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path_factory.mktemp("key") / "id-key"
    key.write_text("a secret of the test suite")
    monkeypatch.setenv("UMEDFEAT_ID_KEY", str(key))


def test_killed_command(tmp_path: Path) -> None:
    """SIGKILL of the parent or the group: children end by themselves, and the file is that of an undisturbed run."""
    source, scratch = write_inputs(tmp_path / "in", 40, every_reader=False), tmp_path / "scratch"
    assert run(arguments(source, tmp_path / "undisturbed.h5")) == 1
    out, moments = tmp_path / "out" / "feats.h5", random.Random(3)
    out.parent.mkdir()
    kills = 0
    while kills < 2:
        process = start(arguments(source, out), scratch)
        wait_for_lock(out, lambda process=process: process.poll() is None)  # type: ignore[misc]
        kill(process.pid, moments, longest=1.0)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        assert not running_in_group(process.pid)
        assert not left_behind(scratch)
    assert run(arguments(source, out)) == 1
    assert out.read_bytes() == (tmp_path / "undisturbed.h5").read_bytes()
    assert sorted(path.name for path in out.parent.iterdir()) == RESULT


def test_two_commands_on_one_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_inputs(tmp_path / "in", 1, every_reader=False), tmp_path / "feats.h5"
    with OutputLock(out):
        assert run(arguments(source, out)) == 2
    told = capsys.readouterr().err
    assert f"process {os.getpid()} on" in told
    assert "wait for it, choose another --out, or use --shard" in told
    assert not out.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize(("free", "full_at_packing"), [(450_000, False), (900_000, True)])
def test_full_disk(
    small_disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    free: int,
    full_at_packing: bool,
) -> None:
    """Full while segments are written, and full when they are packed: one line, and the next run takes all up."""
    monkeypatch.setattr(segment, "_SEGMENT_BYTES", 60_000)
    monkeypatch.setattr(segment, "_ITEM_BYTES", 0)
    source, out = write_inputs(tmp_path / "in", 40, every_reader=False), small_disk / "feats.h5"
    assert run(arguments(source, tmp_path / "undisturbed.h5")) == 1
    filling = small_disk / "filling"
    filling.write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - free))
    capsys.readouterr()
    assert run(arguments(source, out)) == 2
    told = capsys.readouterr().err
    assert "the disk is full" in told
    assert "free some space and run the same command again: finished inputs are kept" in told
    assert not out.exists()
    assert not list(small_disk.rglob("*.tmp"))
    assert segment_files(out)
    assert all(not verify(path).faults for path in segment_files(out))
    finished = sum(verify(path).items for path in segment_files(out))
    assert (finished == 40) == full_at_packing
    filling.unlink()
    assert run(arguments(source, out)) == 1
    assert "from an earlier run" in capsys.readouterr().out
    assert out.read_bytes() == (tmp_path / "undisturbed.h5").read_bytes()


def test_read_only_folder(small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_inputs(tmp_path / "in", 1, every_reader=False)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert run(arguments(source, small_disk / "feats.h5")) == 2
    told = capsys.readouterr().err
    assert "the folder is not writable" in told
    assert "choose another --out" in told


def test_stop_at_the_first_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, the failure is listed, what was finished is kept, and the failed input is tried again."""
    source, out = write_inputs(tmp_path / "in", 3, every_reader=False), tmp_path / "feats.h5"
    assert run(arguments(source, out, "--on-error", "stop")) == 1
    told = capsys.readouterr().err
    assert "stopped at the first failure: broken.png" in told
    assert "run the same command again to resume" in told
    assert "broken.png" in (tmp_path / "feats.h5.failures.csv").read_text()
    assert not out.exists()
    (source / "broken.png").unlink()
    assert run(arguments(source, out, "--on-error", "stop")) == 0
    assert not (tmp_path / "feats.h5.failures.csv").exists()
    with FeatureFile(out) as file:
        assert (len(file), len(file.failures["source"])) == (3, 0)
