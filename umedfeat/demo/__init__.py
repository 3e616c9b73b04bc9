"""``umedfeat demo``: the whole way on a small mixed cohort, through the same functions as the commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from umedfeat.errors import OutputError

if TYPE_CHECKING:
    from umedfeat.encoders.choice import EncoderChoice
    from umedfeat.extraction.run import Summary
    from umedfeat.fewshot.result import ProbeResult
    from umedfeat.prediction.apply import Predicted
    from umedfeat.terminal.progress import Progress

__all__ = ["Demo", "run_demo"]


@dataclass(frozen=True)
class Demo:
    """What the demo did and where it lies."""

    folder: Path
    manifest: Path
    summary: Summary
    result: ProbeResult
    probe_folder: Path
    predicted: Predicted
    predict_folder: Path


def run_demo(
    folder: Path | str = "umedfeat-demo",
    encoder: EncoderChoice | str = "umedfeat-open",
    progress: Progress | None = None,
) -> Demo:
    """Build the cohort, extract, probe, and predict new patients with what was learned.

    Args:
        folder: made if missing; must be empty or an earlier demo's.
        encoder: which network.
        progress: of the extraction (default: a widget in a notebook, else nothing is shown).

    Raises:
        OutputError: the folder holds something else.
    """
    from umedfeat.demo.cohort import build_cohort, build_new_patients
    from umedfeat.demo.study import predictions_of, study_of
    from umedfeat.extraction.run import extract
    from umedfeat.extraction.settings import RunSettings
    from umedfeat.naming import Pseudonyms
    from umedfeat.terminal.progress import own_progress

    folder, progress = Path(folder), progress or own_progress()
    _claim(folder)
    pseudonyms = Pseudonyms(b"umedfeat demo: no patients")
    manifest = build_cohort(folder)
    summary = extract(
        manifest,
        folder / "feats.h5",
        encoder=encoder,
        run=RunSettings(overwrite=True),
        pseudonyms=pseudonyms,
        progress=progress,
        preview_dir=folder / "preview",
    )
    result = study_of(summary.out, folder / "probe")
    model, new = folder / "probe" / "model.safetensors", build_new_patients(folder)
    predicted = predictions_of(new, model, folder / "predict", pseudonyms, progress)
    return Demo(folder, manifest, summary, result, folder / "probe", predicted, folder / "predict")


def _claim(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / "cohort.csv").is_file():
        raise OutputError(f"{folder}: the folder is not empty", remedy="choose another one with --dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{folder}: cannot be made ({error.strerror})"
        raise OutputError(message, remedy="choose another one with --dir") from error
