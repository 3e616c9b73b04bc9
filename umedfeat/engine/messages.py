"""What the loop hands to workers and devices, and what they answer. Everything here crosses processes; no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Dropped, Plan, Reader, Source
from umedfeat.errors import InputError, OutputError, UmedfeatError
from umedfeat.policy import Limits

if TYPE_CHECKING:  # brings h5py, which reading processes do not need
    from umedfeat.store.segment import SegmentPlace

__all__ = [
    "IN_FLIGHT",
    "Answer",
    "Batch",
    "Broken",
    "Died",
    "Embedded",
    "Job",
    "Message",
    "Planned",
    "Read",
    "Ready",
    "Segment",
    "Unavailable",
    "Visit",
    "Visited",
    "Visitor",
    "Wishes",
]

#: Batches in a device's hands: the one it computes and the next, which is uploaded meanwhile.
IN_FLIGHT = 2


#: Called with a source, its open reader and its plan; crosses processes, and so does what it returns.
Visitor = Callable[[Source, Reader, Plan], Any]


@dataclass(frozen=True)
class Job:
    """Plan one source. ``number`` is the source's place in the run.

    ``read``: a source of one region, which planning has decoded, is read at once.
    """

    number: int
    source: Source
    read: bool = False


@dataclass(frozen=True)
class Visit:
    """Show one source, opened, to ``visitor``; it is planned first where ``plan`` is None."""

    number: int
    source: Source
    plan: Plan | None
    visitor: Visitor


@dataclass(frozen=True)
class Segment:
    """Rows of one source inside a batch. ``rows``: REGION array; ``first``: index of the first in the plan."""

    number: int
    source: Source
    prepared: Mapping[str, Any]
    first: int
    rows: npt.NDArray[np.void]


@dataclass(frozen=True)
class Batch:
    """Regions of one shape and dtype, of any number of sources, to be read into one slot of the shared memory."""

    slot: int
    shape: tuple[int, int]
    dtype: str
    segments: tuple[Segment, ...]

    @property
    def size(self) -> int:
        """Number of regions."""
        return sum(len(segment.rows) for segment in self.segments)


@dataclass(frozen=True)
class Planned:
    """Answer to a Job: the plan, or why there is none.

    ``pixels``: (H, W, 3) of the only region, where the job asked for it and it could be read.
    """

    number: int
    plan: Plan | None
    error: InputError | None
    seconds: float
    pixels: npt.NDArray[Any] | None = None
    read_seconds: float = 0.0


@dataclass(frozen=True)
class Visited:
    """Answer to a Visit: what the visitor returned, or why it did not and at which stage ("plan" or "read").

    An OutputError is no fault of the source: what the visitor writes to is full or gone.
    """

    number: int
    value: Any
    error: InputError | OutputError | None = None
    stage: str = "read"


@dataclass(frozen=True)
class Read:
    """Answer to a Batch: pixels lie in its slot.

    ``dropped[i]``: rows of segment i (counted within it) that could not be read. ``errors[i]``: why the source failed.
    """

    batch: Batch
    dropped: tuple[Mapping[int, Dropped], ...]
    errors: tuple[InputError | None, ...]
    seconds: float


@dataclass(frozen=True)
class Died:
    """A worker died (or was stopped for taking too long) while it worked on source ``number``."""

    number: int
    reason: str


#: What workers take, and what they answer.
Message = Job | Visit | Batch
Answer = Planned | Visited | Read | Died


@dataclass(frozen=True)
class Embedded:
    """(N, D) float32 features, when they were computed (``time.perf_counter`` seconds), and how many images fit."""

    features: npt.NDArray[np.float32]
    begin: float
    end: float
    fits: int | None = None


@dataclass(frozen=True)
class Ready:
    """An encoder is loaded elsewhere; the attributes of an ``Encoder``, and the batch size that suits its device."""

    name: str
    dim: int
    image_size: int
    device: str
    precision: str
    settings: Mapping[str, Any]
    batch_size: int


@dataclass(frozen=True)
class Broken:
    """Whoever says this cannot go on."""

    error: UmedfeatError


@dataclass(frozen=True)
class Unavailable:
    """In place of a source that cannot be brought here, and why."""

    source: Source
    error: InputError


@dataclass(frozen=True)
class Wishes:
    """What a run asks of the machine that does it, before it is known what that machine has.

    Attributes:
        workers, batch_size: None: what suits the machine.
        timeout: seconds that one source may keep a reading process busy within one batch.
        dtype: of the features in the file.
        max_unreadable: share of unreadable regions above which a source fails.
        spill_dir: where features of huge sources wait on disk; None: the folder for temporary files.
        scratch_bytes: of inputs at URLs that may lie on the disk at once.
        segments: where those who compute elsewhere write what they have done; None: they send it.
    """

    workers: int | None = None
    batch_size: int | None = None
    timeout: float = 600.0
    dtype: str = "float32"
    max_unreadable: float = Limits.max_unreadable
    spill_dir: Path | None = None
    segments: SegmentPlace | None = None
    scratch_bytes: int = 0
