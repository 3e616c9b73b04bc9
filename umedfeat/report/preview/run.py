"""preview(): every input planned as ``extract`` would, drawn, and put on one page."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from umedfeat.contract import Failure, Plan, Skipped, Source
from umedfeat.discovery import discover
from umedfeat.engine.local.worker import named_faults
from umedfeat.engine.planning import plan_all
from umedfeat.errors import InputError, SetupError
from umedfeat.keys import load_key
from umedfeat.naming import Pseudonyms
from umedfeat.policy import DEFAULT_SIDE, Policy
from umedfeat.readers import open_reader, settled
from umedfeat.report.preview.writer import PreviewWriter

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
        workers: processes that plan.

    Raises:
        SetupError: missing paths, colliding ids, nothing to look at.
    """
    policy = settled(policy or Policy(), DEFAULT_SIDE)
    paths = [Path(inputs)] if isinstance(inputs, (str, Path)) else [Path(path) for path in inputs]
    found = discover(paths, policy, pseudonyms or Pseudonyms(load_key(None)))
    if not found.sources and not found.failures:
        names = ", ".join(path.name for path in paths)
        raise SetupError(
            f"{names}: no image found in {len(found.skipped)} files", remedy="name a file or folder of images"
        )
    writer = PreviewWriter(out_dir, policy, regions=regions, geojson=geojson)
    failures = list(found.failures)
    for skipped in found.skipped:
        writer.skip(skipped)
    drawn = _draw_all(found.sources, policy, writer, workers)
    watched = tqdm(drawn, "Preview", len(found.sources), unit="input", disable=not show_progress)
    failures += [failure for failure in watched if failure is not None]
    for failure in failures:
        writer.fail(failure)
    shown = [card for card in writer.cards if card.status != "failed"]
    return PreviewSummary(
        writer.close(), len(shown), sum(card.regions for card in shown), tuple(failures), found.skipped
    )


def _draw_all(
    sources: Sequence[Source], policy: Policy, writer: PreviewWriter, workers: int
) -> Iterator[Failure | None]:
    """Plan in processes, draw here; yields once per source."""
    for source, planned in plan_all(sources, policy, workers=workers):
        if isinstance(planned, InputError):
            yield _failure(source, "plan", planned)
        else:
            yield _draw(source, planned, policy, writer)


def _draw(source: Source, plan: Plan, policy: Policy, writer: PreviewWriter) -> Failure | None:
    try:
        with named_faults(source), contextlib.closing(open_reader(source, policy, plan.prepared)) as reader:
            writer.add(source, reader, plan)
    except InputError as error:
        return _failure(source, "read", error)
    return None


def _failure(source: Source, stage: str, error: InputError) -> Failure:
    log.warning("%s", error.message)
    return Failure(source.name, stage, type(error).__name__, error.message, error.remedy)
