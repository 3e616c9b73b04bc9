"""Several images at one place: phases, echoes, b-values, reconstructions become volumes of their own.

What belongs together is told by tags, never by the order of files. A tag (or up to three together) splits a series when
no part holds two images at one place, and when the parts are volumes: as many as images lie at one place, or most of
them covering more than half of the places. A tag that differs from slice to slice, as times do, splits nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Any, NamedTuple, TypeVar

import numpy as np

__all__ = ["BY_TURN", "Spot", "alike", "by_number", "volumes_at_places"]

#: What ``volumes_at_places`` says where no tag tells images at one place apart.
BY_TURN = "order"

_MOST_TAGS = 3
_T = TypeVar("_T")


class Spot(NamedTuple):
    """Where one image lies, and what may tell it from others there.

    Attributes:
        along: millimetres along the slice normal.
        marks: tag → value as text, the most telling tag first; the same tags for every image.
        last: decides between images that nothing else tells apart.
    """

    along: float
    marks: Mapping[str, str]
    last: tuple[Any, ...]


def volumes_at_places(images: Sequence[_T], spot: Callable[[_T], Spot], nearness: float) -> tuple[list[list[_T]], str]:
    """Volumes with one image a place, each sorted along the normal, and what tells them apart.

    Args:
        images: parallel to each other.
        spot: of an image.
        nearness: images closer than this, in millimetres along the normal, lie at one place.

    Returns:
        The volumes; names of tags joined with "+", ``BY_TURN`` where no tag tells (the n-th image of every place, in
        order of all tags, makes the n-th volume), "" where there is one volume.
    """
    spots = [spot(image) for image in images]
    places = _places([one.along for one in spots], nearness)
    ordered = sorted(range(len(images)), key=lambda i: (places[i], _rank(spots[i])))
    parts, how = _parts(ordered, places, spots)
    return [[images[i] for i in part] for part in parts], how


def _places(along: Sequence[float], nearness: float) -> list[int]:
    """The number of every image's place, counted along the normal."""
    numbers = [0] * len(along)
    number, begin = -1, -np.inf
    for i in sorted(range(len(along)), key=along.__getitem__):
        if along[i] - begin > nearness:
            number, begin = number + 1, along[i]
        numbers[i] = number
    return numbers


def _parts(ordered: list[int], places: list[int], spots: list[Spot]) -> tuple[list[list[int]], str]:
    turns: defaultdict[int, list[int]] = defaultdict(list)
    for i in ordered:
        turns[places[i]].append(i)
    most = max(map(len, turns.values()))
    if most == 1:
        return [ordered], ""
    for tags in _telling(spots, most, len(turns)):
        split: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for i in ordered:
            split[tuple(spots[i].marks[tag] for tag in tags)].append(i)
        whole = len(split) == most or median(map(len, split.values())) > len(turns) / 2
        if whole and all(len({places[i] for i in part}) == len(part) for part in split.values()):
            keys = sorted(split, key=lambda key: [by_number(text) for text in key])
            return [split[key] for key in keys], "+".join(tags)
    volumes: list[list[int]] = [[] for _ in range(most)]
    for place in sorted(turns):
        for turn, i in enumerate(turns[place]):
            volumes[turn].append(i)
    return volumes, BY_TURN


def _telling(spots: list[Spot], most: int, places: int) -> Iterator[tuple[str, ...]]:
    """Tags that differ, but not from slice to slice: alone, then two and three together."""
    kinds = {tag: len({spot.marks[tag] for spot in spots}) for tag in spots[0].marks}
    differing = [tag for tag, n in kinds.items() if 1 < n <= most or (n > most and len(spots) / n > places / 2)]
    for count in range(1, _MOST_TAGS + 1):
        yield from combinations(differing, count)


def _rank(spot: Spot) -> tuple[Any, ...]:
    return (*(by_number(text) for text in spot.marks.values()), spot.last)


def by_number(text: str) -> tuple[float, str]:
    """Sorts texts that are numbers by their value, others behind them."""
    try:
        return float(text), ""
    except ValueError:
        return float("inf"), text


def alike(values: Sequence[tuple[float, ...]], tolerance: float) -> list[int]:
    """A number for every value: the same for values whose components differ by less than the tolerance.

    Rounding would part values that lie on either side of a rounding edge.
    """
    leaders: list[tuple[float, ...]] = []
    found: dict[tuple[float, ...], int] = {}
    for value in sorted(set(values)):
        near = (k for k, leader in enumerate(leaders) if len(leader) == len(value) and _near(leader, value, tolerance))
        found[value] = next(near, len(leaders))
        if found[value] == len(leaders):
            leaders.append(value)
    return [found[value] for value in values]


def _near(a: tuple[float, ...], b: tuple[float, ...], tolerance: float) -> bool:
    return bool(np.abs(np.subtract(a, b)).max(initial=0.0) < tolerance)
