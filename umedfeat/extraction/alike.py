"""Features made exactly like those of an existing file: its encoder, its policy, nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.extraction.run import RunSettings, extract
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.prediction.apply import refuse_other
from umedfeat.store import FeatureFile, Header
from umedfeat.terminal.progress import Progress

__all__ = ["choice_like", "extract_alike"]


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
    """Embed images like the given header says, and refuse if they came out otherwise.

    Returns:
        The feature file: ``out``, or the shard's part of it.

    Raises:
        SetupError: see ``extract``; or encoder, precision or runtime of this machine make other features.
    """
    summary = extract(
        inputs,
        out,
        encoder=choice_like(header, weights, device),
        policy=Policy.from_json(json.dumps(dict(header.policy))),
        run=replace(run or RunSettings(), dtype=header.dtype),
        pseudonyms=pseudonyms,
        progress=progress,
    )
    with FeatureFile(summary.out) as file:
        refuse_other(header, file.header, "these images")
    return summary.out
