"""The engine: complete, order-free, and one bad source costs one source."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_encoder import FakeEncoder, expected_features
from fake_engine import fake_engine
from fake_reader import FakePolicy, SlowPolicy, fake_source, named_semaphore, rows_of
from fake_sink import Collected, expected

from umedfeat.contract import Source
from umedfeat.engine import loop
from umedfeat.engine.device import LocalDevice
from umedfeat.engine.local import pool
from umedfeat.engine.loop import Engine, EngineSettings
from umedfeat.engine.planning import plan_all, visit_all
from umedfeat.errors import InputError, WorkerDied
from umedfeat.policy import Limits
from umedfeat.terminal.progress import SilentProgress


def run(
    sources: list[Source],
    *,
    workers: int = 2,
    batch_size: int = 4,
    timeout: float = 60,
    policy: FakePolicy | None = None,
) -> Collected:
    sink = Collected()
    policy = policy or FakePolicy()
    settings = EngineSettings(workers, batch_size, max_unreadable=policy.limits.max_unreadable)
    fake_engine(LocalDevice(FakeEncoder()), settings, sink, policy=policy, timeout=timeout).run(sources)
    return sink


def test_batches_cross_sources_and_every_row_lands_where_it_belongs() -> None:
    sources = [fake_source(f"s{k}", rows=k, dtype="uint8" if k % 2 else "float32") for k in range(9)]
    sink = run(sources, batch_size=4)
    assert sorted(sink.features) == [f"s{k}" for k in range(9)]
    assert sink.features["s0"].shape == (0, 12)
    for k in range(1, 9):
        np.testing.assert_array_equal(sink.features[f"s{k}"], expected(f"s{k}", k, "uint8" if k % 2 else "float32"))


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_changes_nothing(batch_size: int) -> None:
    sources = [fake_source(f"s{k}", rows=11) for k in range(4)]
    sink = run(sources, workers=1, batch_size=batch_size)
    for k in range(4):
        np.testing.assert_array_equal(sink.features[f"s{k}"], expected(f"s{k}", 11))


@pytest.mark.parametrize("how", ["error", "crash", "kill"])
def test_a_source_that_cannot_be_planned_costs_only_itself(how: str) -> None:
    sources = [fake_source("a"), fake_source("bad", plan=how), fake_source("c")]
    sink = run(sources)
    assert sorted(sink.features) == ["a", "c"]
    assert sink.failures["bad"].stage == "plan"
    assert "secret tag value" not in sink.failures["bad"].message


@pytest.mark.parametrize("how", ["error", "crash", "kill", "segfault", "memory"])
def test_a_source_that_cannot_be_read_costs_only_itself(how: str) -> None:
    sources = [
        fake_source("a", 9),
        fake_source("bad", 9, read=how, read_at=6),
        fake_source("c", 9),
        fake_source("d", 9),
    ]
    sink = run(sources, batch_size=5)
    assert sorted(sink.features) == ["a", "c", "d"]
    for name in "acd":
        np.testing.assert_array_equal(sink.features[name], expected(name, 9))
    assert sink.failures["bad"].stage == "read"
    assert sink.failures["bad"].error == ("WorkerDied" if how in ("kill", "segfault") else "UnreadableInput")


def test_many_deaths_still_end() -> None:
    sources = [fake_source(f"s{k}", 6, **({"read": "kill", "read_at": k % 6} if k % 3 == 0 else {})) for k in range(12)]
    sink = run(sources, batch_size=4)
    assert sorted(sink.failures) == sorted(f"s{k}" for k in range(0, 12, 3))
    assert len(sink.features) == 8


def test_a_source_that_kills_every_process_fails_once() -> None:
    """Several workers read it at once, so several die of it; the others' rows all arrive."""
    slow = fake_source("slow", 300, seconds_per_row=0.005)
    sink = run([fake_source("a", 9), fake_source("bad", 200, read="kill", read_at="every"), slow], workers=3)
    assert sorted(sink.features) == ["a", "slow"]
    np.testing.assert_array_equal(sink.features["slow"], expected("slow", 300))
    assert sink.failures["bad"].stage == "read"


def test_a_hanging_source_is_stopped_and_named() -> None:
    sink = run([fake_source("a"), fake_source("bad", read="hang", read_at=2), fake_source("c")], timeout=2)
    assert sorted(sink.features) == ["a", "c"]
    assert "longer than 2 s" in sink.failures["bad"].message


def test_a_time_limit_begins_when_the_reading_does() -> None:
    """What a busy machine needs to start a process is not the input's fault."""
    sink = run([fake_source("a"), fake_source("b", 1)], timeout=1.5, policy=SlowPolicy())
    assert sorted(sink.features) == ["a", "b"] and not sink.failures


def test_unreadable_regions_are_dropped_and_recorded_never_invented() -> None:
    policy = FakePolicy(limits=Limits(max_unreadable=0.5))
    sink = run([fake_source("a", 10, drops=[3, 4])], policy=policy)
    kept = [0, 1, 2, 5, 6, 7, 8, 9]
    assert list(sink.plans["a"].regions["x"]) == kept
    np.testing.assert_array_equal(sink.features["a"], expected("a", 10)[kept])
    assert [(d.x, d.reason) for d in sink.dropped["a"]] == [(3, "bad bytes"), (4, "bad bytes")]


def test_too_many_unreadable_regions_fail_the_source() -> None:
    sink = run([fake_source("a", 50, drops=[1]), fake_source("b", 100, drops=[1])])
    assert sorted(sink.features) == ["b"]
    assert "1 of 50 regions are unreadable (bad bytes)" in sink.failures["a"].message


def test_sources_of_one_region_are_opened_once(tmp_path: Path) -> None:
    """A radiograph is decoded for its plan: its pixels come with it, whatever else the run holds."""
    log = tmp_path / "opened"
    single = [fake_source(f"x{k}", 1, dtype="float32" if k % 3 else "uint8", log=str(log)) for k in range(40)]
    several = [fake_source(f"s{k}", 7) for k in range(5)]
    sink = run([*single[:20], *several, *single[20:]], batch_size=4)
    for source in single:
        dtype = "float32" if int(source.id[1:]) % 3 else "uint8"
        np.testing.assert_array_equal(sink.features[source.id], expected(source.id, 1, dtype))
    for source in several:
        np.testing.assert_array_equal(sink.features[source.id], expected(source.id, 7))
    assert sorted(log.read_text().split()) == sorted(source.id for source in single)


@pytest.mark.parametrize("how", ["error", "crash", "kill", "memory"])
def test_the_only_region_of_a_source_that_cannot_be_read_costs_only_itself(how: str) -> None:
    sources = [fake_source("a", 1), fake_source("bad", 1, read=how, read_at=0), fake_source("c", 1)]
    sink = run(sources)
    assert sorted(sink.features) == ["a", "c"]
    assert sink.failures["bad"].stage == ("plan" if how == "kill" else "read")


def test_an_only_region_that_is_unreadable_is_told_as_any_other() -> None:
    sink = run([fake_source("a", 1), fake_source("bad", 1, drops=[0])])
    assert sorted(sink.features) == ["a"]
    assert "1 of 1 regions are unreadable (bad bytes)" in sink.failures["bad"].message


def test_pixels_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow encoder must not let the pixels of a hundred thousand radiographs pile up."""
    most = []
    take = loop._Loop._take_carried

    def watched(self: loop._Loop, *, full: bool) -> bool:
        most.append(self._carried.waiting)
        return take(self, full=full)

    def slow(self: FakeEncoder, images: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return expected_features(images)

    monkeypatch.setattr(loop._Loop, "_take_carried", watched)
    monkeypatch.setattr(FakeEncoder, "__call__", slow)
    sink = run([fake_source(f"x{k}", 1) for k in range(200)], workers=2, batch_size=4)
    assert len(sink.features) == 200
    assert max(most) <= loop._CARRIED_BATCHES * 4 + 4  # and what two processes had under way


def test_values_that_are_not_finite_fail_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEncoder, "__call__", lambda self, images: torch.full((len(images), 12), torch.nan))
    sink = run([fake_source("a")])
    assert sink.failures["a"].stage == "encode"


def test_a_device_out_of_memory_is_asked_for_less(monkeypatch: pytest.MonkeyPatch) -> None:
    def small_device(self: FakeEncoder, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return expected_features(images)

    monkeypatch.setattr(FakeEncoder, "__call__", small_device)
    sink = run([fake_source("a", 20)], batch_size=16)
    np.testing.assert_array_equal(sink.features["a"], expected("a", 20))


def test_stop_ends_early_without_half_items() -> None:
    stop = threading.Event()
    sink = Collected()

    class StopAtFirst(Collected):
        def embedded(self, *args: object) -> None:
            sink.embedded(*args)  # type: ignore[arg-type]
            stop.set()

    engine = fake_engine(LocalDevice(FakeEncoder()), EngineSettings(1, 4), StopAtFirst(), stop=stop)
    engine.run([fake_source(f"s{k}", 6, seconds_per_row=0.02) for k in range(20)])
    assert 1 <= len(sink.features) < 20
    for name, features in sink.features.items():
        np.testing.assert_array_equal(features, expected(name, 6))


def test_plans_are_made_ahead_but_not_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand radiographs must not be planned while the encoder is at the first."""
    monkeypatch.setattr(loop, "_PLANNED_SOURCES", 8)

    class Watching(SilentProgress):
        ahead = most = 0

        def planned(self, regions: int) -> None:
            self.ahead += 1
            self.most = max(self.most, self.ahead)

        def finished(self, name: str, status: str) -> None:
            self.ahead -= 1

    watching, sink = Watching(), Collected()
    engine = fake_engine(LocalDevice(FakeEncoder()), EngineSettings(2, 2), sink, progress=watching)
    engine.run([fake_source(f"s{k:02d}", 1) for k in range(60)])
    assert len(sink.features) == 60
    assert 2 <= watching.most <= 8


def test_visiting_alone() -> None:
    """A visitor sees planned and unplanned sources; what kills a decoder costs its own source."""
    planned = {source.id: plan for source, plan in plan_all([fake_source("a", 3)], FakePolicy(), workers=1)}
    sources = [fake_source("a", 3), fake_source("dies", read="segfault", read_at=0), fake_source("bad", plan="error")]
    pairs = [(source, planned.get(source.id)) for source in [*sources, fake_source("d", 2)]]
    seen = {source.id: visited for source, visited in visit_all(pairs, rows_of, FakePolicy(), workers=2)}
    assert (seen["a"].value, seen["d"].value) == (("a", 3), ("d", 2))
    assert isinstance(seen["dies"].error, WorkerDied)
    assert seen["bad"].stage == "plan" and seen["bad"].error is not None


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="semaphores of Linux")
def test_what_libraries_keep_in_a_reading_process_is_cleared_away() -> None:
    pairs = [(fake_source("a", 1), None), (fake_source("b", 1), None)]
    names = [visited.value for _, visited in visit_all(pairs, named_semaphore, FakePolicy(), workers=1)]
    assert all(names) and not any(Path(f"/dev/shm/sem.{name.removeprefix('/')}").exists() for name in names)


def test_planning_alone() -> None:
    sources = [fake_source("a", 3), fake_source("bad", plan="kill"), fake_source("c", 4)]
    outcomes = {source.id: outcome for source, outcome in plan_all(sources, FakePolicy(), workers=2)}
    assert isinstance(outcomes["bad"], InputError)
    assert [len(outcomes[name].regions) for name in "ac"] == [3, 4]  # type: ignore[union-attr]


def test_no_more_processes_than_the_work_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One radiograph is read by one process, whatever the machine has; a process started ahead is that one."""
    started: list[int] = []
    begin = pool.Worker.introduce

    def counted(self: pool.Worker, *arguments: Any) -> pool.Worker:
        started.append(self.process.pid)
        return begin(self, *arguments)

    monkeypatch.setattr(pool.Worker, "introduce", counted)
    with contextlib.closing(pool.Worker(["raster"])) as first:
        made = pool.WorkerPool(FakePolicy(), workers=8, slot_bytes=4 * 3 * 16 * 16 * 4, timeout=60, first=first)
        sink = Collected()
        settings = EngineSettings(8, 4)
        Engine(LocalDevice(FakeEncoder()), made, settings, sink, SilentProgress(), threading.Event()).run(
            [fake_source("x", 1)]
        )
    assert list(sink.features) == ["x"]
    assert started == [first.process.pid]
