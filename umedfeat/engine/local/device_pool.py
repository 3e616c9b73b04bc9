"""Several devices in one run: a process with its own encoder for each, all fed from the same reading processes.

A process per device because the interpreter would let only one of them launch work at a time. Pixels lie in shared
memory; only a few numbers and the features cross the pipes. A device that dies is named, and its batches go to the
others; the run fails when none is left.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.engine.local.child import Child, kill_at_exit, unguarded
from umedfeat.engine.local.device_worker import Pixels, serve_device
from umedfeat.engine.messages import IN_FLIGHT, Batch, Broken, Embedded, Ready
from umedfeat.engine.protocols import Slots
from umedfeat.errors import SetupError, UmedfeatError
from umedfeat.machine import usable_cores

__all__ = ["DevicePool"]

log = logging.getLogger("umedfeat")

_RESUME = "finished inputs are safe: run the same command again to resume"


class _Device(Child):
    """A device's process and the batches in its hands."""

    def __init__(self, choice: EncoderChoice, cores: int) -> None:
        super().__init__(serve_device, choice, cores)
        self.name = choice.device
        self.batches: deque[Batch] = deque()

    def death(self) -> UmedfeatError:
        """Why it is dead, as far as that is known."""
        self.process.join(timeout=5)
        code = self.process.exitcode
        if (fault := unguarded(code)) is not None:
            return fault
        return SetupError(f"{self.name}: its process died (exit code {code})", remedy="look for too little memory")


class DevicePool:
    """The same encoder on several devices; see ``umedfeat.contract.Devices``.

    Args:
        choices: one per device.

    Raises:
        SetupError: no device can be used, or two of them would compute different numbers.
    """

    def __init__(self, choices: Sequence[EncoderChoice]) -> None:
        cores = max(1, usable_cores() // len(choices))
        self._lost: UmedfeatError | None = None
        self._again: deque[Batch] = deque()
        self._devices = [_Device(choice, cores) for choice in choices]
        kill_at_exit(self, self._devices)
        self._under_way = False
        try:
            self.encoder, self.batch_size = self._first_answers()
            self._under_way = True
        except BaseException:
            self.close()
            raise

    def _first_answers(self) -> tuple[Ready, int]:
        """Wait until every device has loaded its encoder; those that cannot are left out."""
        answers: list[Ready] = []
        for device in list(self._devices):
            try:
                message = device.link.recv()
            except (EOFError, OSError):
                message = Broken(device.death())
            if isinstance(message, Ready):
                answers.append(message)
            else:
                self._bury(device, message.error)
        self._check_left()
        first = answers[0]
        for other in answers[1:]:
            if other.settings != first.settings:
                raise SetupError(
                    f"{first.device} and {other.device} would compute different numbers",
                    remedy="name devices of one kind, or the same --precision and --runtime for both",
                )
        return replace(first, device=",".join(a.device for a in answers)), min(a.batch_size for a in answers)

    @property
    def count(self) -> int:
        return len(self._devices)

    @property
    def in_flight(self) -> int:
        return sum(len(device.batches) for device in self._devices) + len(self._again)

    @property
    def room(self) -> int:
        return IN_FLIGHT * len(self._devices) - self.in_flight

    @property
    def idle(self) -> bool:
        return any(not device.batches for device in self._devices)

    @property
    def waitables(self) -> Sequence[Any]:
        return [thing for device in self._devices for thing in device.waitables]

    def expect(self, side: int) -> None:
        """Each process compiles when its first batch comes: they wait for one another anyway."""

    def attach(self, slots: Slots) -> None:
        for device in self._devices:
            device.send(slots.view())

    def submit(self, batch: Batch) -> None:
        self._again.append(batch)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._again:
            device = min(self._devices, key=lambda one: len(one.batches))
            if len(device.batches) >= IN_FLIGHT:
                return
            batch = self._again.popleft()
            device.batches.append(batch)
            device.send(Pixels(batch.slot, batch.shape, batch.dtype, batch.size))

    def collect(self) -> list[tuple[Batch, Embedded]]:
        done: list[tuple[Batch, Embedded]] = []
        for device in list(self._devices):
            fault = self._receive(device, done)
            if fault is not None:
                self._bury(device, fault)
        self._check_left()
        self._hand_out()
        return done

    def _receive(self, device: _Device, done: list[tuple[Batch, Embedded]]) -> UmedfeatError | None:
        """Take what a device has embedded; returns why it cannot go on, if so."""
        dead = not device.process.is_alive()  # asked first: all that a dead process said is then in the pipe
        for message in device.said():
            if isinstance(message, Broken):
                return message.error
            done.append((device.batches.popleft(), message))
        return device.death() if dead else None

    def _bury(self, device: _Device, fault: UmedfeatError) -> None:
        self._lost = fault
        self._devices.remove(device)
        self._again.extendleft(reversed(device.batches))
        device.end()
        if self._devices:
            log.warning("%s; going on without it", fault.message)

    def _check_left(self) -> None:
        if self._devices:
            return
        lost = self._lost or SetupError("no device was named", remedy="--device auto")
        if self._under_way:
            raise SetupError(f"no device is left; the last one: {lost.message}", remedy=_RESUME)
        raise lost

    def close(self) -> None:
        for device in self._devices:
            device.end()
        self._devices = []
