"""A reading process keeps what it freed: the kernel is not asked for the same pages again and again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from umedfeat.engine.local.heap import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def read():
    parts = [np.ones(6 << 20, np.uint8) for _ in range(8)]
read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    read()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_same_pages_are_not_asked_for_again() -> None:
    assert faults("keep") < faults("as it is") / 20
