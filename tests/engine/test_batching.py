"""Every row is handed out once, in bands of neighbours, whoever asks."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from fake_reader import SIDE, fake_source

from umedfeat.contract import Plan, make_regions
from umedfeat.engine import batching
from umedfeat.engine.batching import Pending, RowQueues


def waiting(number: int, rows: int) -> Pending:
    regions = make_regions(x=np.arange(rows), y=np.zeros(rows, int))
    plan = Plan(regions, (SIDE, SIDE), "uint8", "fake", "photo", rows, 1)
    return Pending(number, fake_source(f"s{number}", rows), plan, np.empty((rows, 1), np.float32))


@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_handed_out_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes of any number and speed, sources that come late, one that fails on the way."""
    monkeypatch.setattr(batching, "_BAND", 50)
    chance = random.Random(seed)
    queues, sources = RowQueues(8), [waiting(k, chance.randint(1, 300)) for k in range(6)]
    late, bad = list(sources), sources[chance.randrange(6)]
    seen: Counter[tuple[int, int]] = Counter()
    while late or queues.has_batch(full=False):
        if late and (chance.random() < 0.2 or not queues.has_batch(full=False)):
            queues.add(late.pop())
        elif not bad.abandoned and bad not in late and chance.random() < 0.05:
            queues.abandon(bad)
        else:
            batch = queues.take_batch(0, full=False, lane=chance.randrange(4))
            assert 1 <= batch.size <= 8
            assert len({segment.number for segment in batch.segments} & {bad.number}) == 0 or not bad.abandoned
            for segment in batch.segments:
                assert segment.rows["x"].tolist() == list(range(segment.first, segment.first + len(segment.rows)))
                seen.update((segment.number, segment.first + k) for k in range(len(segment.rows)))
    assert queues.waiting == 0 and set(seen.values()) == {1}
    for source in sources:
        rows = sorted(row for number, row in seen if number == source.number)
        assert source.abandoned or rows == list(range(len(source.plan.regions)))


def test_neighbouring_rows_go_to_one_lane() -> None:
    """What lies under two rows of tiles is decoded once by whoever reads both."""
    queues = RowQueues(32)
    queues.add(waiting(0, 4096))
    lanes: defaultdict[int, list[int]] = defaultdict(list)
    for turn in range(4096 // 32):
        (segment,) = queues.take_batch(0, full=True, lane=turn % 2).segments
        lanes[turn % 2].append(segment.first)
    assert sum(len(firsts) for firsts in lanes.values()) == 128
    for firsts in lanes.values():
        jumps = [first for before, first in itertools.pairwise(firsts) if first != before + 32]
        assert len(jumps) <= 1


def test_the_last_band_is_shared() -> None:
    """Nobody waits while another has more than a batch to read."""
    queues = RowQueues(10)
    queues.add(waiting(0, 100))
    first = queues.take_batch(0, full=True, lane=0).segments[0]
    other = queues.take_batch(0, full=True, lane=1).segments[0]
    assert (first.first, other.first) == (0, 55)
