"""What is said to nobody is lost; the work that says it is not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from umedfeat.terminal.streams import Unheard, outlive_readers


def test_a_reader_that_is_gone_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as stream:
        heard = Unheard(stream, {errno.EPIPE})
        assert [heard.write(f"line {k}\n") for k in range(3)] == [7, 7, 7]
        heard.flush()
        assert heard.isatty() is False


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_an_error_of_data_and_none_of_messages() -> None:
    with open("/dev/full", "w", buffering=1) as stream, pytest.raises(OSError, match="No space"):  # noqa: PTH123
        try:
            Unheard(stream, {errno.EPIPE}).write("data\n")
        finally:
            Unheard(stream).flush()
    with open("/dev/full", "w", buffering=1) as stream:  # noqa: PTH123
        Unheard(stream).write("a message\n")


COMMAND = "from umedfeat.cli import main; main()"


def test_the_exit_code_tells_of_the_work() -> None:
    """Of a listing whose reader has seen enough it was 1, as if an input had failed."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", COMMAND, "encoders"], stdout=writer, check=False, timeout=60)
    os.close(writer)
    assert done.returncode == 0


def test_closed_streams_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    outlive_readers()
    assert isinstance(sys.stdout, Unheard) and isinstance(sys.stderr, Unheard)
