"""How a run uses the machine and the output (no torch here)."""

from __future__ import annotations

from dataclasses import dataclass

from umedfeat.errors import SetupError
from umedfeat.rules import OneOf, Ruled, Within, setting

__all__ = ["RunSettings", "parse_shard"]


@dataclass(frozen=True)
class RunSettings(Ruled):
    """How a run uses the machine and the output; nothing here changes a number in the file but ``dtype``.

    Attributes:
        workers: reading processes (None: as many as cores, at most 8).
        batch_size: regions per batch (None: what fits the device).
        timeout: seconds that one input may keep a reading process busy within one batch.
        shard: (i, n): only the i-th of n parts of the inputs, 1 ≤ i ≤ n.
        overwrite: start anew instead of resuming.
        on_error: "continue", or "stop" at the first failed input.
        dtype: "float32" or "float16" features.
    """

    workers: int | None = setting(None, Within(1, whole=True), unset=None)
    batch_size: int | None = setting(None, Within(1, whole=True), unset=None)
    timeout: float = setting(600.0, Within(0, open_low=True))
    shard: tuple[int, int] | None = None
    overwrite: bool = False
    on_error: str = setting("continue", OneOf(("continue", "stop")))
    dtype: str = setting("float32", OneOf(("float32", "float16")))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            number, total = self.shard
            raise SetupError(f"shard {number}/{total} is not legal", remedy="i/n with 1 ≤ i ≤ n, e.g. 3/16")


def parse_shard(text: str) -> tuple[int, int]:
    """ "3/16" → (3, 16).

    Raises:
        ValueError: not i/n; RunSettings checks the numbers.
    """
    number, slash, total = text.partition("/")
    if not (slash and number.isdecimal() and total.isdecimal()):
        raise ValueError("i/n with 1 ≤ i ≤ n, e.g. 3/16")
    return int(number), int(total)
