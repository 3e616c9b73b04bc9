"""The table of encoders: what ``--encoder`` takes, and who loads it. A new encoder is a row here and a function."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from umedfeat.disk.regular import kind_of
from umedfeat.encoders.choice import EncoderChoice, device_names
from umedfeat.encoders.known import KNOWN
from umedfeat.encoders.plugins import GROUP, described, loaded, plugins
from umedfeat.encoders.runtimes.choosing import choose_device, choose_precision
from umedfeat.encoders.weights.card import read_card
from umedfeat.errors import CheckpointRefused, SetupError
from umedfeat.policy import DEFAULT_SIDE

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from umedfeat.contract import Encoder

__all__ = ["ENCODERS", "EncoderEntry", "entry_of", "image_size_of", "list_encoders", "load_chosen"]


@dataclass(frozen=True)
class EncoderEntry:
    """An encoder, or a family of them, that can be asked for by name.

    Attributes:
        name: as given to ``--encoder``; a name that ends in ":" stands for a family ("timm:resnet50.a1_in1k").
        about: what it is, in one line.
        loader: "module:function"; takes an EncoderChoice with one device and a settled precision, returns an Encoder.
        image_size: side in pixels that it was made for; None where only the encoder itself tells.
        dim: length of the embedding; None where only the encoder itself tells.
        licence: of the weights, "" where the encoder's own page tells.
        where: its page.
        gated: its publisher wants the terms accepted under one's own account first.
    """

    name: str
    about: str
    loader: str
    image_size: int | None = DEFAULT_SIDE
    dim: int | None = None
    licence: str = ""
    where: str = ""
    gated: bool = False

    def load(self, choice: EncoderChoice) -> Encoder:
        """Call the loader (imported on first use: most bring torch).

        Raises:
            SetupError: the loader of another package is not there, or what it gives is no encoder.
        """
        if self.loader.startswith("umedfeat."):
            module, _, function = self.loader.partition(":")
            loader: Callable[[EncoderChoice], Encoder] = getattr(import_module(module), function)
            return loader(choice)
        return self._load_foreign(choice)

    def _load_foreign(self, choice: EncoderChoice) -> Encoder:
        """The same for another package's loader, which may be wrong."""
        encoder: Encoder = loaded(self.loader, self.name, self.about, choice)
        lacking = _lacking(encoder, choice.name)
        if lacking:
            message = f"{self.name}: {self.loader} ({self.about}) gives no encoder, it lacks {', '.join(lacking)}"
            raise SetupError(message, remedy=f"see the entry-point group {GROUP} in docs/encoders.md")
        return encoder


#: What every Encoder tells of itself (``umedfeat.contract.EncoderFacts``).
_FACTS = ("name", "dim", "image_size", "device", "precision", "settings")


def _lacking(encoder: Any, name: str) -> list[str]:
    """What another package's encoder would have to have: every fact, and facts that can be stored and compared."""
    if not callable(encoder):
        return ["__call__"]
    lacking = [fact for fact in _FACTS if not hasattr(encoder, fact)]
    if lacking:
        return lacking
    sides = ("dim", "image_size")
    lacking = [f"a positive number as {side}" for side in sides if not _is_count(getattr(encoder, side))]
    if not _is_json(encoder.settings):
        lacking.append("settings that can be written as JSON")
    elif encoder.settings.get("name") != name:
        lacking.append("its own name in settings")
    return lacking


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and int(value) > 0


def _is_json(settings: Any) -> bool:
    try:
        return isinstance(settings, Mapping) and bool(json.dumps(dict(settings), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return False


_OFFICIAL = "umedfeat.encoders.umedpt:load_official"
_RESEARCH = "(official weights, research licence)"
ENCODERS: dict[str, EncoderEntry] = {
    entry.name: entry
    for entry in (
        EncoderEntry("umedpt", f"UMedPT, the biomedical multi-task encoder {_RESEARCH}", _OFFICIAL),
        EncoderEntry("tissue-concepts", f"Tissue Concepts, UMedPT's sibling for histology {_RESEARCH}", _OFFICIAL),
        EncoderEntry("unicorn", f"the UNICORN challenge encoder {_RESEARCH}", _OFFICIAL),
        EncoderEntry("wsc-tiny", f"Whole Slide Concepts, tiny {_RESEARCH}", _OFFICIAL),
        EncoderEntry(
            "efficientnet-lite0",
            "ImageNet EfficientNet-Lite0, installed with this package: needs no network",
            "umedfeat.encoders.lite0:load_efficientnet_lite0",
        ),
        EncoderEntry(
            "umedfeat-open",
            "trained with `umedfeat pretrain` on open biomedical images, installed with this package: needs no network",
            "umedfeat.encoders.weights.trained:load_shipped",
            128,
        ),
        EncoderEntry(
            "imagenet-swinv2-t",
            "ImageNet Swin V2 tiny, the architecture of UMedPT: the paper's baseline",
            "umedfeat.encoders.umedpt:load_imagenet",
        ),
        *(
            EncoderEntry(
                known.name,
                known.about,
                "umedfeat.encoders.timm_models:load_known",
                known.image_size,
                known.dim,
                known.licence,
                f"https://huggingface.co/{known.repository}",
                known.gated,
            )
            for known in KNOWN.values()
        ),
        EncoderEntry("random", "untrained, for tests of the pipeline only", "umedfeat.encoders.baseline:load_random"),
        EncoderEntry(
            "timm:", "timm:<name>: any model of timm, without its head", "umedfeat.encoders.timm_models:load_timm", None
        ),
        EncoderEntry(
            "hf-hub:",
            "hf-hub:<owner>/<name>: a timm model, ViT or DINOv2 of the Hugging Face hub",
            "umedfeat.encoders.timm_models:load_hub",
            None,
        ),
    )
}


#: Not asked for by name: a weights file tells.
TRAINED = EncoderEntry("trained", "from `umedfeat pretrain`", "umedfeat.encoders.weights.trained:load_weights", None)


def list_encoders() -> tuple[EncoderEntry, ...]:
    """Every encoder that ``load_encoder`` and ``--encoder`` take, with what it is; those of other packages last."""
    return tuple(_all().values())


def _all() -> dict[str, EncoderEntry]:
    found = {point.name: _registered(point) for point in plugins(ENCODERS).values()}
    return {**ENCODERS, **found}


def _registered(point: EntryPoint) -> EncoderEntry:
    return EncoderEntry(point.name, f"from the package {described(point)}", point.value, None)


def entry_of(name: str) -> EncoderEntry:
    """The row of a name.

    Raises:
        SetupError: unknown; near names are suggested.
    """
    family = name.partition(":")[0] + ":"
    found = ENCODERS.get(name) or ENCODERS.get(family) or _all().get(name) or _all().get(family)
    if found is not None and name != family:
        return found
    near = [other for other in difflib.get_close_matches(name, _all(), n=3) if other != name][:2]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    known = ", ".join(other if not other.endswith(":") else f"{other}<name>" for other in _all())
    raise SetupError(f"unknown encoder {name!r}", remedy=f"{hint}known: {known}")


def image_size_of(name: str) -> int:
    """Side in pixels that an encoder was made for, without loading it; 224 where only the encoder itself tells.

    Raises:
        SetupError: unknown name.
    """
    return entry_of(name).image_size or DEFAULT_SIDE


def load_chosen(choice: EncoderChoice) -> Encoder:
    """Load an encoder on the first of its devices. A weights file of ``umedfeat pretrain`` decides which one it is.

    Raises:
        WeightsUnavailable, CheckpointRefused, SetupError: see ``umedfeat.load_encoder``.
    """
    _refuse_special(choice.weights)
    trained = choice.weights is not None and read_card(choice.weights) is not None
    entry = TRAINED if trained else entry_of(choice.name)
    device = choose_device(device_names(choice.device)[0])
    encoder = entry.load(replace(choice, device=device, precision=choose_precision(choice.precision, device)))
    if choice.tokens and "tokens" not in encoder.settings:  # a loader of another package that does not know of them
        raise SetupError(f"{encoder.name} gives no tokens", remedy="another encoder, or leave out --tokens")
    return encoder


def _refuse_special(weights: Path | None) -> None:
    """Weights come from a file: a pipe or a device might never end. A file that is missing is told by its reader."""
    if weights is not None and (kind := kind_of(weights)) not in ("", "file"):
        raise CheckpointRefused(f"{weights}: is a {kind}, not a weights file", remedy="give the path of a file")
