"""``merge``: several feature files (shards of a cluster job, cohorts of one study) become one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from umedfeat.disk.lock import OutputLock
from umedfeat.errors import OutputError, SetupError
from umedfeat.store.pack import identical, pack
from umedfeat.store.read import FeatureFile

__all__ = ["merge", "missing_shards", "refuse_existing"]

_SHARD = re.compile(r"(\d+)-of-(\d+)\.h5")


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


def missing_shards(paths: Sequence[Path]) -> None:
    """Shards tell how many they are: a merge that lacks one would look complete.

    Raises:
        SetupError: a shard is missing.
    """
    groups: dict[tuple[Path, int], set[int]] = {}
    for path in paths:
        found = _SHARD.fullmatch(path.name)
        if found:
            groups.setdefault((path.parent, int(found[2])), set()).add(int(found[1]))
    for (folder, total), numbers in sorted(groups.items()):
        missing = sorted(set(range(1, total + 1)) - numbers)
        if missing:
            shown = ", ".join(f"{number}/{total}" for number in missing[:8]) + (" …" if len(missing) > 8 else "")
            raise SetupError(
                f"{folder.name or folder}: shard {shown} is missing",
                remedy="run it (`umedfeat extract --shard i/n`), or merge what there is with --partial",
            )
