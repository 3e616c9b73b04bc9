"""How a training runs: everything a user chooses that is no task."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from umedfeat.errors import SetupError

__all__ = ["TrainSettings"]

_SMALLEST, _LARGEST = 32, 1024


@dataclass(frozen=True)
class TrainSettings:
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
    """

    rounds: int | None = None
    minutes: float = 120.0
    image_sizes: tuple[int, ...] = (128,)
    batch: int = 8
    lr: float = 1e-4
    head_lr: float = 10.0
    decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.99
    warmup: int = 20
    trainable: str = "all"
    alpha: float | str = "auto"
    holdout: float | str = "split"
    seed: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        """Refuse what cannot train.

        Raises:
            SetupError: the setting, its value and what is legal.
        """
        _require(self.rounds is None or self.rounds > 0, f"--rounds {self.rounds}", "a number from 1")
        _require(0 < self.minutes < float("inf"), f"--minutes {self.minutes}", "more than 0")
        sizes = self.image_sizes
        sound = bool(sizes) and all(_SMALLEST <= size <= _LARGEST and size % 32 == 0 for size in sizes)
        _require(sound, f"--image-size {','.join(map(str, sizes))}", f"multiples of 32, {_SMALLEST} to {_LARGEST}")
        _require(1 <= self.batch <= 1024, f"batch {self.batch}", "1 to 1024")
        _require(0 < self.lr <= 1, f"--lr {self.lr}", "more than 0; 1e-4 is tried")
        _require(0 <= self.ema < 1, f"ema {self.ema}", "0 up to, not including, 1")
        named = self.trainable.removeprefix("last-")
        legal = self.trainable == "all" or (named != self.trainable and named.isdecimal() and int(named) > 0)
        _require(legal, f"--trainable {self.trainable}", "all, or last-N")
        _require(self.alpha == "auto" or _is_share(self.alpha), f"--alpha {self.alpha}", "auto, or 0 to 1")
        held = self.holdout == "split" or (_is_share(self.holdout) and 0 < float(self.holdout) < 1)
        _require(held, f"--holdout {self.holdout}", "split, or a share of the patients, e.g. 0.15")
        _require(self.precision in {"fp32", "bf16"}, f"--precision {self.precision}", "fp32 or bf16")

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]


def _is_share(value: float | str) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _require(sound: bool, said: str, legal: str) -> None:
    if not sound:
        raise SetupError(f"{said} is not possible", remedy=legal)
