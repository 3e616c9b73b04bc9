"""The dry run: what would be embedded, how much, how long; nothing is written."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from umedfeat.contract import Failure, Skipped
from umedfeat.discovery import Discovery, discover
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.registry import load_chosen
from umedfeat.engine.local.here import default_workers
from umedfeat.engine.planning import plan_all
from umedfeat.errors import InputError, SetupError
from umedfeat.extraction.settings import RunSettings
from umedfeat.extraction.shards import portion_of
from umedfeat.naming import Pseudonyms, printable
from umedfeat.policy import DEFAULT_SIDE, Policy
from umedfeat.readers import settled
from umedfeat.store.info import EMPTY_REMEDY
from umedfeat.terminal.progress import Progress
from umedfeat.terminal.tables import human_bytes, human_seconds, render_facts, render_table
from umedfeat.terminal.words import counted

__all__ = ["Forecast", "forecast"]

_TRIAL_IMAGES = 8
_NAMED = 5  # empty inputs that are spelt out


@dataclass(frozen=True)
class Forecast:
    """What a run would do.

    Attributes:
        by_modality: modality → (inputs, regions).
        failures, skipped: what would not be in the file, and why (missing scale, damaged files …).
        regions: in total. ``output_bytes``: size of the features, and of the tokens where they are asked for.
        per_second: regions per second of the encoder here, measured on a small batch; None without its weights.
        note: why there is no rate.
        hints: what the readers would rather be told → how many inputs.
        empty: names of inputs without a single region, which would not be embedded.
    """

    by_modality: dict[str, tuple[int, int]]
    failures: tuple[Failure, ...]
    skipped: tuple[Skipped, ...]
    regions: int
    output_bytes: int
    per_second: float | None
    note: str = ""
    hints: Mapping[str, int] = field(default_factory=dict)
    empty: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "modalities": {name: {"inputs": n, "regions": r} for name, (n, r) in self.by_modality.items()},
            "regions": self.regions,
            "output_bytes": self.output_bytes,
            "seconds": round(self.regions / self.per_second) if self.per_second else None,
            "hints": dict(self.hints),
            "empty": list(self.empty),
            "failures": [{"source": f.source, "message": f.message, "remedy": f.remedy} for f in self.failures],
            "skipped": [{"source": s.name, "reason": s.reason} for s in self.skipped],
        }

    def to_text(self) -> str:
        """For people."""
        rows = [[name, n, r] for name, (n, r) in self.by_modality.items()]
        parts = [render_table(["modality", "inputs", "regions"], rows)] if rows else ["nothing to embed"]
        about = f"about {human_seconds(self.regions / self.per_second)}" if self.per_second else f"unknown: {self.note}"
        facts = [
            ("to embed", counted(self.regions, "region")),
            ("to write", human_bytes(self.output_bytes)),
            ("time", about),
        ]
        parts.append(render_facts(facts))
        parts += [f"note: {count} × {printable(hint)}" for hint, count in self.hints.items()]
        if self.empty:
            names = ", ".join(map(printable, self.empty[:_NAMED])) + (" …" if len(self.empty) > _NAMED else "")
            parts.append(
                f"empty: {counted(len(self.empty), 'input')} without a single region: {names}\n      → {EMPTY_REMEDY}"
            )
        if self.failures:
            lines = [f"  ✗ {printable(f.message)}\n      → {printable(f.remedy)}" for f in self.failures]
            parts.append("\n".join([f"would fail: {len(self.failures)}", *lines]))
        if self.skipped:
            reasons = Counter(skipped.reason for skipped in self.skipped)
            table = render_table(
                ["files", "skipped because"], [[count, reason] for reason, count in reasons.most_common()]
            )
            parts.append(table)
        return "\n\n".join([*parts, "Nothing was written."])


def forecast(
    inputs: Sequence[Path],
    choice: EncoderChoice,
    policy: Policy,
    run: RunSettings,
    pseudonyms: Pseudonyms,
    progress: Progress,
) -> Forecast:
    """Discover and plan everything, time the encoder on a few images where its weights are at hand.

    Raises:
        SetupError: missing paths, colliding ids.
    """
    with contextlib.closing(discover(inputs, policy, pseudonyms, seconds=run.timeout, scratch=run.scratch)) as found:
        if any(source.remote for source in found.sources):
            raise SetupError("a dry run would fetch every input", remedy="leave out --dry-run, or copy some of them")
        return _forecast(found, choice, policy, run, progress)


def _forecast(
    found: Discovery, choice: EncoderChoice, policy: Policy, run: RunSettings, progress: Progress
) -> Forecast:
    size, dim, rate, note = _trial(choice)
    policy = settled(policy, size)
    sources = portion_of(found, run.shard).sources
    failures = list(found.failures)
    items: Counter[str] = Counter()
    regions: Counter[str] = Counter()
    hints: Counter[str] = Counter()
    empty: list[str] = []
    progress.begin(len(sources))
    for source, outcome in plan_all(sources, policy, workers=run.workers or default_workers(), timeout=run.timeout):
        if isinstance(outcome, InputError):
            failures.append(Failure(source.name, "plan", type(outcome).__name__, outcome.message, outcome.remedy))
            progress.finished(source.name, "failed")
            continue
        if not len(outcome.regions):
            empty.append(source.name)
        items[outcome.modality] += len(outcome.regions) > 0
        regions[outcome.modality] += len(outcome.regions)
        hints.update([outcome.hint] if outcome.hint else [])
        progress.planned(len(outcome.regions))
        progress.finished(source.name, "embedded")
    progress.close()
    by_modality = {name: (items[name], regions[name]) for name in sorted(items)}
    total = sum(regions.values())
    width = 4 if run.dtype == "float32" else 2
    size, nothing = total * dim * width, tuple(sorted(empty))
    return Forecast(by_modality, tuple(failures), found.skipped, total, size, rate, note, hints, nothing)


def _trial(choice: EncoderChoice) -> tuple[int, int, float | None, str]:
    """(image size, dim, regions per second, why not) of the encoder, without insisting on its weights."""
    try:
        encoder = load_chosen(choice)
    except SetupError as error:
        return DEFAULT_SIDE, 512, None, error.message
    import torch

    side = choice.side or encoder.image_size
    images = torch.rand(_TRIAL_IMAGES, 3, side, side)
    encoder(images)
    begin = time.perf_counter()
    encoder(images)
    rate = _TRIAL_IMAGES / (time.perf_counter() - begin)
    return encoder.image_size, encoder.dim, rate, ""
