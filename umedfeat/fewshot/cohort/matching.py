"""Which rows of a table of labels name which items: by id, path, or the end of a path."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from umedfeat.arrays import Ints
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.labelled import some
from umedfeat.fewshot.cohort.table import FeatureTable
from umedfeat.naming import stem_of

__all__ = ["matched_items"]


def matched_items(table: FeatureTable, keys: Sequence[str], name: str, unmatched: str) -> tuple[Ints, list[int]]:
    """Items and the rows that describe them, both ways complete unless skipping is allowed.

    Args:
        keys: what each row calls its item: its id or path, with or without suffix, from any folder on. Folders that
            both name must agree: "a/7.png" is not the item "b/7".
        name: of the table, for messages.

    Raises:
        CohortError: a row fits several items, two rows one item, or rows and items are left over.
    """
    index = _Index(table)
    pairs: dict[int, int] = {}
    lost = []
    for row, key in enumerate(keys):
        candidates = index.called(key)
        if len(candidates) > 1:
            raise CohortError(
                f"{name}: {key!r} fits {len(candidates)} items", remedy="name items by id or relative path"
            )
        if not candidates:
            lost.append(key)
            continue
        item = next(iter(candidates))
        if item in pairs:
            raise CohortError(f"{name}: two rows describe {str(table.ids[item])!r}", remedy="keep one row per item")
        pairs[item] = row
    bare = [str(table.ids[item]) for item in range(len(table.ids)) if item not in pairs]
    if unmatched == "stop" or not pairs:
        _refuse_unmatched(name, lost, bare, len(keys), len(table.ids))
    items = sorted(pairs)
    return np.asarray(items, dtype=np.intp), [pairs[item] for item in items]


class _Index:
    """The items of a table by everything that they may be called.

    ``anywhere`` holds whole names and their ends; ``whole`` the longest name alone, which may end a longer path.
    """

    def __init__(self, table: FeatureTable) -> None:
        self.anywhere: dict[str, set[int]] = {}
        self.whole: dict[str, set[int]] = {}
        for item, (identity, source) in enumerate(zip(table.ids, table.sources, strict=True)):
            names = [_plain(str(identity)), _plain(str(source))]
            deepest = max(name.count("/") for name in names)
            for name in names:
                for form in _ends(name):
                    self.anywhere.setdefault(form, set()).add(item)
                if name.count("/") == deepest:
                    for form in (name, stem_of(name)):
                        self.whole.setdefault(form, set()).add(item)

    def called(self, key: str) -> set[int]:
        """Items that a row may mean, by the longest name that fits; a name of its own before the end of another's."""
        path = _plain(key)
        for names in (self.whole, self.anywhere):
            for form in (path, stem_of(path)):
                if form in names:
                    return names[form]
        return next((self.whole[form] for form in _ends(path) if form in self.whole), set())


def _plain(name: str) -> str:
    return name.strip().replace("\\", "/").removeprefix("./")


def _ends(path: str) -> list[str]:
    """A path and its stem, then shorter and shorter ends of both."""
    pieces = path.split("/")
    ends = ("/".join(pieces[start:]) for start in range(len(pieces)))
    return list(dict.fromkeys(form for end in ends for form in (end, stem_of(end)) if form))


def _refuse_unmatched(name: str, lost: Sequence[str], bare: Sequence[str], n_rows: int, n_items: int) -> None:
    if lost:
        raise CohortError(
            f"{name}: {len(lost)} of {n_rows} rows name no item of the features: {some(lost)}",
            remedy="correct the names, or leave such rows out with --unmatched skip",
        )
    if bare:
        raise CohortError(
            f"{name}: {len(bare)} of {n_items} items have no label row: {some(bare)}",
            remedy="add their labels, or leave such items out with --unmatched skip",
        )
