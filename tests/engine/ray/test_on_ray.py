"""The engine on real Ray nodes: whatever dies, the file has the bytes of a local run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_encoder import FakeChoice, FakeEncoder
from fake_reader import FakePolicy, fake_source
from ray_cluster import a_cluster, actors, add_node

from umedfeat.contract import Dropped, Failure, Plan, Source
from umedfeat.engine.local.here import Here
from umedfeat.engine.messages import Wishes
from umedfeat.engine.protocols import Place
from umedfeat.engine.ray.cluster import RayCluster
from umedfeat.engine.ray.place import RayPlace
from umedfeat.engine.ray.settings import ClusterSettings
from umedfeat.extraction.sink import StoreSink
from umedfeat.store import FeatureStore, Header
from umedfeat.terminal.progress import SilentProgress

pytestmark = [
    pytest.mark.slow,
    # Ray leaves its log files and sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SOURCES = [fake_source(f"s{k:02d}", 5 + k % 3, seconds_per_row=0.02) for k in range(40)]


class Disturbed(StoreSink):
    """Calls ``disturb`` once, when so many sources have arrived."""

    def __init__(self, store: FeatureStore, after: int, disturb: Callable[[], object]) -> None:
        super().__init__(store, None, None)
        self.after, self.disturb = after, disturb

    def embedded(self, source: Source, plan: Plan, features: Any, dropped: tuple[Dropped, ...]) -> None:
        super().embedded(source, plan, features, dropped)
        self._count_down()

    def stored(self, source: Source, plan: Plan) -> None:
        super().stored(source, plan)
        self._count_down()

    def failed(self, source: Source, failure: Failure) -> None:
        super().failed(source, failure)
        self._count_down()

    def _count_down(self) -> None:
        self.after -= 1
        if self.after == 0:
            self.disturb()


def embed(
    place: Place,
    sources: Sequence[Source],
    out: Path,
    *,
    shared: bool = False,
    after: int = -1,
    disturb: Callable[[], object] = lambda: None,
) -> StoreSink:
    """One run into a feature file, disturbed when ``after`` sources have arrived."""
    with contextlib.closing(place), FeatureStore(out, Header({"name": "fake"}, {}), dim=FakeEncoder.dim) as store:
        sink = Disturbed(store, after, disturb)
        place.prepare(FakePolicy(), Wishes(segments=store.place_for_others() if shared else None))
        place.embed(sources, sink, SilentProgress(), threading.Event())
        store.finish({})
    return sink


def on(cluster: Any, **settings: Any) -> RayPlace:
    return RayPlace(RayCluster(cluster.address), ClusterSettings(cluster.address, **settings), FakeChoice())


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of an undisturbed run on this machine."""
    out = tmp_path_factory.mktemp("local") / "feats.h5"
    embed(Here(FakeChoice()), SOURCES, out)
    return out.read_bytes()


@pytest.mark.parametrize("shared", [False, True], ids=["driver", "shared"])
def test_a_node_that_dies_and_another_that_joins(tmp_path: Path, local: bytes, shared: bool) -> None:
    with a_cluster() as cluster:
        doomed = add_node(cluster)

        def disturb() -> None:
            cluster.remove_node(doomed, allow_graceful=False)
            add_node(cluster)

        place = on(cluster)
        sink = embed(place, SOURCES, tmp_path / "feats.h5", shared=shared, after=6, disturb=disturb)
        told = place.account()
    assert sink.count == len(SOURCES) and not sink.failures
    assert (tmp_path / "feats.h5").read_bytes() == local
    assert sum(told["nodes"].values()) == len(SOURCES)


@pytest.mark.parametrize("shared", [False, True], ids=["driver", "shared"])
def test_an_actor_that_is_killed(tmp_path: Path, local: bytes, shared: bool) -> None:
    with a_cluster(cpus=2) as cluster:
        place = on(cluster, cpus_per_worker=1)
        killed = actors()[:1]
        sink = embed(
            place,
            SOURCES,
            tmp_path / "feats.h5",
            shared=shared,
            after=6,
            disturb=lambda: os.kill(killed[0], signal.SIGKILL),
        )
        told = place.account()
    assert sink.count == len(SOURCES) and (shared or told["lost_leases"] > 0)
    assert (tmp_path / "feats.h5").read_bytes() == local


def test_a_source_that_kills_its_actor_fails_after_three_deaths(tmp_path: Path) -> None:
    poison = fake_source("poison", 9, read="kill parent", read_at=3)
    with a_cluster(cpus=2) as cluster:
        place = on(cluster, cpus_per_worker=1)
        sink = embed(place, [*SOURCES[:20], poison], tmp_path / "ray.h5")
        told = place.account()
    assert [failure.source for failure in sink.failures] == ["poison.fake"]
    assert sink.failures[0].error == "WorkerDied" and sink.count == 20
    assert told["lost_leases"] >= 3


def test_a_source_that_kills_its_reading_process_costs_no_actor(tmp_path: Path) -> None:
    bad = fake_source("bad", 9, read="segfault", read_at=3)
    with a_cluster() as cluster:
        place = on(cluster)
        sink = embed(place, [*SOURCES[:8], bad], tmp_path / "ray.h5")
        told = place.account()
    assert [failure.source for failure in sink.failures] == ["bad.fake"] and told["lost_leases"] == 0
