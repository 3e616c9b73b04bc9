"""A few hundred damaged files: no crash, no hang, no memory blow-up, every one embedded or failed by name.

The same mutations as ``benchmarks/fuzz.py``, which goes on to thousands: ``--only NAME:NUMBER`` repeats one.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SEED, PER_FILE = 20261124, 10
NOT_EMBEDDED = {"rtdose.dcm": "skipped", "JPEG-lossy.dcm": "failed"}  # a dose grid; 12-bit JPEG, which needs an extra
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz():
    if not SCRIPT.is_file():
        pytest.skip("the benchmarks are not part of this distribution")
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # the child process finds its functions by this name
    sys.path.insert(0, str(SCRIPT.parent))
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPT.parent))
    del sys.modules["fuzz"]


def test_damaged_files_are_embedded_or_failed_by_name(fuzz):
    count = PER_FILE * len(fuzz.seeds())
    outcomes = list(fuzz.campaign(count, SEED, limit_bytes=4 << 30, seconds=10))
    bad = [f"{o.kind} {name}:{number} {o.what}" for name, number, o in outcomes if o.kind in fuzz.BAD]
    assert not bad, "\n".join([f"seed {SEED}", *bad])
    kinds = {o.kind for _, _, o in outcomes}
    assert {"embedded", "failed"} <= kinds and len(outcomes) == count


@pytest.mark.filterwarnings("ignore:::pydicom")  # it warns of oddities of its own test files
def test_whole_files_are_embedded(fuzz, tmp_path):
    """The campaign means something: undamaged, the same files are read."""
    for name, raw in fuzz.seeds().items():
        path = tmp_path / "whole.bin"
        path.write_bytes(raw)
        outcome = fuzz.read_as_a_run_does(path)
        assert outcome.kind == NOT_EMBEDDED.get(name, "embedded"), f"{name}: {outcome}"


def test_findings_are_told(fuzz):
    """A child that dies, one that hangs, and one that raises are each named."""
    child = fuzz.Child(fuzz.serve, SEED, limit_bytes=4 << 30, seconds=2.0)
    try:
        assert child.run(("no such seed", 0))[1].kind == "crash"
        assert child.run(("CT_small.dcm", 0))[1].kind not in fuzz.BAD
    finally:
        child.close()
