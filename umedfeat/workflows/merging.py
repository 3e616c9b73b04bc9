"""Shards and cohorts become one feature file; nothing is replaced unasked, no shard is missing unnoticed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from umedfeat.store import FeatureFile, refuse_existing, refuse_incomplete
from umedfeat.store import merge as merge_rows
from umedfeat.terminal.bar import Bar

__all__ = ["Merged", "merge"]


class Merged(NamedTuple):
    """The merged file and what it holds; ``failed``: inputs that had failed."""

    out: Path
    files: int
    items: int
    rows: int
    failed: int


def merge(
    files: Sequence[Path | str],
    out: Path | str,
    *,
    overwrite: bool = False,
    partial: bool = False,
    progress: bool | None = None,
) -> Merged:
    """Pack shards or several feature files of the same settings into one, sorted by id, as ``umedfeat merge`` does.

    Args:
        files: feature files. out: the file to write.
        overwrite: replace an existing file that is none of ``files``.
        partial: although shards are missing.
        progress: None: a bar where somebody watches.

    Raises:
        OutputError: ``out`` exists.
        SetupError: other settings, contradicting items, two keys; a shard is missing, there twice or of another list.

    Example:
        >>> umedfeat.merge(["centre-a.h5", "centre-b.h5"], "both.h5").items  # doctest: +SKIP
    """
    paths, target = [Path(file) for file in files], Path(out)
    if not overwrite:
        refuse_existing(target, paths)
    refuse_incomplete(paths, partial=partial)
    with Bar(f"merge {len(paths)} files", shown=progress) as bar:
        merge_rows(paths, target, bar.update)
    with FeatureFile(target) as file:
        return Merged(target, len(paths), len(file), file.n_rows, len(file.failures["source"]))
