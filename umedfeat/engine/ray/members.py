"""The actors that work, those that start, and those that are gone; knows nothing of sources."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from umedfeat._version import __version__
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.engine.messages import Broken, Ready
from umedfeat.engine.ray.cluster import Cluster, Gone, Node
from umedfeat.engine.ray.leases import Holder
from umedfeat.engine.ray.settings import ClusterSettings
from umedfeat.engine.seconds import StageSeconds
from umedfeat.errors import SetupError, UmedfeatError

__all__ = ["Member", "Members"]

log = logging.getLogger("umedfeat")

_CORES = 4
#: Seconds between two looks at who is there.
_LOOK_SECONDS = 2.0
#: Seconds without any actor, while nodes may still join, after which the run ends.
_PATIENCE = 120.0
#: Actors that do not come to work on a node before it is left alone.
_FAILED_STARTS = 3


@dataclass(eq=False)
class Member:
    """One actor. ``question``: what it was asked last; ``asked``: which method that was."""

    node: Node
    station: Any
    question: Any
    asked: str
    holder: Holder = field(default_factory=Holder)
    facts: Ready | None = None
    seconds: StageSeconds = field(default_factory=StageSeconds)


class Members:
    """Keeps an actor wherever there is room for one.

    Args:
        cluster: where. settings: how many, how large. choice: their encoder. formats: what they will read.

    Raises:
        SetupError: no node has room for a single actor.
    """

    def __init__(
        self, cluster: Cluster, settings: ClusterSettings, choice: EncoderChoice, formats: tuple[str, ...]
    ) -> None:
        self._cluster, self._settings, self._choice, self._formats = cluster, settings, choice, formats
        self._looked, self._manned = -_LOOK_SECONDS, time.monotonic()
        self._failed_starts: Counter[str] = Counter()
        self._banned: set[str] = set()
        self._fault: UmedfeatError | None = None
        self.living: list[Member] = []
        self.facts: Ready | None = None
        nodes = cluster.nodes()
        self._gpus = self._gpus_wanted(nodes)
        if not any(map(self._capacity, nodes)):
            has = ", ".join(f"{node.name}: {node.cpus} and {node.gpus}" for node in nodes)
            wanted = f"{settings.cpus_per_worker or 1} cores and {self._gpus} GPUs"
            message = f"no node has the {wanted} that an actor needs ({has})"
            raise SetupError(message, remedy="choose other --cpus-per-worker, --gpus-per-worker")

    @property
    def working(self) -> list[Member]:
        """Those whose encoder is loaded, and is the right one."""
        return [member for member in self.living if member.facts is not None]

    def recruit(self) -> list[Member]:
        """Start actors where there is room; returns those whose nodes have vanished, which are no members any more.

        Raises:
            SetupError: nobody is left, and nobody will come.
        """
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return []
        self._looked = time.monotonic()
        nodes = [node for node in self._cluster.nodes() if node.id not in self._banned]
        ids = {node.id for node in nodes}
        vanished = [member for member in self.living if member.node.id not in ids]
        for member in vanished:
            self.dismiss(member)
            log.warning("%s: the node is gone", member.node.name)
        for node in self._openings(nodes):
            self._start(node)
        if self.living:
            self._manned = time.monotonic()
        elif self._fault is not None and not any(map(self._capacity, nodes)):
            raise self._fault
        elif time.monotonic() - self._manned > _PATIENCE:
            message = f"no actor is left, and no node has joined within {_PATIENCE:.0f} s"
            raise SetupError(message, remedy="finished inputs are safe: run the same command again to resume")
        return vanished

    def ask(self, member: Member, method: str, *arguments: Any) -> None:
        """One question at a time to each."""
        member.question, member.asked = self._cluster.ask(member.station, method, *arguments), method

    def answers(self, timeout: float) -> Iterator[tuple[Member, Any]]:
        """(who, answer or ``Gone``) of living members; what the dead say is not listened to."""
        asked = {member.question: member for member in self.living if member.question is not None}
        for question, answer in self._cluster.answers(list(asked), timeout).items():
            member = asked[question]
            if member in self.living:
                member.question = None
                if isinstance(answer, Gone):
                    self.lost(member, answer)
                yield member, answer

    def introduced(self, member: Member, answer: Any) -> bool:
        """Take what a new member says of its version and its encoder; True when it may begin.

        A member that would compute other numbers is refused, and its node left alone.
        """
        if member.asked == "version":
            if answer == __version__:
                self.ask(member, "load", self._choice, self._formats)
            else:
                fault = f"{member.node.name} has umedfeat {answer}, this machine {__version__}"
                self.refuse(member, SetupError(fault, remedy="install the same version on every node"))
            return False
        if isinstance(answer, Broken):
            error = answer.error
            self.refuse(member, type(error)(f"{member.node.name}: {error.message}", remedy=error.remedy))
            return False
        self.facts = self.facts or answer
        if answer.settings != self.facts.settings:
            message = f"{member.node.name} ({answer.device}) would compute other numbers than the nodes before it"
            remedy = "nodes of one kind, or the same --precision and --runtime for all"
            self.refuse(member, SetupError(message, remedy=remedy))
            return False
        member.facts = answer
        return True

    def refuse(self, member: Member, error: UmedfeatError) -> None:
        """Part with a member, and leave its node alone."""
        log.warning("%s; going on without it", error.message)
        self._fault = error
        self._banned.add(member.node.id)
        self.dismiss(member)

    def lost(self, member: Member, gone: Gone) -> None:
        """A member died; where none comes to work the node is left alone."""
        self.dismiss(member)
        if member.facts is not None:
            log.warning("%s: an actor died (%s)", member.node.name, gone.reason)
            return
        self._failed_starts[member.node.id] += 1
        if self._failed_starts[member.node.id] >= _FAILED_STARTS:
            message = f"{member.node.name}: actors do not start ({gone.reason})"
            remedy = "look at /tmp/ray/session_latest/logs there; is the same version of umedfeat installed?"
            self._fault = SetupError(message, remedy=remedy)
            self._banned.add(member.node.id)

    def broke(self, member: Member, error: UmedfeatError) -> None:
        """A member cannot go on; where that happens again and again the node is left alone."""
        self._failed_starts[member.node.id] += 1
        if self._failed_starts[member.node.id] >= _FAILED_STARTS:
            self.refuse(member, error)
        else:
            log.warning("%s: %s", member.node.name, error.message)
            self.dismiss(member)

    def dismiss(self, member: Member) -> None:
        """It is no member any more."""
        if member in self.living:
            self.living.remove(member)
        self._cluster.kill(member.station)

    def close(self) -> None:
        """End all."""
        for member in list(self.living):
            self.dismiss(member)

    def _start(self, node: Node) -> None:
        station = self._cluster.start(node, self._cores_of(node), self._gpus)
        self.living.append(Member(node, station, self._cluster.ask(station, "version"), "version"))

    def _openings(self, nodes: list[Node]) -> Iterator[Node]:
        """Nodes with room, the emptiest first, as often as they have room and actors are wanted."""
        present = Counter(member.node.id for member in self.living)
        while self._settings.workers is None or sum(present.values()) < self._settings.workers:
            free = [node for node in nodes if present[node.id] < self._capacity(node)]
            if not free:
                return
            node = min(free, key=lambda node: present[node.id])
            present[node.id] += 1
            yield node

    def _cores_of(self, node: Node) -> int:
        return self._settings.cpus_per_worker or min(_CORES, max(1, node.cpus))

    def _capacity(self, node: Node) -> int:
        by_cores = node.cpus // self._cores_of(node)
        return min(by_cores, node.gpus // self._gpus) if self._gpus else by_cores

    def _gpus_wanted(self, nodes: Any) -> int:
        if self._settings.gpus_per_worker is not None:
            return self._settings.gpus_per_worker
        return int(self._choice.device != "cpu" and any(node.gpus for node in nodes))
