"""``merge``: several feature files (shards of a cluster job, cohorts of one study) become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from umedfeat.disk.lock import OutputLock
from umedfeat.errors import OutputError, SetupError
from umedfeat.store.pack import identical, pack
from umedfeat.store.read import FeatureFile

__all__ = ["merge", "refuse_existing"]


def merge(paths: Sequence[Path], out: Path, on_rows: Callable[[int], None] | None = None) -> Path:
    """Pack feature files of the same settings into one, sorted by id.

    Associative and order-free: the result is byte-identical to a run that was never divided.

    Raises:
        SetupError: no file, a damaged file, rows that are not those of their checksum, other settings, pseudonyms of
            two keys, or contradicting items.
    """
    if not paths:
        raise SetupError(
            "nothing to merge", remedy="give feature files, e.g. `umedfeat merge feats.h5.shards/*.h5 --out feats.h5`"
        )
    with FeatureFile(paths[0]) as first:
        header, dim = replace(first.header, key_check=""), first.dim
    with OutputLock(out):
        pack(sorted(paths), out, header, dim, choose=identical, on_rows=on_rows)
    return out


def refuse_existing(out: Path, paths: Sequence[Path]) -> None:
    """A file that holds something else than what is merged is not replaced unasked.

    Raises:
        OutputError: ``out`` exists and is not one of ``paths``.
    """
    if out.exists() and out.resolve() not in {path.resolve() for path in paths}:
        raise OutputError(
            f"{out}: exists", remedy="replace it with --overwrite, add it to the files, or choose another --out"
        )
