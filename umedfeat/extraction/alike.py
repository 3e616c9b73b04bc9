"""Features made exactly like those of an existing file: its encoder, its policy, nothing else."""

from __future__ import annotations

from pathlib import Path

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.extraction.run import RunSettings, extract
from umedfeat.naming import Pseudonyms
from umedfeat.store import Header
from umedfeat.terminal.progress import Progress

__all__ = ["extract_alike"]


def extract_alike(
    inputs: Path,
    out: Path,
    header: Header,
    *,
    weights: Path | None = None,
    device: str = "auto",
    run: RunSettings | None = None,
    pseudonyms: Pseudonyms | None = None,
    progress: Progress | None = None,
) -> Path:
    """Embed images like the given header says, and refuse if they would come out otherwise.

    Returns:
        The feature file: ``out``, or the shard's part of it.

    Raises:
        SetupError: see ``extract``; or encoder, precision or runtime of this machine make other features.
    """
    choice = EncoderChoice(weights=weights, device=device)
    return extract(inputs, out, encoder=choice, run=run, pseudonyms=pseudonyms, progress=progress, like=header).out
