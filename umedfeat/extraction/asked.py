"""What a caller asks of an extraction, settled before anything is looked for: the same for a run and its forecast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.registry import entry_of
from umedfeat.extraction.like import header_of, settings_like
from umedfeat.extraction.settings import RunSettings
from umedfeat.extraction.tokens import sized_for_tokens
from umedfeat.policy import Policy
from umedfeat.store import Header

__all__ = ["Asked", "asked"]


class Asked(NamedTuple):
    """``wanted``: settings of the feature file that the features are to stand beside, or None."""

    paths: list[Path]
    choice: EncoderChoice
    policy: Policy
    run: RunSettings
    wanted: Header | None


def asked(
    inputs: Path | str | Sequence[Path | str],
    encoder: EncoderChoice | str,
    policy: Policy | None,
    run: RunSettings | None,
    like: Header | Path | str | None,
) -> Asked:
    """Defaults filled in, the settings of ``like`` taken, sizes fit for tokens. Arguments as of ``umedfeat.extract``.

    Raises:
        SetupError: no such encoder, which is told before a long look for images; settings beside those of ``like``.
    """
    run, policy = run or RunSettings(), policy or Policy()
    choice = EncoderChoice(encoder) if isinstance(encoder, str) else encoder
    wanted = None if like is None else header_of(like)
    if wanted is not None:
        choice, policy, run = settings_like(wanted, choice, policy, run)
    choice, policy = sized_for_tokens(choice, policy)
    if choice.weights is None:
        entry_of(choice.name)
    paths = [Path(inputs)] if isinstance(inputs, (str, Path)) else [Path(path) for path in inputs]
    return Asked(paths, choice, policy, run, wanted)
