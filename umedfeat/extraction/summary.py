"""What a run did: for the caller, and for ``<out>.run.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from umedfeat.contract import EncoderFacts, Failure, Skipped, Source
from umedfeat.discovery import Discovery
from umedfeat.engine.seconds import StageSeconds
from umedfeat.extraction.settings import RunSettings
from umedfeat.extraction.sink import StoreSink
from umedfeat.store.resume import Resumption

__all__ = ["Summary", "run_log", "summary_of"]

_NO_SECONDS = {"regions", "devices", "images_at_once", "waited"}


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        out: the feature file.
        encoder: its name; ``settings``: everything that decides its numbers; ``device``: where it ran.
        dim: length of an embedding.
        embedded: inputs embedded now; ``resumed``: inputs that were in the output already.
        empty: names of inputs without a single region (no tissue found, smaller than a tile): read, not embedded.
        identical: names of inputs of the same content, as groups.
        by_modality: modality → (inputs, regions) of the inputs embedded now.
        changed: inputs whose files changed since they were embedded, and that were embedded (or failed) again.
        gone: items whose inputs are no longer given; kept, unless ``prune`` removed them.
        failures, skipped: what is not in the file, and why; ``hints``: what deserves a thought → how many inputs.
        seconds: where the time went.
        allowed: no more failed than ``RunSettings.allow_failed``.
    """

    out: Path
    encoder: str
    settings: Mapping[str, Any]
    device: str
    dim: int
    embedded: int
    resumed: int
    by_modality: Mapping[str, tuple[int, int]]
    failures: tuple[Failure, ...]
    skipped: tuple[Skipped, ...]
    hints: Mapping[str, int]
    seconds: StageSeconds
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    allowed: bool = False
    empty: tuple[str, ...] = ()
    identical: tuple[tuple[str, ...], ...] = ()

    @property
    def exit_code(self) -> int:
        """0 when nothing failed, or no more than ``RunSettings.allow_failed``; else 1."""
        return 1 if self.failures and not self.allowed else 0


def summary_of(
    sink: StoreSink,
    encoder: EncoderFacts,
    resumed: Resumption,
    mine: Sequence[Source],
    found: Discovery,
    seconds: StageSeconds,
    run: RunSettings,
) -> Summary:
    """What went into ``sink``, and what did not. ``mine``: the inputs of this shard, resumed ones included."""
    return Summary(
        out=sink.store.out,
        encoder=encoder.name,
        settings=encoder.settings,
        device=encoder.device,
        dim=sink.store.dim,
        embedded=sink.count,
        empty=tuple(sorted(sink.empty)),
        identical=sink.identical,
        resumed=len(mine) - len(resumed.todo),
        by_modality=sink.by_modality,
        failures=tuple(sink.failures),
        skipped=found.skipped,
        hints=dict(sink.hints),
        seconds=seconds,
        changed=resumed.changed,
        gone=tuple(sorted(resumed.gone.values())),
        allowed=run.allows(len(sink.failures), len(mine) + len(found.failures)),
    )


def run_log(summary: Summary, run: RunSettings, place: Mapping[str, Any]) -> dict[str, Any]:
    """What goes into ``<out>.run.json``: how this run went, not what is in the file.

    Args:
        place: how the machine was used, or the machines.
    """
    seconds = summary.seconds
    return {
        "encoder": summary.encoder,
        "device": summary.device,
        "devices": seconds.devices,
        "precision": summary.settings.get("precision"),
        "runtime": summary.settings.get("runtime"),
        **place,
        "images_at_once": seconds.images_at_once,
        "shard": list(run.shard) if run.shard else None,
        **run.asked,
        "inputs": {
            "embedded": summary.embedded,
            "empty": len(summary.empty),
            "resumed": summary.resumed,
            "changed": len(summary.changed),
            "gone": len(summary.gone),
            "failed": len(summary.failures),
            "skipped": len(summary.skipped),
        },
        "regions": seconds.regions,
        "seconds": {key: round(value, 3) for key, value in asdict(seconds).items() if key not in _NO_SECONDS},
        "waited_for": {stage: round(share, 4) for stage, share in seconds.waits.items()},
        "regions_per_second": round(seconds.regions / seconds.wall, 2) if seconds.wall else None,
        "device_busy": round(seconds.device_busy, 4),
    }
