"""Which items take part and what their classes are called: --where, --drop-class, --merge."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from umedfeat.arrays import Bools, Texts
from umedfeat.errors import CohortError
from umedfeat.fewshot.settings import ProbeSettings

__all__ = ["Selected", "as_written", "condition_of", "listed", "merges_of", "order_of", "select"]

_WHOLE = re.compile(r"(-?\d+)\.0+")


class Selected(NamedTuple):
    """``keep`` (I,) of the items given; ``labels`` of those kept; ``note`` says what was left out, "" if nothing."""

    keep: Bools
    labels: list[str]
    note: str


def condition_of(text: str, columns: Mapping[str, Texts] | None = None) -> tuple[str, frozenset[str]]:
    """ "column=value" or "column=value,value"; values with a comma in them are known by the ``columns``.

    Raises:
        CohortError: it has no column or no value.
    """
    column, equals, values = text.partition("=")
    there = frozenset((columns or {}).get(column.strip(), np.empty(0, np.str_)).tolist())
    found = frozenset(listed(values, ",", there))
    if not column.strip() or not equals or found == {""}:
        raise CohortError(f"{text!r} names no column and value", remedy="write column=value or column=value,value")
    return column.strip(), found


def listed(text: str, separator: str, known: Collection[str]) -> list[str]:
    """The names in a list; the longest ``known`` one where a name holds the separator itself ("HER2++HER2++").

    Blanks around separators do not matter.
    """
    pieces = [piece.strip() for piece in text.split(separator)]
    spelled = {separator.join(piece.strip() for piece in name.split(separator)): name for name in known}
    found = []
    while pieces:
        ends = (end for end in range(len(pieces), 0, -1) if separator.join(pieces[:end]) in spelled)
        end = next(ends, 1)
        found.append(spelled.get(separator.join(pieces[:end]), pieces[0]))
        pieces = pieces[end:]
    return found


def merges_of(texts: Sequence[str], known: Collection[str] = ()) -> dict[str, str]:
    """ "a+b=c" … as a → c, b → c; ``known`` classes may have a plus in their names.

    Raises:
        CohortError: not of this form, or a class goes to two.
    """
    found: dict[str, str] = {}
    for text in texts:
        old, equals, new = text.rpartition("=")
        names = listed(old, "+", known)
        if not equals or not new.strip() or not all(names):
            raise CohortError(f"{text!r} merges nothing", remedy="write a+b=c: the classes, and the name they get")
        for name in names:
            if found.setdefault(name, new.strip()) != new.strip():
                raise CohortError(f"class {name!r} is merged twice, into {found[name]!r} and {new.strip()!r}")
    return found


def where(meta: Mapping[str, Texts], text: str) -> Bools:
    """(I,) which items meet a condition.

    Raises:
        CohortError: there is no such column, or nothing has such a value.
    """
    column, values = condition_of(text, meta)
    if column not in meta:
        raise CohortError(f"{text}: there is no column {column!r}", remedy=f"columns: {', '.join(meta) or 'none'}")
    met = np.isin(meta[column], sorted(values))
    unknown = values - set(meta[column].tolist())
    if unknown:
        there = ", ".join(sorted(set(meta[column].tolist()))[:10])
        raise CohortError(f"{text}: nothing is {sorted(unknown)[0]!r}", remedy=f"values of {column}: {there}")
    return np.asarray(met)


def select(labels: Sequence[str], meta: Mapping[str, Texts], settings: ProbeSettings) -> Selected:
    """Leave items and classes out, merge classes and write numbers in one way ("1.0" is "1").

    Raises:
        CohortError: a condition or a class that is not there.
    """
    keep = np.ones(len(labels), dtype=bool)
    for text in settings.where:
        keep &= where(meta, text)
    outside = int((~keep).sum())
    texts = (
        [_plain(label) for label in labels]
        if settings.task not in ("regression", "multilabel", "survival")
        else list(labels)
    )
    merged = {as_written(old, texts): new for old, new in merges_of(settings.merge, set(texts)).items()}
    drop = [as_written(name, texts) for name in settings.drop_class]
    _refuse_unknown({*drop, *merged}, texts)
    dropped = np.isin(texts, drop) & keep
    keep &= ~dropped
    notes = [f"{outside} not {' and '.join(settings.where)}"] * bool(outside)
    notes += [f"{int(dropped.sum())} of class {', '.join(settings.drop_class)}"] * bool(dropped.any())
    return Selected(
        keep, [merged.get(text, text) for text, kept in zip(texts, keep, strict=True) if kept], ", ".join(notes)
    )


def as_written(name: str, classes: Collection[str]) -> str:
    """A class as it is called here: "1.0" is "1" where that is one."""
    return _plain(name) if name not in classes and _plain(name) in classes else name


def order_of(names: Sequence[str], classes: Collection[str]) -> list[str]:
    """An order of classes as they are called here, a comma in a name being none between two."""
    return [as_written(name, classes) for name in listed(",".join(names), ",", classes)] if names else []


def _plain(text: str) -> str:
    whole = _WHOLE.fullmatch(text)
    return whole.group(1) if whole else text


def _refuse_unknown(asked: set[str], texts: Sequence[str]) -> None:
    there = sorted(set(texts))
    unknown = sorted(asked - set(there))
    if unknown:
        raise CohortError(f"there is no class {unknown[0]!r}", remedy=f"classes: {', '.join(there[:20])}")
