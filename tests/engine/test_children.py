"""No child outlives its parent, whether that ends, is killed, or forgets to close."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FACTORIES = Path(__file__).parents[1] / "factories"
SCRIPT = """
import os, signal, sys
sys.path.insert(0, {factories!r})
from fake_reader import FakePolicy, fake_source
from umedfeat.engine.local.pool import WorkerPool
from umedfeat.engine.messages import Job

if __name__ == "__main__":
    pool = WorkerPool(FakePolicy(), workers=1, slot_bytes=4096, timeout=60)
    pool.submit(Job(0, fake_source("a", 1, plan="hang")))
    pool.wait(30)  # it has begun to hang
    print(pool._workers[0].process.pid, flush=True)
    if sys.argv[1] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    kept = [pool]  # forgotten: still open when Python ends
"""


@pytest.mark.parametrize("how", ["kill", "forget"])
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_child_that_hangs_ends_with_its_parent(how: str, tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(SCRIPT.format(factories=str(FACTORIES)))
    command = [sys.executable, str(tmp_path / "parent.py"), how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    told, _ = process.communicate(timeout=60)  # ends only when no child holds the pipe
    assert told.strip().isdigit()
    assert process.returncode == (-9 if how == "kill" else 0)
    stat = Path(f"/proc/{told.strip()}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
