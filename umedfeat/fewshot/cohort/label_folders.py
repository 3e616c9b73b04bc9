"""Labels from class folders: which level of the paths of the items is the class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.labelled import Labelled
from umedfeat.fewshot.cohort.table import FeatureTable

__all__ = ["from_folders"]

_SPLIT_NAMES = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev"})
_MOST_CLASSES = 20


def from_folders(table: FeatureTable, label: str) -> Labelled:
    """The names of one level as labels: that of ``label`` "folder:N", else the only one that looks like classes.

    Raises:
        CohortError: no level, or several, could be meant.
    """
    parts = [tuple(source.split("/")[:-1]) for source in table.sources]
    levels = _folder_levels(parts)
    _, colon, number = label.partition(":")
    if colon:
        try:
            names = [folders[int(number) - (int(number) > 0)] for folders in parts]
        except (ValueError, IndexError):
            raise CohortError(
                f"--label {label}: not every item lies that deep", remedy="use folder:1 or folder:-1"
            ) from None
    elif len(levels) == 1:
        names = next(iter(levels.values()))
    elif levels:
        shown = "; ".join(f"{name}: {', '.join(sorted(set(v))[:4])}" for name, v in levels.items())
        raise CohortError(
            f"{table.path.name}: several levels of class folders: {shown}",
            remedy=f"choose one: --label {next(iter(levels))}",
        )
    else:
        there = ", ".join(table.meta) or "none"
        raise CohortError(
            f"{table.path.name}: no label column (columns: {there}) and no class folders",
            remedy="choose a column with --label, or give a table with --labels labels.csv",
        )
    return Labelled("class folders", np.arange(len(table.ids)), np.asarray(names, dtype=np.str_), None, table.meta)


def _folder_levels(parts: Sequence[tuple[str, ...]]) -> dict[str, list[str]]:
    """Levels that look like classes: 2 to 20 names with two items or more each, and not train/test/valid."""
    depth = min(map(len, parts))
    found: dict[str, list[str]] = {}
    numbers = list(range(1, depth + 1)) or []
    if max(map(len, parts)) > depth and depth:
        numbers.append(-1)
    for number in numbers:
        names = [folders[number - (number > 0)] for folders in parts]
        counts = Counter(names)
        classlike = 2 <= len(counts) <= _MOST_CLASSES and min(counts.values()) >= 2
        if classlike and not {name.lower() for name in counts} <= _SPLIT_NAMES and names not in found.values():
            found[f"folder:{number}"] = names
    return found
