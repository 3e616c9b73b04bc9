"""Embed a folder from Python and look at what is inside the file.

python examples/features_from_python.py slides/ feats.h5
"""

from __future__ import annotations

import sys
from pathlib import Path

import umedfeat


def main(source: Path, out: Path) -> None:
    """Embed ``source`` with the encoder that needs no download, then read the file."""
    summary = umedfeat.extract(source, out, encoder="efficientnet-lite0")
    for failure in summary.failures:
        print("failed:", failure.message, "→", failure.remedy)
    with umedfeat.FeatureFile(out) as file:
        print(f"{len(file)} inputs, {file.n_rows} rows of {file.dim} values, encoder {file.encoder['name']}")
        for name, vectors in file:
            print(f"  {name}: {len(vectors)} rows, mean {vectors.mean():.4f}")


if __name__ == "__main__":  # reading happens in processes of its own, which import this file
    main(Path(sys.argv[1]), Path(sys.argv[2]))
