"""Labels that look wrong and need not be: classes that may be one, and what may mean that nobody knows."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from umedfeat.fewshot.cohort.labels import Target, numbers_of
from umedfeat.naming import normalised

__all__ = ["doubts"]

#: Class names that may mean "not known", and numbers that registries write for it.
_DOUBTFUL = frozenset(
    {"-", "--", "–", "—", ".", "..", "unknown", "unk", "unclear", "undetermined", "not known", "not reported", "todo"}
)
_CODES = frozenset({-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0})
#: So many times the next value, a code is no measurement.
_FAR = 3.0


def doubts(target: Target) -> list[str]:
    """A sentence for everything that a reader should look at."""
    found = _twins(target.classes)
    unknown = _unknown(target)
    if unknown:
        kind, how = ("values", "empty their cells") if target.task == "regression" else ("classes", "--drop-class")
        found.append(
            f"Among the {kind}, {' and '.join(map(repr, unknown))} may mean that nobody knows: if so, leave such items "
            f"out ({how})."
        )
    return found


def _unknown(target: Target) -> list[str]:
    """Class names or values; "-" beside "+" is none of them."""
    if target.task == "regression":
        return _codes(target.truth.tolist())
    names = [name for name in target.classes if name.lower() in _DOUBTFUL]
    if "+" in target.classes:
        names = [name for name in names if name != "-"]
    if len(target.classes) == 2:  # -1 and 1, say
        return names
    return [*names, *_codes([float(name) for name in target.classes if numbers_of([name])])]


def _codes(numbers: Sequence[float]) -> list[str]:
    """Values such as -9 or 999 that stand apart from all others."""
    rest = [number for number in numbers if number not in _CODES]
    lowest, highest = min(rest, default=0.0), max(rest, default=0.0)
    codes = sorted(_CODES & set(numbers))
    return [f"{code:g}" for code in codes if (lowest >= 0 if code < 0 else _FAR * highest < code)]


def _twins(classes: Sequence[str]) -> list[str]:
    """Classes whose names differ in nothing but case, spaces, zeros in front, or the way an accent is stored."""
    found: dict[str, list[str]] = {}
    for name in classes:
        letters = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        found.setdefault(normalised(letters), []).append(name)
    return [
        f"Classes {' and '.join(map(repr, names))} differ in case, spaces, zeros or encoding alone: if they are one, "
        f"say --merge {'+'.join(names)}={names[0]}."
        for names in found.values()
        if len(names) > 1
    ]
