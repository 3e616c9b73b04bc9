"""A few faults of the machine; ``benchmarks/chaos.py`` tries hundreds."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import chaos
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="limits and signals of Linux")]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> chaos.Ground:
    return chaos.Ground(tmp_path_factory.mktemp("chaos"), images=4)


@pytest.mark.parametrize("stage", ["extract", "merge"])
def test_a_fault_costs_a_run_and_nothing_else(stage: str, ground: chaos.Ground, tmp_path: Path) -> None:
    shim = chaos.build_shim(tmp_path)
    for number, fault in enumerate(chaos.faults(random.Random(1), ground.seconds[stage], shim, ground.folder)):
        assert chaos.complaints(ground, stage, fault, tmp_path / str(number) / "out") == [], fault.name
