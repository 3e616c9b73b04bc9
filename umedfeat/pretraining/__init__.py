"""Training an encoder of one's own on many labelled tasks; its file goes into ``extract`` like any other."""

from umedfeat.pretraining.run import TrainResult, pretrain
from umedfeat.pretraining.settings import TrainSettings

__all__ = ["TrainResult", "TrainSettings", "pretrain"]
