"""A reader that misbehaves on demand: what the engine's tests need. No torch: worker processes import this.

Worker processes learn of the format because they unpickle a FakePolicy, which imports this module.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Plan, Reader, RegionUnreadable, Source, make_regions
from umedfeat.errors import UnreadableInput
from umedfeat.policy import ImagePolicy, Policy, SlidePolicy
from umedfeat.readers import READERS

READERS["fake"] = "fake_reader"
SIDE = 16


@dataclass(frozen=True)
class FakePolicy(Policy):
    """A small policy whose arrival in a worker registers the format."""

    slide: SlidePolicy = field(default_factory=lambda: SlidePolicy(tile_size=SIDE))
    image: ImagePolicy = field(default_factory=lambda: ImagePolicy(size=SIDE))


@dataclass(frozen=True)
class SlowPolicy(FakePolicy):
    """Its arrival takes as long as imports do on a busy machine."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        time.sleep(2.5)
        self.__dict__.update(state)


def fake_source(id: str, rows: int = 5, *, dtype: str = "uint8", **behaviour: Any) -> Source:
    """behaviour: drops=[rows]; plan and read: see ``_misbehave``; read_at=row or "every"; log=file of what is done;
    side=of a region in pixels."""
    selector = json.dumps({"rows": rows, "dtype": dtype, **behaviour})
    path = Path(__file__)
    return Source(id=id, format="fake", path=path, files=(path,), name=f"{id}.fake", selector=selector)


def pixels_of(id: str, row: int, dtype: str, side: int = SIDE) -> npt.NDArray[Any]:
    """What the reader returns for a row: depends on the source and the row alone."""
    seed = int.from_bytes(id.encode()[:8].ljust(8, b"\0"), "little") + row
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return pixels if dtype == "uint8" else (pixels / np.float32(255)).astype(np.float32)


class FakeReader:
    """See ``fake_source``."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._facts = json.loads(source.selector)
        self._side = self._facts.get("side", SIDE)
        if "log" in self._facts:
            with Path(self._facts["log"]).open("a") as log:
                log.write(f"{source.id}\n")

    def plan(self) -> Plan:
        self._misbehave(self._facts.get("plan"))
        regions = make_regions(np.arange(self._facts["rows"]), 0) if self._facts["rows"] else make_regions([], [])
        return Plan(
            regions=regions,
            shape=(self._side, self._side),
            dtype=self._facts["dtype"],
            format="fake",
            modality="OT",
            width=self._side,
            height=self._side,
            content_sha256="0" * 64,
        )

    def read(self, regions: npt.NDArray[np.void]) -> Sequence[npt.NDArray[Any] | RegionUnreadable]:
        return [self._row(int(row["x"])) for row in regions]

    def _row(self, row: int) -> npt.NDArray[Any] | RegionUnreadable:
        if self._facts.get("read_at") in (row, "every"):
            self._misbehave(self._facts.get("read"))
        time.sleep(self._facts.get("seconds_per_row", 0.0))
        if row in self._facts.get("drops", []):
            return RegionUnreadable("bad bytes")
        return pixels_of(self._source.id, row, self._facts["dtype"], self._side)

    def _misbehave(self, how: str | None) -> None:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "kill parent":
            os.kill(os.getppid(), signal.SIGKILL)
        elif how == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif how == "memory":
            raise MemoryError
        elif how == "crash":
            raise ZeroDivisionError("secret tag value")
        elif how == "error":
            raise UnreadableInput(f"{self._source.name}: on purpose", remedy="none")
        elif how == "hang":
            time.sleep(60)

    def close(self) -> None:
        return None


def sniff(path: Path, head: bytes) -> bool:
    """No file is of this format; its sources are made by ``fake_source``."""
    return False


def open_source(source: Source, policy: Policy, prepared: Mapping[str, Any] | None = None) -> FakeReader:
    return FakeReader(source)


def rows_of(source: Source, reader: Reader, plan: Plan) -> tuple[str, int]:
    """A visit: how many regions it reads."""
    return source.id, len(reader.read(plan.regions))


def named_semaphore(source: Source, reader: Reader, plan: Plan) -> str:
    """A visit: makes one, as numcodecs does on import; it is cleared away when its process ends by itself."""
    named_semaphore.kept = multiprocessing.get_context("spawn").Lock()  # type: ignore[attr-defined]
    return str(named_semaphore.kept._semlock.name)  # type: ignore[attr-defined]
