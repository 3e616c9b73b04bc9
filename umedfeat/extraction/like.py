"""Settings of an existing feature file, for features that are to stand beside it (``--like feats.h5``)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.errors import SetupError
from umedfeat.extraction.settings import RunSettings
from umedfeat.policy import Policy
from umedfeat.store import FeatureFile, Header

__all__ = ["choice_like", "header_of", "settings_like"]

#: Of the encoder's choice: what may differ between two runs that make the same features.
_OF_THE_MACHINE = {"weights", "device", "offline", "tokens"}


def header_of(like: Header | Path | str) -> Header:
    """The settings under which images were embedded: a feature file's own, or where it holds vectors of a slide encoder
    those of the tiles that they were made of.

    Raises:
        SetupError, UnreadableFile: see ``FeatureFile``.
    """
    if isinstance(like, Header):
        return like.of_tiles or like
    with FeatureFile(Path(like)) as file:
        return header_of(file.header)


def choice_like(header: Header, weights: Path | None = None, device: str = "auto") -> EncoderChoice:
    """The encoder that made some features.

    Args:
        weights: its weights file where the features were made with one of one's own.
    """
    made_by = header.encoder
    order = made_by.get("pool_order")
    return EncoderChoice(
        str(made_by.get("name", "")),
        weights=weights,
        device=device,
        precision=str(made_by.get("precision", "auto")),
        runtime=str(made_by.get("runtime", "auto")),
        pool_order=order if order in {"pool_first", "pool_last"} else None,
        compile=bool(made_by.get("compiled")),
    )


def settings_like(
    header: Header, choice: EncoderChoice, policy: Policy, run: RunSettings
) -> tuple[EncoderChoice, Policy, RunSettings]:
    """Encoder, policy and precision of the header; of the arguments what changes no number (device, limits, workers).

    Raises:
        SetupError: the arguments ask for another encoder or other pixels than the defaults; the header decides those.
    """
    asked = [*_changed(choice, EncoderChoice(), _OF_THE_MACHINE), *_changed(policy, Policy(), {"limits"})]
    if run.dtype not in {RunSettings().dtype, header.dtype}:
        asked.append("dtype")
    if asked:
        message = f"--like decides the encoder and the pixels, but {', '.join(asked)} was given too"
        raise SetupError(message, remedy="leave out one of them")
    alike = choice_like(header, choice.weights, choice.device)
    made_with = Policy.from_json(json.dumps(dict(header.policy)))
    return (
        replace(alike, offline=choice.offline, tokens=choice.tokens),
        replace(made_with, limits=policy.limits),
        replace(run, dtype=header.dtype),
    )


def _changed(given: Any, default: Any, free: set[str]) -> Iterator[str]:
    """Names of the fields, in nested settings too, that are not the default's."""
    for field in dataclasses.fields(given):
        mine, usual = getattr(given, field.name), getattr(default, field.name)
        if field.name in free or mine == usual:
            continue
        if dataclasses.is_dataclass(mine):
            yield from _changed(mine, usual, set())
        else:
            yield field.name
