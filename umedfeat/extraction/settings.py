"""How a run uses the machine and the output (no torch here)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from umedfeat.engine.ray.settings import ClusterSettings
from umedfeat.errors import SetupError
from umedfeat.rules import OneOf, Ruled, Within, setting

__all__ = ["RunSettings", "parse_shard"]

_SIZE = re.compile(r"\d{1,6}(\.\d{1,3})?[MGTmgt][Bb]")
_ALLOWED = re.compile(r"\d+|\d+(\.\d+)?%")


@dataclass(frozen=True)
class RunSettings(Ruled):
    """How a run uses the machine and the output; nothing here changes a number in the file but ``dtype``.

    Attributes:
        workers: reading processes (None: as many as cores, at most 8).
        batch_size: regions per batch (None: what fits the device).
        timeout: seconds that one input may keep a reading process busy within one batch.
        shard: (i, n): only the i-th of n parts of the inputs, 1 ≤ i ≤ n, of nearly the same number of bytes.
        shard_out: the file of that part (None: ``feats.h5.shards/03-of-16.h5`` beside the output).
        overwrite: start anew instead of resuming.
        on_error: "continue", or "stop" at the first failed input.
        dtype: "float32" or "float16" features.
        prune: remove items whose inputs are no longer given from an output that is resumed.
        alone: refuse an output that holds items of other inputs; else they are named and kept.
        scratch: folder for inputs at URLs while they are read (None: the one for temporary files).
        scratch_size: what may lie there at once, such as "50GB".
        cluster: a Ray cluster that computes instead of this machine; None: this machine.
        allow_failed: "N" or "P%" of the inputs may fail and the run still counts as a success (exit code 0).
        asked: what a command was asked, to be written into ``<out>.run.json``; nothing is made of it.
    """

    workers: int | None = setting(None, Within(1, whole=True), unset=None)
    batch_size: int | None = setting(None, Within(1, whole=True), unset=None)
    timeout: float = setting(600.0, Within(0, open_low=True))
    shard: tuple[int, int] | None = None
    shard_out: Path | None = None
    overwrite: bool = False
    on_error: str = setting("continue", OneOf(("continue", "stop")))
    dtype: str = setting("float32", OneOf(("float32", "float16")))
    prune: bool = False
    alone: bool = False
    allow_failed: str = "0"
    cluster: ClusterSettings | None = None
    scratch: Path | None = None
    scratch_size: str = "20GB"
    asked: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            number, total = self.shard
            raise SetupError(f"shard {number}/{total} is not legal", remedy="i/n with 1 ≤ i ≤ n, e.g. 3/16")
        if self.shard_out is not None and self.shard is None:
            raise SetupError(
                f"{self.shard_out}: a shard's file without a shard", remedy="add --shard i/n, or use --out"
            )
        if self.shard is not None and self.cluster is not None:
            message = "a shard and a cluster are two ways to divide one run"
            raise SetupError(message, remedy="leave out --shard, or --engine ray")
        if not _SIZE.fullmatch(self.scratch_size):
            raise SetupError(f"scratch_size {self.scratch_size!r} is not legal", remedy="such as 500MB, 50GB or 2TB")
        if not _ALLOWED.fullmatch(self.allow_failed) or float(self.allow_failed.rstrip("%")) > self._most_allowed:
            raise SetupError(f"allow_failed {self.allow_failed!r} is not legal", remedy="a number, or 0% to 100%")

    @property
    def several_machines(self) -> bool:
        """Do other machines take part, which must have the same key for pseudonyms, or see none?"""
        return self.shard is not None or self.cluster is not None

    @property
    def scratch_bytes(self) -> int:
        """``scratch_size`` as a number."""
        number, unit = self.scratch_size[:-2], self.scratch_size[-2:].upper()
        return int(float(number) * {"MB": 10**6, "GB": 10**9, "TB": 10**12}[unit])

    @property
    def _most_allowed(self) -> float:
        return 100 if self.allow_failed.endswith("%") else math.inf

    def allows(self, failed: int, inputs: int) -> bool:
        """May so many of the inputs fail and the run still count as a success?"""
        number = float(self.allow_failed.rstrip("%"))
        return failed <= (number / 100 * inputs if self.allow_failed.endswith("%") else number)


def parse_shard(text: str) -> tuple[int, int]:
    """ "3/16" → (3, 16).

    Raises:
        ValueError: not i/n; RunSettings checks the numbers.
    """
    number, slash, total = text.partition("/")
    if not (slash and number.isdecimal() and total.isdecimal()):
        raise ValueError("i/n with 1 ≤ i ≤ n, e.g. 3/16")
    return int(number), int(total)
