"""Which items take part and what their classes are called: --where, --drop-class, --merge, and what looks wrong."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from umedfeat.arrays import Bools, Texts
from umedfeat.errors import CohortError
from umedfeat.fewshot.settings import ProbeSettings

__all__ = ["Selected", "condition_of", "merges_of", "select", "twin_notes"]

_WHOLE = re.compile(r"(-?\d+)\.0+")


class Selected(NamedTuple):
    """``keep`` (I,) of the items given; ``labels`` of those kept; ``note`` says what was left out, "" if nothing."""

    keep: Bools
    labels: list[str]
    note: str


def condition_of(text: str) -> tuple[str, frozenset[str]]:
    """ "column=value" or "column=value,value".

    Raises:
        CohortError: it has no column or no value.
    """
    column, equals, values = text.partition("=")
    found = frozenset(value.strip() for value in values.split(","))
    if not column.strip() or not equals or found == {""}:
        raise CohortError(f"{text!r} names no column and value", remedy="write column=value or column=value,value")
    return column.strip(), found


def merges_of(texts: Sequence[str]) -> dict[str, str]:
    """ "a+b=c" … as a → c, b → c.

    Raises:
        CohortError: not of this form, or a class goes to two.
    """
    found: dict[str, str] = {}
    for text in texts:
        old, equals, new = text.rpartition("=")
        names = [name.strip() for name in old.split("+")]
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
    column, values = condition_of(text)
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
    merged = merges_of(settings.merge)
    _refuse_unknown({*settings.drop_class, *merged}, texts)
    dropped = np.isin(texts, settings.drop_class) & keep
    keep &= ~dropped
    notes = [f"{outside} not {' and '.join(settings.where)}"] * bool(outside)
    notes += [f"{int(dropped.sum())} of class {', '.join(settings.drop_class)}"] * bool(dropped.any())
    return Selected(
        keep, [merged.get(text, text) for text, kept in zip(texts, keep, strict=True) if kept], ", ".join(notes)
    )


def _plain(text: str) -> str:
    whole = _WHOLE.fullmatch(text)
    return whole.group(1) if whole else text


def _refuse_unknown(asked: set[str], texts: Sequence[str]) -> None:
    there = sorted(set(texts))
    unknown = sorted(asked - set(there))
    if unknown:
        raise CohortError(f"there is no class {unknown[0]!r}", remedy=f"classes: {', '.join(there[:20])}")


def twin_notes(classes: Sequence[str]) -> list[str]:
    """Classes whose names differ in nothing but case, spaces, or the way an accent is stored."""
    found: dict[str, list[str]] = {}
    for name in classes:
        found.setdefault("".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    return [
        f"Classes {' and '.join(map(repr, names))} differ in case, spaces or encoding alone: if they are one, say "
        f"--merge {'+'.join(names)}={names[0]}."
        for names in found.values()
        if len(names) > 1
    ]
