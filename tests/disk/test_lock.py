"""One writer per output; dead writers do not block."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from umedfeat.disk import lock as module
from umedfeat.disk.lock import OutputLock
from umedfeat.errors import OutputError


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "feats.h5"


def _leave(out: Path, **holder: object) -> Path:
    path = out.with_name(out.name + ".lock")
    path.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "began": "", "token": "x"} | holder))
    return path


def test_second_writer_is_refused_and_the_first_is_named(out: Path) -> None:
    with OutputLock(out), pytest.raises(OutputError, match=f"process {os.getpid()} on"), OutputLock(out):
        pass
    with OutputLock(out):
        pass
    assert list(out.parent.iterdir()) == []


def test_dead_process_is_taken_over(out: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    _leave(out, pid=gone.pid)
    with OutputLock(out) as lock:
        lock.check()
    assert list(out.parent.iterdir()) == []


def test_process_number_used_again_is_not_the_old_process(out: Path) -> None:
    _leave(out, began="1")
    with OutputLock(out):
        pass


def test_other_machine_is_believed_while_it_beats(out: Path) -> None:
    path = _leave(out, host="elsewhere", pid=1)
    with pytest.raises(OutputError, match="process 1 on elsewhere"), OutputLock(out):
        pass
    old = time.time() - 1000
    os.utime(path, (old, old))
    with OutputLock(out):
        pass


def test_heartbeat(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BEAT_SECONDS", 0.01)
    with OutputLock(out) as lock:
        os.utime(lock.path, (0, 0))
        deadline = time.monotonic() + 5
        while lock.path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lock.path.stat().st_mtime > 0


def test_stolen_lock_is_noticed_and_left_alone(out: Path) -> None:
    with OutputLock(out) as lock:
        path = _leave(out, token="thief")
        with pytest.raises(OutputError, match="took over"):
            lock.check()
    assert path.exists()


def test_a_lock_made_while_another_looks_at_a_gone_one_is_left_alone(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, other = module._read, OutputLock(out)

    def gone_and_made_again(path: Path) -> object:
        holder = read(path)
        if holder is None:
            assert other._try_create()
        return holder

    monkeypatch.setattr(module, "_read", gone_and_made_again)
    OutputLock(out)._take_away_the_dead()
    monkeypatch.undo()
    other.check()


@pytest.mark.parametrize("gone", ["lock", "claim"])
def test_what_is_gone_has_not_been_silent_for_long(out: Path, gone: str) -> None:
    """Else what somebody makes in that moment would be removed as a dead one's."""
    assert module._silence(out.with_name(gone)) == 0


def test_of_many_that_take_over_at_once_one_wins(out: Path) -> None:
    for _ in range(20):
        path = _leave(out, began="1")
        won: list[OutputLock] = []
        barrier = threading.Barrier(6)

        def take(won: list[OutputLock] = won, barrier: threading.Barrier = barrier) -> None:
            lock = OutputLock(out)
            barrier.wait()
            try:
                lock.__enter__()
            except OutputError:
                return
            won.append(lock)

        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won[0].check()
        won[0].__exit__(None, None, None)
        assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00\x80",
        b"[]",
        b"17",
        b"{}",
        b'{"host": 1}',
        b'{"host": "HERE", "pid": "abc", "began": "", "token": "x"}',
        b'{"host": "HERE", "pid": -1, "began": "", "token": "x"}',
        b'{"host": "HERE", "pid": 1e400, "began": "", "token": "x"}',
        b'{"host": "HERE", "pid": 99999999999999999999, "began": "", "token": "x"}',
        b'{"host": "HERE", "pid": [1], "began": null, "token": {}}',
        b"[" * 50_000,
        b"x" * 1_000_000,
    ],
)
@pytest.mark.parametrize("age", [1000, -100_000])
def test_a_lock_of_any_content_is_young_or_dead(out: Path, content: bytes, age: float) -> None:
    path = out.with_name(out.name + ".lock")
    path.write_bytes(content.replace(b"HERE", socket.gethostname().encode()))
    with pytest.raises(OutputError, match="another process is writing"), OutputLock(out):
        pass
    os.utime(path, (time.time() - age, time.time() - age))
    with OutputLock(out) as lock:
        lock.check()
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("target", ["there", "dangling", "folder", "pipe"])
def test_a_lock_that_is_a_link_is_not_followed(out: Path, target: str) -> None:
    """Nor is a folder or a pipe of that name waited for or removed."""
    path, other = out.with_name(out.name + ".lock"), out.with_name("other.txt")
    if target == "there":
        other.write_text("precious")
    if target in ("there", "dangling"):
        path.symlink_to(other)
    elif target == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(OutputError, match="no lock file") as caught, OutputLock(out):
        pass
    assert "remove it" in caught.value.remedy
    assert other.exists() == (target == "there")
    assert {p.name for p in out.parent.iterdir()} <= {path.name, other.name}


def test_only_our_own_leftovers_are_removed(out: Path) -> None:
    old = time.time() - 1000
    for name in (".feats.h5.lock.notes", ".feats.h5.lock." + "a" * 32):
        (out.parent / name).write_text("x")
        os.utime(out.parent / name, (old, old))
    with OutputLock(out):
        pass
    assert [path.name for path in out.parent.iterdir()] == [".feats.h5.lock.notes"]


def test_who_waits_gets_it_when_it_is_free(out: Path) -> None:
    first = OutputLock(out)
    first.__enter__()
    releasing = threading.Timer(0.3, first.__exit__, (None, None, None))
    releasing.start()
    with OutputLock(out, wait=True) as second:
        second.check()
    releasing.join()
