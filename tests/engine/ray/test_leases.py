"""Leases: every source is done once, whatever dies; the third death has one culprit."""

from __future__ import annotations

import random

from umedfeat.engine.ray.leases import Holder, Leases

GIB, KIB = 1 << 30, 1 << 10


def huge(count: int) -> list[int]:
    """Sizes of slides, all alike."""
    return [GIB] * count


def test_four_large_ones_at_first_then_as_many_as_it_lately_did() -> None:
    leases, holder = Leases(huge(1000)), Holder()
    assert leases.grant(holder) == [0, 1, 2, 3] and leases.grant(holder) == []
    for number in range(4):
        leases.close(holder, number)
    assert len(leases.grant(holder)) == 4  # four lately
    for number in range(4, 8):
        leases.close(holder, number)
    assert len(leases.grant(holder)) == 8


def test_what_a_holder_did_long_ago_says_nothing() -> None:
    holder = Holder(busy=set(range(100)))
    holder.computed(range(60), now=2.0)
    assert holder.pace(now=2.5) == 60 and holder.pace(now=20.0) == 0


def test_small_ones_fill_batches_from_the_first_lease() -> None:
    leases, holder = Leases([60 * KIB] * 1000), Holder()
    assert len(leases.grant(holder)) == 256 and leases.grant(holder) == []
    for number in range(32):
        leases.close(holder, number)
    assert len(leases.grant(holder)) == 32


def test_some_megabytes_each_are_small_until_their_bytes_are_many() -> None:
    assert len(Leases([10 << 20] * 1000).grant(Holder())) == 6
    assert len(Leases([GIB, *[KIB] * 10]).grant(Holder())) == 4


def test_no_holder_gets_more_than_its_share_of_what_is_left() -> None:
    """Else one would work through the last small inputs while the others have nothing to do."""
    leases, holders = Leases([KIB] * 100), [Holder() for _ in range(5)]
    assert [len(leases.grant(holder, actors=5)) for holder in holders] == [20] * 5
    for number in range(16):
        assert leases.close(holders[0], number)
    assert leases.grant(holders[0], actors=5) == [] and not leases.finished


def test_the_last_ones_go_to_whoever_has_less_than_the_others() -> None:
    leases, quick, slow = Leases([KIB] * 100), Holder(), Holder()
    first = leases.grant(quick, actors=3)
    leases.grant(slow, actors=3)
    for number in first:
        leases.close(quick, number)
    assert len(leases.grant(quick, actors=3)) == 22  # a third of the 66 that are not done


def test_no_holder_gets_more_than_the_bound() -> None:
    leases, holder = Leases(huge(9000)), Holder()
    holder.busy = set(range(5000, 8000))
    holder.computed(range(5000, 8000))
    assert len(leases.grant(holder)) == 1024


def test_largest_first_and_lost_ones_before_all() -> None:
    order, one, two = [5, 3, 4, 0, 1, 2], Holder(), Holder()
    leases = Leases([GIB * (6 - order.index(number)) for number in range(6)])
    assert leases.grant(one) == [5, 3, 4, 0]
    assert leases.bury(one) == [] and leases.lost == 4
    assert leases.grant(two) == [0, 3, 4, 5]
    for number in (0, 3, 4, 5):
        assert leases.close(two, number)
    assert leases.grant(two) == [1, 2] and not leases.finished
    assert leases.close(two, 1) and leases.close(two, 2) and leases.finished


def test_what_the_dead_say_closes_nothing() -> None:
    leases, dead, living = Leases(huge(1)), Holder(), Holder()
    leases.grant(dead)
    leases.bury(dead)
    assert not leases.close(dead, 0)
    leases.grant(living)
    assert leases.close(living, 0)
    assert not leases.close(living, 0) and leases.finished


def test_the_third_death_has_one_culprit() -> None:
    """Actors that hold the poison die; whatever else they held is done by others."""
    leases, done, failed = Leases(huge(40)), set(), []
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
    leases = Leases(huge(2))
    for _ in range(10):
        holder = Holder()
        assert leases.grant(holder) == [0, 1]
        assert leases.bury(holder, blame=False) == []
    assert not leases.finished


def test_any_order_of_deaths_ends_with_every_source_done_or_failed_once() -> None:
    rng = random.Random(0)
    for _ in range(50):
        leases, holders, ended = Leases([rng.choice([KIB, GIB]) for _ in range(30)]), [Holder() for _ in range(3)], []
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
