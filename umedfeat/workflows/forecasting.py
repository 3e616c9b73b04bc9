"""What an extraction would do, before it is begun."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.extraction.asked import asked
from umedfeat.extraction.dry_run import Forecast
from umedfeat.extraction.dry_run import forecast as forecast_settled
from umedfeat.extraction.settings import RunSettings
from umedfeat.keys import load_key
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.store import Header
from umedfeat.terminal.progress import Progress, own_progress

__all__ = ["forecast"]


def forecast(
    inputs: Path | str | Sequence[Path | str],
    *,
    encoder: EncoderChoice | str = "umedpt",
    policy: Policy | None = None,
    run: RunSettings | None = None,
    pseudonyms: Pseudonyms | None = None,
    progress: Progress | None = None,
    like: Header | Path | str | None = None,
) -> Forecast:
    """Inputs, regions, bytes and time of an extraction (``extract --dry-run``); nothing is written, no key is made.

    Arguments and errors are those of ``umedfeat.extract``.

    Example:
        >>> umedfeat.forecast("slides/", encoder="efficientnet-lite0").regions  # doctest: +SKIP
    """
    paths, choice, policy, run, _ = asked(inputs, encoder, policy, run, like)
    pseudonyms = pseudonyms or Pseudonyms(load_key(None, make=False, shared=run.several_machines))
    return forecast_settled(paths, choice, policy, run, pseudonyms, progress or own_progress())
