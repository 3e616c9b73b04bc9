"""Sources that come while a run goes on."""

from __future__ import annotations

import threading
from multiprocessing.connection import wait

import numpy as np
from fake_encoder import FakeEncoder
from fake_engine import fake_engine
from fake_reader import fake_source
from fake_sink import Collected, expected

from umedfeat.engine.device import LocalDevice
from umedfeat.engine.loop import EngineSettings
from umedfeat.engine.supply import Fed, Listed


def test_a_list_is_taken_in_order() -> None:
    supply = Listed([fake_source("a"), fake_source("b")])
    taken = [supply.take(), supply.take()]
    assert [source.id for source in taken if source] == ["a", "b"]
    assert supply.take() is None and supply.ended


def test_what_is_fed_wakes_whoever_waits() -> None:
    supply = Fed()
    assert supply.take() is None and not wait(supply.waitables, 0)
    supply.feed([fake_source("a")])
    supply.feed([fake_source("b")])
    assert wait(supply.waitables, 0)
    assert supply.take() is not None and not wait(supply.waitables, 0)
    supply.end()
    assert wait(supply.waitables, 0) and not supply.ended
    assert supply.take() is not None and supply.ended
    supply.close()


def test_an_engine_works_off_what_it_is_fed() -> None:
    """One source at a time, each only when the one before it has arrived: nothing waits for a full batch."""
    supply, names = Fed(), [f"s{k}" for k in range(5)]

    class FeedNext(Collected):
        def embedded(self, *args: object) -> None:
            super().embedded(*args)  # type: ignore[arg-type]
            threading.Timer(0.01, feed_from, [len(self.features)]).start()

    def feed_from(place: int) -> None:
        if place < len(names):
            supply.feed([fake_source(names[place], 6)])
        else:
            supply.end()

    sink = FeedNext()
    supply.feed([fake_source(names[0], 6)])
    fake_engine(LocalDevice(FakeEncoder()), EngineSettings(1, 4), sink).work_off(supply)
    for name in names:
        np.testing.assert_array_equal(sink.features[name], expected(name, 6))
    supply.close()
