"""Options of a training, and the TrainSettings that they become."""

from __future__ import annotations

from typing import Any

from umedfeat.cli.options import Setting, gather, given
from umedfeat.pretraining.settings import TrainSettings

__all__ = ["train_options"]

_TRAINING = (
    Setting(TrainSettings, "minutes", "Of training, over all sittings."),
    Setting(TrainSettings, "rounds", "Instead of minutes: rounds of one batch of every task."),
    Setting(TrainSettings, "image_sizes", "Pixels; several, as 128,224: larger ones at the end.", "--image-size"),
    Setting(TrainSettings, "batch", "Images of a task in a round."),
    Setting(TrainSettings, "trainable", "all, or last-N blocks of the encoder."),
    Setting(TrainSettings, "lr", "Of the encoder; higher kills features."),
    Setting(TrainSettings, "alpha", "auto, or the share (0 to 1) of the trained weights in the mix with the start."),
    Setting(TrainSettings, "holdout", "split (the column), or a share of the patients, e.g. 0.15."),
    Setting(TrainSettings, "precision", "Of the forward pass."),
    Setting(TrainSettings, "storage", "Of the encoder's file; fp16 only where features stay the same."),
    Setting(TrainSettings, "seed", "Of everything that is drawn.  [default: 0]"),
)
#: click shows a default as it is written.
_SHOWN = {"image_sizes": ",".join(map(str, TrainSettings().image_sizes))}


def _settings(**values: Any) -> TrainSettings:
    return TrainSettings(**given(_TRAINING, values, TrainSettings))


def train_options(command: Any) -> Any:
    """How a training runs → ``settings: TrainSettings``."""
    options = [
        setting.option(**({"default": _SHOWN[setting.field]} if setting.field in _SHOWN else {}))
        for setting in _TRAINING
    ]
    return gather(command, options, "settings", [setting.key for setting in _TRAINING], _settings)
