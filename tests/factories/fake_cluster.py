"""A cluster inside this process: answers at once, and dies on demand."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fake_encoder import FakeEncoder

from umedfeat._version import __version__
from umedfeat.contract import Failure, Plan, make_regions
from umedfeat.engine.messages import Broken, Ready
from umedfeat.engine.ray.cluster import Gone, Node
from umedfeat.engine.ray.messages import Assignment, Ended, Lease, Report
from umedfeat.engine.seconds import StageSeconds
from umedfeat.errors import SetupError

__all__ = ["FakeCluster", "FakeStation"]

_IDS = itertools.count()
_PLAN = Plan(make_regions(np.arange(3), 0), (16, 16), "uint8", "fake", "OT", 16, 16, content_sha256="0" * 64)


def facts(settings: Mapping[str, Any] = FakeEncoder.settings) -> Ready:
    return Ready("fake", FakeEncoder.dim, FakeEncoder.image_size, "cpu", "fp32", settings, 32)


@dataclass(eq=False)
class FakeStation:
    """Embeds ``pace`` sources a report. Attributes are what a test wants it to do.

    ``poison``: ids of sources that kill it. ``stored``: rows are told to lie beside the output.
    """

    node: Node
    poison: frozenset[str] = frozenset()
    pace: int = 100
    installed: str = __version__
    encoder: Ready | Broken = field(default_factory=facts)
    breaks_at: int = -1
    stored: bool = False
    alive: bool = True
    reports: int = 0
    leases: deque[Lease] = field(default_factory=deque)

    def version(self) -> str:
        return self.installed

    def load(self, choice: object, formats: object) -> Ready | Broken:
        return self.encoder

    def begin(self, assignment: Assignment) -> Broken | None:
        return None

    def exchange(self, leases: Sequence[Lease]) -> Report:
        self.leases.extend(leases)
        self.reports += 1
        if self.reports == self.breaks_at:
            return Report((), (), (), 0, StageSeconds(), Broken(SetupError("CUDA error")))
        done = [self.leases.popleft() for _ in range(min(self.pace, len(self.leases)))]
        if any(lease.source.id in self.poison for lease in done):
            self.alive = False
        ended = tuple(self._ended(lease) for lease in done)
        computed = tuple(lease.number for lease in done)
        return Report(ended, computed, tuple(3 for _ in done), 3 * len(done), StageSeconds())

    def close(self) -> Report:
        return Report((), (), (), 0, StageSeconds())

    def _ended(self, lease: Lease) -> Ended:
        if lease.source.id.startswith("bad"):
            return Ended(lease.number, failure=Failure(lease.source.name, "read", "UnreadableInput", "bad bytes"))
        features = None if self.stored else np.zeros((3, FakeEncoder.dim), np.float32)
        return Ended(lease.number, _PLAN, features)


class FakeCluster:
    """Nodes come and go as a test says; ``behaviour`` of a node goes to its stations."""

    def __init__(self, *nodes: tuple[str, int, int], **behaviour: Any) -> None:
        self.present = [Node(name, name, cpus, gpus) for name, cpus, gpus in nodes]
        self.behaviour: dict[str, dict[str, Any]] = {node.id: dict(behaviour) for node in self.present}
        self.started: list[FakeStation] = []
        self.killed: list[FakeStation] = []
        self.closed = False
        self._answers: dict[int, Any] = {}

    def nodes(self) -> Sequence[Node]:
        return list(self.present)

    def start(self, node: Node, cpus: int, gpus: int) -> FakeStation:
        self.started.append(FakeStation(node, **self.behaviour.get(node.id, {})))
        return self.started[-1]

    def ask(self, station: FakeStation, method: str, *arguments: Any) -> int:
        question = next(_IDS)
        answer = getattr(station, method)(*arguments) if station.alive else None
        self._answers[question] = answer if station.alive else Gone("ActorDiedError")
        return question

    def answers(self, questions: Sequence[int], timeout: float) -> Mapping[int, Any]:
        return {question: self._answers.pop(question) for question in questions}

    def kill(self, station: FakeStation) -> None:
        station.alive = False
        self.killed.append(station)

    def close(self) -> None:
        self.closed = True
