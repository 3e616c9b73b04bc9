"""However the command ends, its exit code and a line say so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from killing import running_in_group
from PIL import Image

from umedfeat import cli
from umedfeat.cli import run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guardian needs Linux")

SCRIPT = """
import os, signal, sys, time
from umedfeat.cli.guardian import guarded
def work():
    print("working", os.getpid(), flush=True)
    {work}
sys.exit(guarded(work, lambda message, remedy: print(message, "|", remedy)))
"""


#: A minute in many sleeps: a signal that comes just before one of them is not slept through.
AWAKE = "for _ in range(1200): time.sleep(0.05)"


def start(work: str, told: Path) -> subprocess.Popen[bytes]:
    """The guardian of a command that does ``work``; both write to ``told``."""
    command = [sys.executable, "-c", SCRIPT.format(work=work)]
    with told.open("w") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)


def wait_for(word: str, told: Path) -> list[str]:
    """What was told, as soon as ``word`` is in it."""
    end = time.monotonic() + 60
    while word not in told.read_text() and time.monotonic() < end:
        time.sleep(0.01)
    return told.read_text().split()


@pytest.mark.parametrize(
    ("work", "code", "told"),
    [
        ("return 3", 3, ""),
        ("sys.exit(1)", 1, ""),
        ("os.abort()", 2, "SIGABRT (a library gave up)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 2, "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 2, "lack of memory"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 130, ""),
    ],
)
def test_every_end_has_a_code_and_a_word(work: str, code: int, told: str, tmp_path: Path) -> None:
    process = start(work, tmp_path / "told")
    assert process.wait(timeout=60) == code
    assert told in (tmp_path / "told").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_for_the_guardian_reach_the_command(number: signal.Signals, tmp_path: Path) -> None:
    work = f"signal.signal({int(number)}, lambda *_: os._exit(7)); print('ready', flush=True)\n    " + AWAKE
    process = start(work, tmp_path / "told")
    wait_for("ready", tmp_path / "told")
    process.send_signal(number)
    assert process.wait(timeout=30) == 7


def test_the_command_does_not_outlive_its_guardian(tmp_path: Path) -> None:
    process = start("time.sleep(60)", tmp_path / "told")
    wait_for("working", tmp_path / "told")
    process.kill()
    process.wait()
    assert running_in_group(process.pid) == []


def test_a_stopped_command_is_waited_for(tmp_path: Path) -> None:
    process = start("time.sleep(1); print('slept', flush=True); return 5", tmp_path / "told")
    child = int(wait_for("\n", tmp_path / "told")[1])
    os.kill(child, signal.SIGSTOP)
    time.sleep(0.2)
    assert process.poll() is None
    os.kill(child, signal.SIGCONT)
    assert process.wait(timeout=30) == 5


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("can't start new thread"), "unforeseen RuntimeError: can't start new thread"),
        (EOFError("marshal data too short"), "unforeseen EOFError"),
    ],
)
def test_what_nobody_foresaw_is_exit_2(
    fault: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise fault

    monkeypatch.setattr(cli.root, "invoke", fail)
    assert run(["info"]) == 2
    assert told in capsys.readouterr().err


def test_a_full_disk_is_not_sixty_bad_inputs(tmp_path: Path) -> None:
    """The limit of a file's size stands for the full disk: it needs no file system of its own."""
    import resource

    (tmp_path / "in").mkdir()
    for k in range(6):
        pixels = np.random.default_rng(k).integers(0, 255, (300, 320, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"image{k}.png")
    (tmp_path / "key").write_text("a secret of the test suite")
    command = [sys.executable, "-m", "umedfeat", "preview", "in", "--out", "look", "--workers", "1", "--id-key", "key"]
    limited = subprocess.run(
        [*command, "--progress", "none"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},  # else cut bytecode would stay behind
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)),
        timeout=120,
    )
    assert limited.returncode == 2
    assert "look: pictures cannot be written (File too large)" in limited.stderr
    assert "image" not in limited.stderr
