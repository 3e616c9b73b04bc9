"""``merge``: several feature files (shards of a cluster job, cohorts of one study) become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from umedfeat.errors import SetupError
from umedfeat.store.lock import OutputLock
from umedfeat.store.pack import pack
from umedfeat.store.read import FeatureFile

__all__ = ["merge"]


def merge(paths: Sequence[Path], out: Path, on_rows: Callable[[int], None] | None = None) -> Path:
    """Pack feature files of the same settings into one, sorted by id.

    Associative and order-free: the result is byte-identical to a run that was never divided.

    Raises:
        SetupError: no file, a damaged file, other settings, or contradicting items.
    """
    if not paths:
        raise SetupError(
            "nothing to merge", remedy="give feature files, e.g. `umedfeat merge feats.h5.shards/*.h5 --out feats.h5`"
        )
    with FeatureFile(paths[0]) as first:
        header, dim = first.header, first.dim
    with OutputLock(out):
        pack(paths, out, header, dim, on_rows=on_rows)
    return out
