"""preview(): every input planned as ``extract`` would, drawn, and put on one page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from umedfeat.contract import Failure, Skipped, Source
from umedfeat.discovery import discover
from umedfeat.engine.planning import visit_all
from umedfeat.errors import InputError, OutputError, SetupError
from umedfeat.keys import load_key
from umedfeat.naming import Pseudonyms
from umedfeat.policy import DEFAULT_SIDE, Policy
from umedfeat.readers import settled
from umedfeat.report.preview.writer import Drawing, PreviewWriter
from umedfeat.terminal.bar import Bar

__all__ = ["PreviewSummary", "preview"]

log = logging.getLogger("umedfeat")


@dataclass(frozen=True)
class PreviewSummary:
    """What was drawn. ``page``: path of index.html; ``shown``: inputs with pictures."""

    page: Path
    shown: int
    regions: int
    failures: tuple[Failure, ...]
    skipped: tuple[Skipped, ...]

    @property
    def exit_code(self) -> int:
        """0 when nothing failed, else 1."""
        return 1 if self.failures else 0


def preview(
    inputs: Path | str | Sequence[Path | str],
    out_dir: Path | str,
    *,
    policy: Policy | None = None,
    pseudonyms: Pseudonyms | None = None,
    regions: int = 12,
    geojson: bool = False,
    workers: int = 2,
    show_progress: bool = False,
) -> PreviewSummary:
    """Draw what the encoder would see of every image under ``inputs``.

    Args:
        inputs: files, folders or CSV manifests.
        out_dir: folder for ``index.html``, ``pictures/`` and, with ``geojson``, ``geojson/``.
        policy: as for ``umedfeat.extract``; sizes that it leaves open are UMedPT's, 224.
        regions: tiles or slices on a contact sheet.
        geojson: also write tissue and grid of every slide for QuPath.
        workers: processes that plan and draw.

    Raises:
        SetupError: missing paths, colliding ids, nothing to look at.
        OutputError: the folder cannot be written.
    """
    policy = settled(policy or Policy(), DEFAULT_SIDE)
    paths = [Path(inputs)] if isinstance(inputs, (str, Path)) else [Path(path) for path in inputs]
    found = discover(paths, policy, pseudonyms or Pseudonyms(load_key(None)))
    if not found.sources and not found.failures:
        names = ", ".join(path.name for path in paths)
        raise SetupError(
            f"{names}: no image found in {len(found.skipped)} files", remedy="name a file or folder of images"
        )
    writer = PreviewWriter(out_dir, policy)
    failures = list(found.failures)
    for skipped in found.skipped:
        writer.skip(skipped)
    drawn = visit_all(
        [(source, None) for source in found.sources], Drawing(writer.out_dir, regions, geojson), policy, workers=workers
    )
    with (
        closing(found),
        closing(drawn),
        Bar("preview", len(found.sources), "input", shown=None if show_progress else False) as bar,
    ):
        for source, visited in drawn:
            if isinstance(visited.error, OutputError):
                raise visited.error
            if visited.error is None:
                writer.add(visited.value)
            else:
                failures.append(_failure(source, visited.stage, visited.error))
            bar.update()
    for failure in failures:
        writer.fail(failure)
    shown = [card for card in writer.cards if card.status != "failed"]
    return PreviewSummary(
        writer.close(), len(shown), sum(card.regions for card in shown), tuple(failures), found.skipped
    )


def _failure(source: Source, stage: str, error: InputError) -> Failure:
    log.warning("%s", error.message)
    return Failure(source.name, stage, type(error).__name__, error.message, error.remedy)
