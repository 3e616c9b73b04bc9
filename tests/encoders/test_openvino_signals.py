"""A signal to a process whose graphs are gone: OpenVINO's stack for handlers must not go with them."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

SCRIPT = """
import os, signal, threading
import numpy as np
import umedfeat
encoders = [umedfeat.load_encoder("efficientnet-lite0", device="cpu", runtime="openvino")]
encoders[0].embed(np.zeros((1, 64, 64, 3), np.uint8))
gone = threading.Thread(target=encoders.clear)
gone.start()
gone.join()
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_is_handled_after_another_thread_dropped_the_encoder() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stdout) == (0, "handled\n"), ended.stderr
