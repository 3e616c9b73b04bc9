"""The only file that calls Ray: nodes, actors, questions to them and their answers."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from umedfeat.engine.ray.station import Station
from umedfeat.errors import SetupError

__all__ = ["Cluster", "Gone", "Node", "RayCluster"]

log = logging.getLogger("umedfeat")

_START = "start one with `ray start --head` (and `ray start --address=HOST:6379` on every other node)"
_KNOCK_SECONDS = 10.0


class Node(NamedTuple):
    """A machine of the cluster. ``name``: as people know it."""

    id: str
    name: str
    cpus: int
    gpus: int


@dataclass(frozen=True)
class Gone:
    """In place of an answer: the actor, its node or the answer itself is lost."""

    reason: str


class Cluster(Protocol):
    """What a run needs of a cluster."""

    def nodes(self) -> Sequence[Node]:
        """Those that are alive."""
        ...

    def start(self, node: Node, cpus: int, gpus: int) -> Any:
        """Start a ``Station`` on a node; returns a handle at once."""
        ...

    def ask(self, station: Any, method: str, *arguments: Any) -> Any:
        """Call a method; returns a question that ``answers`` takes, at once."""
        ...

    def answers(self, questions: Sequence[Any], timeout: float) -> Mapping[Any, Any]:
        """Question → answer or ``Gone``, of those that are answered, after at most ``timeout`` seconds."""
        ...

    def kill(self, station: Any) -> None:
        """End an actor, whatever it does."""

    def close(self) -> None:
        """Leave the cluster, once or again."""


class RayCluster:
    """A cluster that runs already.

    Nothing is uploaded to it, no usage statistics are sent, and its logs stay on its nodes.

    Args:
        address: see ``ClusterSettings``.

    Raises:
        SetupError: Ray is not installed, or there is no cluster.
    """

    def __init__(self, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError as error:
            raise SetupError("--engine ray needs Ray", remedy="pip install 'umedfeat[ray]'") from error
        _refuse_silence(address)
        self._ray: Any = ray
        self._ours = not ray.is_initialized()
        try:
            if self._ours:
                ray.init(address, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR)
        except ImportError as error:
            raise SetupError(f"--ray-address {address}: needs grpcio", remedy="pip install 'umedfeat[ray]'") from error
        except (ConnectionError, RuntimeError, ValueError) as error:
            log.debug("ray.init", exc_info=error)
            raise SetupError(f"--ray-address {address}: no cluster ({_reason(error)})", remedy=_START) from error

    def nodes(self) -> Sequence[Node]:
        return [
            Node(
                told["NodeID"],
                str(told.get("NodeManagerHostname") or told.get("NodeManagerAddress")),
                int(told["Resources"].get("CPU", 0)),
                int(told["Resources"].get("GPU", 0)),
            )
            for told in self._ray.nodes()
            if told["Alive"]
        ]

    def start(self, node: Node, cpus: int, gpus: int) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        remote = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0, scheduling_strategy=there)
        return remote(Station).remote(cpus)

    def ask(self, station: Any, method: str, *arguments: Any) -> Any:
        return getattr(station, method).remote(*arguments)

    def answers(self, questions: Sequence[Any], timeout: float) -> Mapping[Any, Any]:
        waiting = list(questions)
        if not waiting:
            return {}
        self._ray.wait(waiting, num_returns=1, timeout=timeout)
        ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return {question: self._answer(question) for question in ready}

    def _answer(self, question: Any) -> Any:
        from ray.exceptions import RayError

        try:
            return self._ray.get(question)
        except RayError as error:
            log.debug("actor", exc_info=error)
            cause = getattr(error, "cause", None)
            return Gone(type(cause or error).__name__)

    def kill(self, station: Any) -> None:
        with contextlib.suppress(ValueError, RuntimeError):  # it is gone already
            self._ray.kill(station)

    def close(self) -> None:
        if self._ours:
            self._ours = False
            self._ray.shutdown()


def _reason(error: Exception) -> str:
    """One line of what Ray says; a server's traceback ends with it."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    told = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (told[-1] if told else lines[0])[:200]


def _refuse_silence(address: str) -> None:
    """Ray itself waits for minutes for a head that is not there.

    Raises:
        SetupError: nobody listens at HOST:PORT.
    """
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SetupError(f"--ray-address {address}: nobody answers ({error})", remedy=_START) from error
