"""A hundred damaged feature files: used or refused by name, in seconds and with little memory.

The same mutations as ``benchmarks/fuzz_store.py``, which goes on to thousands: ``--only NUMBER`` repeats one.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SEED = 20261129
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_store.py"


@pytest.fixture(scope="module")
def fuzz():
    if not SCRIPT.is_file():
        pytest.skip("the benchmarks are not part of this distribution")
    spec = importlib.util.spec_from_file_location("fuzz_store", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_store"] = module  # the child process finds its functions by this name
    sys.path.insert(0, str(SCRIPT.parent))
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPT.parent))
    del sys.modules["fuzz_store"]


def test_damaged_feature_files_are_used_or_refused_by_name(fuzz):
    numbers = range(1, 201, 2)  # damaged bytes; tampering is tested one by one in test_guard.py
    outcomes = list(fuzz.campaign(numbers, SEED, limit_bytes=4 << 30, seconds=30))  # ten on a quiet machine
    bad = [f"{o.kind} {number} {o.what}" for number, _, o in outcomes if o.kind in fuzz.BAD]
    assert not bad, "\n".join([f"seed {SEED}", *bad])
    assert {o.kind for _, _, o in outcomes} == {"used", "refused"} and len(outcomes) == 100
    assert max(o.peak_mib for _, _, o in outcomes) < 500
