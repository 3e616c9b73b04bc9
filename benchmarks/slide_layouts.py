"""Random TIFF and OME-TIFF layouts, each read as the command reads it and compared with what was written.

    python benchmarks/slide_layouts.py                  2,000 layouts
    python benchmarks/slide_layouts.py --count 200 --seed 7

Planes, series, labels, levels (padded and not), colours, codecs, tiles and strips, planar order, bits, byte order are
drawn; see tests/factories/slide_layouts.py. Every outcome is counted: read with the right pixels, refused with a
reason, or WRONG with the layout. The exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "factories"), str(ROOT)]

from slide_layouts import tried  # noqa: E402


def main() -> int:
    """Try them and print the outcomes, most frequent first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        outcomes = tried(Path(folder), options.seed, options.count)
    for kind, count in outcomes.most_common():
        print(f"{count:6,}  {kind}")
    return int(any(kind.startswith("WRONG") for kind in outcomes))


if __name__ == "__main__":
    sys.exit(main())
