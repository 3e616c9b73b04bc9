"""What crosses between the driver and its actors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Dropped, Failure, Plan, Source
from umedfeat.engine.messages import Broken, Wishes
from umedfeat.engine.seconds import StageSeconds
from umedfeat.policy import Policy

__all__ = ["Assignment", "Ended", "Lease", "Report"]


class Lease(NamedTuple):
    """A source that an actor is to embed. ``number``: its place in the run."""

    number: int
    source: Source


@dataclass(frozen=True)
class Assignment:
    """What an actor is to do.

    Attributes:
        policy, wishes: how sources are read, and how the actor uses its share of the node.
        needed: paths that must be there, alike on every node.
    """

    policy: Policy
    wishes: Wishes
    needed: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Ended:
    """A source that an actor has done, safely.

    ``features``: (n, D), None where they lie in a segment beside the output. ``failure``: why there are none.
    """

    number: int
    plan: Plan | None = None
    features: npt.NDArray[np.float32] | None = None
    dropped: tuple[Dropped, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True)
class Report:
    """What an actor has done since its last report.

    Attributes:
        ended: sources that are done, and safe once the driver has this report.
        computed: numbers of sources that need nothing more but to be made safe.
        planned: regions of each source that was planned.
        encoded: regions that were embedded.
        seconds: where its time went, all in all.
        broken: why it cannot go on.
    """

    ended: tuple[Ended, ...]
    computed: tuple[int, ...]
    planned: tuple[int, ...]
    encoded: int
    seconds: StageSeconds
    broken: Broken | None = None
