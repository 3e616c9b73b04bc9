"""Leases: every source is done once, whatever dies; the third death has one culprit."""

from __future__ import annotations

import random

from umedfeat.engine.ray.leases import Holder, Leases


def test_four_at_first_then_as_many_as_it_lately_did() -> None:
    holder = Holder()
    assert holder.room(now=0) == 4
    holder.busy = set(range(4))
    holder.computed(range(4), now=1.0)
    assert holder.room(now=1.5) == 4
    holder.busy = set(range(100))
    holder.computed(range(60), now=2.0)
    assert holder.room(now=2.5) == 64 - 40
    assert holder.room(now=20.0) == 4 - 40  # what it did long ago says nothing


def test_no_holder_gets_more_than_the_bound() -> None:
    holder = Holder(busy=set(range(5000)))
    holder.computed(range(5000), now=0.0)
    assert holder.room(now=0.1) == 1024


def test_largest_first_and_lost_ones_before_all() -> None:
    leases, one, two = Leases([5, 3, 4, 0, 1, 2]), Holder(), Holder()
    assert leases.grant(one) == [5, 3, 4, 0]
    assert leases.bury(one) == [] and leases.lost == 4
    assert leases.grant(two) == [0, 3, 4, 5]
    for number in (0, 3, 4, 5):
        assert leases.close(two, number)
    assert leases.grant(two) == [1, 2] and not leases.finished
    assert leases.close(two, 1) and leases.close(two, 2) and leases.finished


def test_what_the_dead_say_closes_nothing() -> None:
    leases, dead, living = Leases([0]), Holder(), Holder()
    leases.grant(dead)
    leases.bury(dead)
    assert not leases.close(dead, 0)
    leases.grant(living)
    assert leases.close(living, 0)
    assert not leases.close(living, 0) and leases.finished


def test_the_third_death_has_one_culprit() -> None:
    """Actors that hold the poison die; whatever else they held is done by others."""
    leases, done, failed = Leases(range(40)), set(), []
    while not leases.finished:
        holder = Holder()
        while (granted := leases.grant(holder)) and 7 not in holder.open:
            for number in granted:
                leases.close(holder, number)
                done.add(number)
        if holder.open:
            failed += leases.bury(holder)
    assert failed == [7] and done == set(range(40)) - {7}


def test_deaths_that_no_source_is_to_blame_for() -> None:
    leases = Leases([0, 1])
    for _ in range(10):
        holder = Holder()
        assert leases.grant(holder) == [0, 1]
        assert leases.bury(holder, blame=False) == []
    assert not leases.finished


def test_any_order_of_deaths_ends_with_every_source_done_or_failed_once() -> None:
    rng = random.Random(0)
    for _ in range(50):
        leases, holders, ended = Leases(range(30)), [Holder() for _ in range(3)], []
        while not leases.finished:
            place = rng.randrange(3)
            leases.grant(holders[place])
            if rng.random() < 0.2:
                ended += leases.bury(holders[place])
                holders[place] = Holder()
            else:
                held = sorted(holders[place].open)
                for number in rng.sample(held, (len(held) + 1) // 2):
                    assert leases.close(holders[place], number)
                    ended.append(number)
        assert sorted(ended) == list(range(30))
