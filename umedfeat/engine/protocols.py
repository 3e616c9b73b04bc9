"""What a run works with: sources, workers that read, devices that embed, a sink, and a place for these; no torch."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Dropped, EncoderFacts, Failure, Plan, Source
from umedfeat.engine.messages import Answer, Batch, Embedded, Message, Ready, Unavailable, Wishes
from umedfeat.engine.seconds import StageSeconds
from umedfeat.policy import Policy
from umedfeat.terminal.progress import Progress

__all__ = ["Devices", "OwnedSlots", "Place", "Sink", "Slots", "Supply", "Workers", "facts_of"]


class Supply(Protocol):
    """Where the sources of a run come from."""

    @property
    def ended(self) -> bool:
        """Will ``take`` never give one again?"""
        ...

    @property
    def waitables(self) -> Sequence[Any]:
        """Objects that become ready (``multiprocessing.connection.wait``) when a source can be taken, or none will."""
        ...

    def take(self) -> Source | Unavailable | None:
        """The next source, why it is none, or None while there is none; never waits."""
        ...

    def release(self, source: Source) -> None:
        """A source that was taken has ended, well or not; its files are not read again."""


class Slots(Protocol):
    """Memory for the pixels of a few batches, which workers write and devices read."""

    def view(self) -> Any:
        """The same memory, to be attached in another process."""
        ...

    def array(self, slot: int, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        """An array that lives in a slot; valid until the slot is free again."""
        ...


class OwnedSlots(Slots, Protocol):
    """The owner's side of the slots: hands them out and takes them back."""

    def take(self) -> int | None:
        """A free slot, or None while all are in use."""

    def give_back(self, slot: int) -> None:
        """The slot's pixels are no longer needed."""


class Workers(Protocol):
    """What plans and reads: processes of this machine, or of others. A death costs one source."""

    @property
    def slots(self) -> OwnedSlots:
        """Where batches are read into."""
        ...

    @property
    def room(self) -> int:
        """Messages that can be handed out now."""
        ...

    @property
    def batches_out(self) -> int:
        """Batches handed out and not answered."""
        ...

    @property
    def lane(self) -> int:
        """Number of the reader that the next message goes to; neighbouring regions are best read by one."""
        ...

    def submit(self, message: Message) -> None:
        """Hand out a message; it gets one answer, or its source is named by a Died."""

    def wait(self, timeout: float, also: Sequence[Any] = ()) -> Sequence[Answer]:
        """Answers that came in, after at most ``timeout`` seconds; ``also``: objects whose readiness ends the wait.

        Raises:
            SetupError: nothing can be read at all.
        """
        ...

    def close(self) -> None:
        """Stop, once or again; what is under way is forgotten."""


class Devices(Protocol):
    """One or several devices with the same encoder on each."""

    @property
    def encoder(self) -> EncoderFacts:
        """What the encoder is."""
        ...

    @property
    def batch_size(self) -> int:
        """Images per batch that suit the devices."""
        ...

    @property
    def count(self) -> int:
        """Devices that work."""
        ...

    @property
    def in_flight(self) -> int:
        """Batches submitted and not collected."""
        ...

    @property
    def room(self) -> int:
        """Batches that can be submitted now."""
        ...

    @property
    def idle(self) -> bool:
        """Has some device nothing to do?"""
        ...

    @property
    def waitables(self) -> Sequence[Any]:
        """Objects that become ready (``multiprocessing.connection.wait``) when ``collect`` may have something."""
        ...

    def attach(self, slots: Slots) -> None:
        """Where the pixels of batches lie; before the first ``submit``."""

    def expect(self, side: int) -> None:
        """Regions of this side will probably come: what takes long (compiling) may begin."""

    def submit(self, batch: Batch) -> None:
        """Embed a batch whose pixels lie in its slot."""

    def collect(self) -> list[tuple[Batch, Embedded]]:
        """Batches that are embedded, in any order; never waits.

        Raises:
            SetupError: no device is left, or none has memory for one image.
        """
        ...

    def close(self) -> None:
        """Stop, once or again; batches in flight are forgotten."""


class Sink(Protocol):
    """Where finished sources go."""

    def embedded(
        self, source: Source, plan: Plan, features: npt.NDArray[np.float32], dropped: tuple[Dropped, ...]
    ) -> None:
        """All rows of a source: ``plan.regions`` and ``features`` hold the kept ones, in plan order."""

    def stored(self, source: Source, plan: Plan) -> None:
        """A source whose rows whoever embedded it has written beside the output."""

    def failed(self, source: Source, failure: Failure) -> None:
        """A source that ends without features."""


class Place(Protocol):
    """Where a run computes: this machine, or others. Its encoder is loaded when the place is made."""

    @property
    def encoder(self) -> EncoderFacts:
        """What the encoder is."""
        ...

    def prepare(self, policy: Policy, wishes: Wishes) -> str:
        """Decide how the place is used, before ``embed``; returns that as a line for people."""
        ...

    def embed(self, sources: Sequence[Source], sink: Sink, progress: Progress, stop: threading.Event) -> StageSeconds:
        """Hand every source to ``sink`` exactly once, as embedded or failed; returns where the time went.

        Args:
            progress: receives what happens.
            stop: set it (from a signal handler) to end early; sources not yet handed over are left out.
        """
        ...

    def account(self) -> Mapping[str, Any]:
        """How the place was used, for ``<out>.run.json``."""
        ...

    def close(self) -> None:
        """Stop what was started, once or again."""


def facts_of(devices: Devices) -> Ready:
    """What those who are elsewhere must know of devices and their encoder."""
    told = devices.encoder
    facts = (told.name, told.dim, told.image_size, told.device, told.precision, dict(told.settings))
    return Ready(*facts, batch_size=devices.batch_size)
