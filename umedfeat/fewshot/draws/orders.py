"""The order in which patients get labelled: class-proportional, nested by construction.

An order lists every patient of a pool once. Its first patients cover every class; after them the classes take turns
in proportion to their size (Webster/Sainte-Laguë, whose allocations never shrink when the total grows). The draw of n
patients is the first n of the order: 1 % is therefore always among 5 %, and every class is always there.
"""

from __future__ import annotations

import numpy as np

from umedfeat.arrays import Bools, Ints

__all__ = ["covering", "in_turns", "labelling_order", "patient_folds", "served"]


def labelling_order(carries: Bools, stratum: Ints, rng: np.random.Generator, *, floor: int = 0) -> tuple[Ints, int]:
    """Draw one order of all patients.

    Args:
        carries: (P, C) classes that occur in each patient; every column needs a carrier to be covered.
        stratum: (P,) class that each patient counts for.
        rng: source of the draw.
        floor: least number of patients of a draw, whatever the classes need.

    Returns:
        (P,) positions in the given arrays, and the smallest number of them that a draw may have.
    """
    shuffled = rng.permutation(len(stratum)).astype(np.intp)
    first = covering(carries[shuffled])
    rest = np.setdiff1d(np.arange(len(shuffled)), first)
    turns = in_turns(stratum[shuffled], first, rest, rng)
    order = shuffled[np.concatenate([first, turns])]
    return order, max(len(first), min(floor, len(order)))


def covering(carries: Bools) -> Ints:
    """The first patients, in the given order, that together carry every class; rare classes are served first."""
    chosen: list[int] = []
    have = np.zeros(carries.shape[1], dtype=bool)
    for column in np.argsort(carries.sum(axis=0), kind="stable"):
        if not have[column] and carries[:, column].any():
            carrier = int(carries[:, column].argmax())
            chosen.append(carrier)
            have |= carries[carrier]
    return np.asarray(chosen, dtype=np.intp)


def served(carries: Bools) -> Ints:
    """The class that each patient, in the given order, is labelled for: of those it carries the one that the fewest
    patients before it serve, the rarer of equals. (P,) for (P, C); where nobody carries several it is the one carried.
    """
    counts, rarity = np.zeros(carries.shape[1]), carries.sum(axis=0)
    found = np.empty(len(carries), dtype=np.intp)
    for place, has in enumerate(carries):
        own = np.flatnonzero(has)
        found[place] = own[np.lexsort((rarity[own], counts[own]))[0]]
        counts[found[place]] += 1
    return found


def in_turns(stratum: Ints, first: Ints, rest: Ints, rng: np.random.Generator) -> Ints:
    """Order ``rest`` so that the strata, ``first`` included, stay proportional at every length.

    The j-th patient of a stratum of size N has the Sainte-Laguë quotient N / (2 j - 1); patients are taken by falling
    quotient, equal quotients in random order of their strata.
    """
    strata, size = np.unique(stratum, return_counts=True)
    luck = rng.permutation(len(strata))
    quotient = np.empty(len(rest))
    tie = np.empty(len(rest))
    for place, value in enumerate(strata):
        members = np.flatnonzero(stratum[rest] == value)
        rank = np.arange(len(members)) + 1 + int((stratum[first] == value).sum())
        quotient[members] = size[place] / (2.0 * rank - 1.0)
        tie[members] = luck[place]
    return rest[np.lexsort((tie, -quotient))]


def patient_folds(carries: Bools, stratum: Ints, folds: int, rng: np.random.Generator) -> Ints:
    """Deal patients to folds so that each gets its share of every class; (P,) number of each patient's fold."""
    order, _ = labelling_order(carries, stratum, rng)
    by_stratum = order[np.argsort(stratum[order], kind="stable")]
    fold = np.empty(len(order), dtype=np.intp)
    fold[by_stratum] = np.arange(len(order)) % folds
    return fold
