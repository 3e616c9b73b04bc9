"""Shards: feature files that are one of n parts of a run, and say so; a merge that lacks one would look complete."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from umedfeat.errors import SetupError
from umedfeat.store.read import FeatureFile

__all__ = ["Shard", "refuse_incomplete", "shard_path"]

_TEXT = re.compile(r"(\d{1,9})/(\d{1,9}) ([0-9a-f]*)")
#: Shards that were written before they said so themselves.
_NAME = re.compile(r"(\d{1,9})-of-(\d{1,9})\.h5")
_NAMED = 8


class Shard(NamedTuple):
    """Which part of a run a feature file is.

    Attributes:
        number, total: i of n, 1 ≤ i ≤ n.
        listing: hex digest of all inputs of the run and their sizes: shards of other listings do not add up.
    """

    number: int
    total: int
    listing: str = ""

    @property
    def text(self) -> str:
        """As it is stored: "3/16 5f2c…"."""
        return f"{self.number}/{self.total} {self.listing}"

    @classmethod
    def read(cls, text: str) -> Shard | None:
        """The shard of a ``text``; None for that of a whole run."""
        told = _TEXT.fullmatch(text)
        return cls(int(told[1]), int(told[2]), told[3]) if told else None

    @classmethod
    def named(cls, path: Path) -> Shard | None:
        """The shard that the name of a file tells of, as ``shard_path`` gives it; None: of none."""
        told = _NAME.fullmatch(path.name)
        return cls(int(told[1]), int(told[2])) if told else None


class _Set(NamedTuple):
    """What parts belong together."""

    place: str
    total: int
    listing: str


def shard_path(out: Path, shard: tuple[int, int]) -> Path:
    """Where a shard of an output is written: ``feats.h5.shards/03-of-16.h5``."""
    number, total = shard
    return out.with_name(out.name + ".shards") / f"{number:0{len(str(total))}d}-of-{total}.h5"


def refuse_incomplete(paths: Sequence[Path], *, partial: bool = False) -> None:
    """Shards must be there once each, and be parts of one list of inputs; other files may be among them.

    Args:
        paths: feature files.
        partial: some may be missing, and of other lists.

    Raises:
        SetupError: a shard is missing, there twice, or of another list of inputs; or a file cannot be read.
    """
    sets: dict[_Set, dict[int, Path]] = {}
    for path in paths:
        belongs, number = _told(path)
        if belongs is None:
            continue
        parts = sets.setdefault(belongs, {})
        if number in parts:
            message = f"shard {number}/{belongs.total} is there twice: {parts[number]} and {path}"
            raise SetupError(message, remedy="give each shard once")
        parts[number] = path
    if not partial:
        _refuse_other_lists(sets)
        _refuse_missing(sets)


def _told(path: Path) -> tuple[_Set | None, int]:
    """The set that a file is a part of, and its number there; (None, 0) for a file that is no shard."""
    with FeatureFile(path) as file:
        told = Shard.read(file.shard)
    if told:
        return _Set("", told.total, told.listing), told.number
    named = Shard.named(path)
    if named:
        return _Set(path.parent.name or str(path.parent), named.total, ""), named.number
    return None, 0


def _refuse_other_lists(sets: Mapping[_Set, Mapping[int, Path]]) -> None:
    """Two halves of two different divisions: each lacks something, and together they may too."""
    incomplete = [(belongs, parts) for belongs, parts in sets.items() if belongs.listing and len(parts) < belongs.total]
    for (one, ours), (other, theirs) in itertools.pairwise(incomplete):
        if one.total == other.total:
            names = f"{next(iter(ours.values()))} and {next(iter(theirs.values()))}"
            raise SetupError(
                f"{names}: shards of two different lists of inputs",
                remedy="inputs came, went or changed between them: run all shards again, they keep what is done",
            )


def _refuse_missing(sets: Mapping[_Set, Mapping[int, Path]]) -> None:
    for belongs, parts in sets.items():
        missing = sorted(set(range(1, belongs.total + 1)) - parts.keys())
        if missing:
            shown = ", ".join(f"{number}/{belongs.total}" for number in missing[:_NAMED])
            shown += f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            place = belongs.place or next(iter(parts.values())).parent.name or "the given files"
            raise SetupError(
                f"{place}: shard {shown} is missing",
                remedy="run it (`umedfeat extract --shard i/n`), or merge what there is with --partial",
            )
