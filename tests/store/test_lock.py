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

from umedfeat.errors import OutputError
from umedfeat.store import lock as module
from umedfeat.store.lock import OutputLock


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
