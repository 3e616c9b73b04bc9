"""Several images at one place: phases, echoes, b-values, reconstructions become volumes of their own.

What belongs together is told by tags, never by the order of files or by UIDs. A tag (or up to three together) splits a
series when no part holds two images at one place, and when the parts are volumes: as many as images lie at one place,
or most of them covering more than half of the places. A tag that differs from slice to slice, as times do, splits
nothing.

Where no tag splits, an order may: of the time tags, then of InstanceNumber. It counts when it runs through whole
volumes one after the other (blocks) or through all images of one place after the other (interleaved), and every volume
is complete. Anything else cannot be told, and is refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from math import isfinite
from statistics import median
from typing import NamedTuple, TypeVar

import numpy as np

__all__ = ["NotParted", "Spot", "alike", "by_number", "volumes_at_places"]

_MOST_TAGS = 3
_T = TypeVar("_T")


class NotParted(Exception):
    """Several images lie at one place, and nothing tells which of them belong together."""


class Spot(NamedTuple):
    """Where one image lies, and what may tell it from others there.

    Attributes:
        along: millimetres along the slice normal.
        marks: tag → value as text, the most telling tag first; the same tags for every image.
        number: InstanceNumber, or the frame's number in its file; None where it is not told.
    """

    along: float
    marks: Mapping[str, str]
    number: int | None


def volumes_at_places(images: Sequence[_T], spot: Callable[[_T], Spot], nearness: float) -> tuple[list[list[_T]], str]:
    """Volumes with one image a place, each sorted along the normal, and what tells them apart.

    Args:
        images: parallel to each other.
        spot: of an image.
        nearness: images closer than this, in millimetres along the normal, lie at one place.

    Returns:
        The volumes; names of tags joined with "+", one "in turn" where its order tells, "" where there is one volume.

    Raises:
        NotParted: several images at one place, and neither tags nor an order tell them apart.
    """
    spots = [spot(image) for image in images]
    places = _places([one.along for one in spots], nearness)
    parts, how = _parts(sorted(range(len(images)), key=places.__getitem__), places, spots)
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
    at_place = Counter(places)
    count, most = len(at_place), max(at_place.values())
    if most == 1:
        return [ordered], ""
    splits = list(_splits(ordered, spots, most, count))
    for split, tags in splits:
        whole = len(split) == most or median(map(len, split)) > count / 2
        if whole and all(len({places[i] for i in part}) == len(part) for part in split):
            return split, tags
    for split, tags in [([ordered], ""), *splits]:
        for name, values in _orders(spots):
            volumes = [_in_turn(part, places, values) for part in split]
            if all(volumes):
                told = f"{tags}+{name} in turn" if tags else f"{name} in turn"
                return [volume for several in volumes for volume in several], told
    told = "neither tags nor InstanceNumber tell which make a volume"
    raise NotParted(f"{len(ordered)} images lie at {count} places, and {told}")


def _splits(ordered: list[int], spots: list[Spot], most: int, count: int) -> Iterator[tuple[list[list[int]], str]]:
    """What the tags, alone and together, make of the images, and their names."""
    for tags in _telling(spots, most, count):
        split: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for i in ordered:
            split[tuple(spots[i].marks[tag] for tag in tags)].append(i)
        keys = sorted(split, key=lambda key: [by_number(text) for text in key])
        yield [split[key] for key in keys], "+".join(tags)


def _orders(spots: list[Spot]) -> Iterator[tuple[str, list[float]]]:
    """Numbers that may order the images: tags, then InstanceNumber; only where every image has one."""
    for tag in spots[0].marks:
        values = [by_number(spot.marks[tag])[0] for spot in spots]
        if all(map(isfinite, values)):
            yield tag, values
    if all(spot.number is not None for spot in spots):
        yield "InstanceNumber", [float(spot.number or 0) for spot in spots]


def _in_turn(part: list[int], places: list[int], values: list[float]) -> list[list[int]]:
    """Complete volumes by the order of some values at every place; empty where the order does not tell."""
    there: defaultdict[int, list[int]] = defaultdict(list)
    for i in sorted(part, key=values.__getitem__):
        there[places[i]].append(i)
    columns = [there[place] for place in sorted(there)]
    if len({len(column) for column in columns}) > 1:
        return []
    volumes = [list(volume) for volume in zip(*columns, strict=True)]
    distinct = all(values[a] < values[b] for column in columns for a, b in pairwise(column))
    return volumes if distinct and (_apart(volumes, values) or _apart(columns, values)) else []


def _apart(groups: list[list[int]], values: list[float]) -> bool:
    """Do the values of one group end before those of the next begin?"""
    spans = sorted((min(values[i] for i in group), max(values[i] for i in group)) for group in groups)
    return all(end < begin for (_, end), (begin, _) in pairwise(spans))


def _telling(spots: list[Spot], most: int, places: int) -> Iterator[tuple[str, ...]]:
    """Tags that differ, but not from slice to slice: alone, then two and three together."""
    kinds = {tag: len({spot.marks[tag] for spot in spots}) for tag in spots[0].marks}
    differing = [tag for tag, n in kinds.items() if 1 < n <= most or (n > most and len(spots) / n > places / 2)]
    for count in range(1, _MOST_TAGS + 1):
        yield from combinations(differing, count)


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
