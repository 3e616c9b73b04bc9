"""How fast are ``similar`` and ``predict`` on large feature files, beside reading the same bytes?

``python benchmarks/similar.py --rows 2000000 --dim 512``. Writes a file of random rows, then reads it plainly, finds
the twelve nearest rows, and predicts every item from its rows, each in a process of its own: seconds, rows per second,
peak memory. The file is read once before, so that the page cache is warm for all of them alike.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "factories"))

ITEM_ROWS = 10_000

PLAIN = """
for first in range(0, file.n_rows, 16384):
    file.dataset("features")[first : first + 16384]
"""
NEAREST = """
assert len(nearest(file, row_vector(file, 0, 0), unit="tile")) == 12
"""
PREDICT = """
some = file.dataset("features")[:1000]
form = LinearForm(Scaler.of(some), np.ones((file.dim, 1)), np.zeros(1), np.arange(2), 2, 2)
probe = SavedProbe("linear", form, "binary", ("a", "b"), "", "tile", "mean", file.header, {})
assert len(apply_probe(probe, file.path).values) == len(file)
"""
FRAME = """
import sys, time
import numpy as np
from umedfeat.fewshot.classifiers.forms import LinearForm
from umedfeat.fewshot.classifiers.scaling import Scaler
from umedfeat.prediction.apply import apply_probe
from umedfeat.prediction.saved import SavedProbe
from umedfeat.prediction.similar import nearest, row_vector
from umedfeat.store import FeatureFile
file = FeatureFile(sys.argv[1])
began = time.perf_counter()
{work}
peak = open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]
print(time.perf_counter() - began, int(peak) // 1024)
"""


def write(path: Path, rows: int, dim: int, dtype: str) -> Path:
    """Items of 10,000 random rows; drawing them anew would take longer than everything else, so they are shifted."""
    from store_cases import header, item

    from umedfeat.store import FeatureStore

    first = item("item", ITEM_ROWS, dim=dim)
    with FeatureStore(path, replace(header(), dtype=dtype), dim=dim) as store:
        for number in range(rows // ITEM_ROWS):
            source = replace(first.source, id=f"item{number:05}", name=f"item{number:05}.svs")
            plan = replace(first.plan, content_sha256=f"{number:064x}")
            features = np.roll(first.features, 7 * number, axis=1) + np.float32(1e-3 * number)
            store.add(replace(first, source=source, plan=plan, features=features))
        return store.finish({})


def main() -> None:
    """Write, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    parser.add_argument("--folder", type=Path, help="Where the file is written.  [default: the temporary folder]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        began = time.perf_counter()
        path = write(Path(folder, "feats.h5"), given.rows, given.dim, given.dtype)
        print(f"{path.stat().st_size / 1e9:.2f} GB written in {time.perf_counter() - began:.0f} s")
        baseline = float("nan")
        print("| what | s | rows/s | of plain reading | peak MiB |\n|---|---|---|---|---|")
        for name, work in (("", PLAIN), ("plain reading", PLAIN), ("similar", NEAREST), ("predict", PREDICT)):
            command = [sys.executable, "-c", FRAME.format(work=work), str(path)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            seconds = float(told[0])
            baseline = seconds if name == "plain reading" else baseline
            if name:
                print(
                    f"| {name} | {seconds:.1f} | {given.rows / seconds:,.0f} | {seconds / baseline:.2f}× | {told[1]} |"
                )


if __name__ == "__main__":
    main()
