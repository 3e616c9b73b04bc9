"""The driver over a cluster of fakes: every source once, whoever dies; who does not fit is refused."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from fake_cluster import FakeCluster, FakeStation, facts
from fake_reader import FakePolicy, fake_source
from fake_sink import Collected

from umedfeat.contract import Plan, Source
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.engine.messages import Broken, Wishes
from umedfeat.engine.ray import members
from umedfeat.engine.ray.cluster import Node
from umedfeat.engine.ray.place import RayPlace
from umedfeat.engine.ray.settings import ClusterSettings
from umedfeat.errors import SetupError
from umedfeat.terminal.progress import SilentProgress


class Sink(Collected):
    """Remembers what was told to lie beside the output, too."""

    def __init__(self) -> None:
        super().__init__()
        self.beside: list[str] = []

    def stored(self, source: Source, plan: Plan) -> None:
        self.beside.append(source.id)


class Watching(SilentProgress):
    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []
        self.ended: list[str] = []

    def cluster(self, nodes: int, lost: int) -> None:
        self.shown.append((nodes, lost))

    def finished(self, name: str, status: str) -> None:
        self.ended.append(name)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(members, "_PATIENCE", 0.2)


def place_on(cluster: FakeCluster, **settings: Any) -> RayPlace:
    return RayPlace(cluster, ClusterSettings(**settings), EncoderChoice("fake"))


def embed(place: RayPlace, sources: list[Source], stop: threading.Event | None = None) -> tuple[Sink, Watching]:
    sink, progress = Sink(), Watching()
    place.prepare(FakePolicy(), Wishes())
    place.embed(sources, sink, progress, stop or threading.Event())
    return sink, progress


def test_an_undisturbed_run() -> None:
    cluster = FakeCluster(("a", 8, 0), ("b", 2, 0))
    place = place_on(cluster)
    sink, progress = embed(place, [fake_source(f"s{k}") for k in range(100)] + [fake_source("bad")])
    assert sorted(station.node.name for station in cluster.started) == ["a", "a", "b"]
    assert len(sink.features) == 100 and sorted(sink.failures) == ["bad"]
    assert len(progress.ended) == 101 and progress.shown == [(2, 0)]
    told = place.account()
    assert sum(told["nodes"].values()) == 100 and told["lost_leases"] == 0
    place.close()
    assert cluster.closed and set(cluster.killed) >= set(cluster.started)


def test_what_actors_store_themselves_is_only_counted() -> None:
    sink, _ = embed(place_on(FakeCluster(("a", 4, 0), stored=True)), [fake_source("x"), fake_source("y")])
    assert sorted(sink.beside) == ["x", "y"] and not sink.features


def test_a_poison_source_costs_three_actors_and_itself() -> None:
    cluster = FakeCluster(("a", 4, 0), poison=frozenset({"s3"}), pace=1)
    place = place_on(cluster)
    sink, progress = embed(place, [fake_source(f"s{k}") for k in range(12)])
    assert sorted(sink.failures) == ["s3"] and len(sink.features) == 11
    assert sink.failures["s3"].error == "WorkerDied"
    assert len(cluster.started) == 4 and place.account()["lost_leases"] >= 3
    assert progress.shown[-1][1] == place.account()["lost_leases"]


def test_a_node_that_vanishes_and_one_that_joins() -> None:
    cluster = FakeCluster(("a", 4, 0), ("b", 4, 0), pace=1)
    place = place_on(cluster)

    class NodeFails(Sink):
        def embedded(self, *args: Any) -> None:
            super().embedded(*args)
            if len(self.features) == 5:
                cluster.present = [Node("b", "b", 4, 0), Node("c", "c", 4, 0)]

    sink = NodeFails()
    place.prepare(FakePolicy(), Wishes())
    place.embed([fake_source(f"s{k}") for k in range(30)], sink, Watching(), threading.Event())
    assert len(sink.features) == 30
    assert {station.node.name for station in cluster.started} == {"a", "b", "c"}
    assert {"b", "c"} <= place.account()["nodes"].keys()


def test_another_version_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster(("old", 4, 0), ("new", 4, 0))
    cluster.behaviour["old"]["installed"] = "0.0.1"
    with caplog.at_level(logging.WARNING, "umedfeat"):
        sink, _ = embed(place_on(cluster), [fake_source("x")])
    assert sorted(sink.features) == ["x"]
    assert "old has umedfeat 0.0.1" in caplog.text
    assert sum(station.node.name == "old" for station in cluster.started) == 1


def test_nobody_fits() -> None:
    cluster = FakeCluster(("old", 4, 0), installed="0.0.1")
    with pytest.raises(SetupError, match=r"old has umedfeat 0.0.1.*same version") as told:
        place_on(cluster)
    assert told.value.exit_code == 2 and cluster.closed


def test_an_encoder_that_cannot_be_loaded() -> None:
    cluster = FakeCluster(("a", 4, 0), encoder=Broken(SetupError("no weights", remedy="fetch them")))
    with pytest.raises(SetupError, match=r"a: no weights.*fetch them"):
        place_on(cluster)


def test_other_numbers_are_refused() -> None:
    cluster = FakeCluster(("a", 4, 0), ("b", 4, 0), pace=1)
    cluster.behaviour["b"]["encoder"] = facts({"name": "fake", "precision": "bf16"})
    place = place_on(cluster)
    embed(place, [fake_source(f"s{k}") for k in range(20)])
    assert list(place.account()["nodes"]) == ["a"]


def test_actors_that_do_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(("a", 4, 0), alive=False)
    with pytest.raises(SetupError, match="a: actors do not start"):
        place_on(cluster)
    assert len(cluster.started) == 3


def test_a_device_that_breaks_is_not_the_sources_fault() -> None:
    cluster = FakeCluster(("a", 4, 0), ("b", 4, 0), pace=1)
    cluster.behaviour["a"]["breaks_at"] = 2
    place = place_on(cluster)
    sink, _ = embed(place, [fake_source(f"s{k}") for k in range(40)])
    assert len(sink.features) == 40 and not sink.failures


def test_no_room() -> None:
    with pytest.raises(SetupError, match=r"no node has the 16 cores and 0 GPUs.*a: 8 and 0"):
        place_on(FakeCluster(("a", 8, 0)), cpus_per_worker=16)


def test_gpus_are_taken_where_there_are_any() -> None:
    cluster = FakeCluster(("a", 8, 0), ("b", 16, 2))
    place_on(cluster)
    assert [station.node.name for station in cluster.started] == ["b", "b"]
    on_cpu = FakeCluster(("b", 8, 2))
    RayPlace(on_cpu, ClusterSettings(), EncoderChoice("fake", device="cpu"))
    assert len(on_cpu.started) == 2


def test_no_more_actors_than_were_asked_for() -> None:
    cluster = FakeCluster(("a", 8, 0), ("b", 8, 0))
    place_on(cluster, workers=2)
    assert sorted(station.node.name for station in cluster.started) == ["a", "b"]


def test_when_all_nodes_are_gone_the_run_ends_with_a_word() -> None:
    cluster = FakeCluster(("a", 4, 0), pace=1)
    place = place_on(cluster)
    cluster.present = []
    with pytest.raises(SetupError, match=r"no actor is left.*same command again"):
        embed(place, [fake_source(f"s{k}") for k in range(20)])


def test_stopped_early_what_is_done_is_taken() -> None:
    stop = threading.Event()
    place = place_on(FakeCluster(("a", 4, 0), pace=1))

    class StopSoon(Sink):
        def embedded(self, *args: Any) -> None:
            super().embedded(*args)
            stop.set()

    sink = StopSoon()
    place.prepare(FakePolicy(), Wishes())
    place.embed([fake_source(f"s{k}") for k in range(50)], sink, Watching(), stop)
    assert 1 <= len(sink.features) < 50


def test_what_the_dead_say_is_not_listened_to() -> None:
    """A report that was under way when its node vanished must not be taken beside the one of who does it again."""
    cluster = FakeCluster(("a", 4, 0), ("b", 4, 0), pace=1)
    place = place_on(cluster)
    first: FakeStation = cluster.started[0]

    class NodeFails(Sink):
        def embedded(self, *args: Any) -> None:
            super().embedded(*args)
            cluster.present = [node for node in cluster.present if node.id != first.node.id]

    sink = NodeFails()
    place.prepare(FakePolicy(), Wishes())
    place.embed([fake_source(f"s{k}") for k in range(10)], sink, Watching(), threading.Event())
    assert len(sink.features) == 10
