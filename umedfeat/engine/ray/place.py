"""A Ray cluster as the place of a run."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from umedfeat.contract import EncoderFacts, Source
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.engine.messages import Ready, Wishes
from umedfeat.engine.protocols import Sink
from umedfeat.engine.ray.cluster import Cluster, Gone
from umedfeat.engine.ray.driver import Driver
from umedfeat.engine.ray.members import Members
from umedfeat.engine.ray.messages import Assignment
from umedfeat.engine.ray.settings import ClusterSettings
from umedfeat.engine.seconds import StageSeconds
from umedfeat.policy import Policy
from umedfeat.terminal.progress import Progress

__all__ = ["RayPlace"]

_WAIT_SECONDS = 0.5


class RayPlace:
    """A cluster that runs already. See ``umedfeat.engine.protocols.Place``.

    Args:
        cluster: as it is reached; closed with this.
        settings: how it is used.
        choice: the encoder, which every actor loads.
        formats: keys of ``umedfeat.readers.READERS`` that will be met, as far as that is known.

    Raises:
        SetupError: no actor comes to work.
    """

    def __init__(
        self, cluster: Cluster, settings: ClusterSettings, choice: EncoderChoice, formats: Iterable[str] = ()
    ) -> None:
        self._cluster, self._settings = cluster, settings
        self._policy, self._wishes = Policy(), Wishes()
        self._driver: Driver | None = None
        try:
            self._members = Members(cluster, settings, choice, tuple(sorted(formats)))
            self._facts = self._first_facts()
        except BaseException:
            cluster.close()
            raise

    @property
    def encoder(self) -> EncoderFacts:
        return self._facts

    def prepare(self, policy: Policy, wishes: Wishes) -> str:
        self._policy, self._wishes = policy, wishes
        nodes = {member.node.id for member in self._members.living}
        told, actors = self._facts, len(self._members.living)
        return f"{told.name} on {told.device} ({told.precision}), {actors} actors on {len(nodes)} nodes of a cluster"

    def embed(self, sources: Sequence[Source], sink: Sink, progress: Progress, stop: threading.Event) -> StageSeconds:
        wishes = replace(self._wishes, spill_dir=None)
        assignment = Assignment(self._policy, wishes, tuple(_needed(sources, wishes)))
        self._driver = Driver(self._members, assignment, sources, sink, progress)
        return self._driver.run(stop)

    def account(self) -> Mapping[str, Any]:
        embedded = dict(sorted(self._driver.embedded.items())) if self._driver else {}
        return {
            "engine": "ray",
            "nodes": embedded,
            "lost_leases": self._driver.lost if self._driver else 0,
            "results": self._settings.results,
            "workers": self._wishes.workers,
            "batch_size": self._wishes.batch_size,
        }

    def close(self) -> None:
        self._members.close()
        self._cluster.close()

    def _first_facts(self) -> Ready:
        """What the first actor says of its encoder; the others may still be loading theirs."""
        while not self._members.working:
            self._members.recruit()
            for member, answer in self._members.answers(_WAIT_SECONDS):
                if not isinstance(answer, Gone):
                    self._members.introduced(member, answer)
        facts = self._members.working[0].facts
        assert facts is not None
        return facts


def _needed(sources: Sequence[Source], wishes: Wishes) -> Iterable[Path]:
    """What shows that a node has the same mounts: one of the inputs, and where segments go."""
    here = next((source for source in sources if not source.remote), None)
    if here is not None:
        yield here.path.absolute()
    if wishes.segments is not None:
        yield wishes.segments.folder
