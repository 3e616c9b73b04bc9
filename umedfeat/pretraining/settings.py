"""How a training runs: everything a user chooses that is no task."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from umedfeat.rules import OneOf, Ruled, Within, Written, setting

__all__ = ["TrainSettings"]

_SMALLEST, _LARGEST, _STEP = 32, 1024, 32


def _sizes(value: Any) -> tuple[int, ...]:
    """Sides in pixels, as numbers or as text with commas."""
    parts = str(value).replace(" ", "").split(",") if isinstance(value, str) else [str(part) for part in value]
    sizes = tuple(int(part) for part in parts if part.isascii() and part.isdecimal())
    sound = all(_SMALLEST <= size <= _LARGEST and size % _STEP == 0 for size in sizes)
    if not sizes or len(sizes) < len(parts) or not sound:
        raise ValueError(f"multiples of {_STEP}, {_SMALLEST} to {_LARGEST}; several with commas")
    return sizes


def _trainable(text: str) -> str:
    number = text.removeprefix("last-")
    if text != "all" and not (number != text and number.isascii() and number.isdecimal() and int(number) > 0):
        raise ValueError("all, or last-N")
    return text


@dataclass(frozen=True)
class _WordOrShare:
    """A word that stands for a rule, or a number between two bounds."""

    word: str
    low: float
    high: float

    def __call__(self, value: Any) -> float | str:
        if value == self.word:
            return self.word
        legal = f"{self.word}, or a number from {self.low:g} to {self.high:g}"
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(legal) from None
        if not self.low <= number <= self.high:
            raise ValueError(legal)
        return number


@dataclass(frozen=True)
class TrainSettings(Ruled):
    """Settings of one training.

    Attributes:
        rounds: how many rounds (one batch of every task each); None: as many as ``minutes`` allow.
        minutes: of training over all sittings, where ``rounds`` is None.
        image_sizes: sides in pixels of the squares that are trained on; the run is divided among them, each but the
            last gets three quarters of what is left.
        batch: images of a task in one round, where the task does not say.
        lr: of the encoder at the top of the schedule; decoders and heads learn ``head_lr`` times as fast. 1e-4 is
            right for networks with frozen batch statistics: 3e-4 kills feature dimensions while the losses still fall.
        head_lr: see ``lr``.
        decay: weight decay of AdamW (weights of layers; biases and norms have none).
        clip: largest norm of a round's gradient.
        ema: what the running average of the weights, which is exported, keeps of itself in a round.
        warmup: rounds over which the rate grows to ``lr``.
        trainable: "all" or "last-N": the last N blocks of the encoder.
        alpha: share of the trained weights in the exported mix with the weights at the start, 0 to 1; "auto" chooses
            it on held-out data.
        holdout: "split" (the column ``split`` of the tasks) or the share of patients that is not trained on.
        seed: of everything that is drawn.
        precision: "fp32" or "bf16" of the forward pass.
        storage: "fp32", or "fp16" for half the size where features keep a cosine of 0.9999 (else fp32 all the same).
    """

    rounds: int | None = setting(None, Within(1, whole=True), unset=None)
    minutes: float = setting(120.0, Within(0, open_low=True))
    image_sizes: tuple[int, ...] = setting((128,), _sizes)
    batch: int = setting(8, Within(1, 1024, whole=True))
    lr: float = setting(1e-4, Within(0, 1, open_low=True))
    head_lr: float = setting(10.0, Within(0, open_low=True))
    decay: float = setting(0.01, Within(0))
    clip: float = setting(1.0, Within(0, open_low=True))
    ema: float = setting(0.99, Within(0, 0.99999))
    warmup: int = setting(20, Within(0, whole=True))
    trainable: str = setting("all", Written(_trainable))
    alpha: float | str = setting("auto", _WordOrShare("auto", 0, 1))
    holdout: float | str = setting("split", _WordOrShare("split", 0.01, 0.9))
    seed: int = setting(0, Within(0, whole=True))
    precision: str = setting("fp32", OneOf(("fp32", "bf16")))
    storage: str = setting("fp32", OneOf(("fp32", "fp16")))

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]
