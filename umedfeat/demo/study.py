"""The demo's question: does a radiograph show the opacity that was drawn into it, and how few labels tell?"""

from __future__ import annotations

from pathlib import Path

from umedfeat.extraction.predicting import predict
from umedfeat.extraction.settings import RunSettings
from umedfeat.fewshot import ProbeSettings
from umedfeat.fewshot.cohort.sources import Labelling
from umedfeat.fewshot.result import ProbeResult
from umedfeat.naming import Pseudonyms
from umedfeat.prediction.apply import Predicted
from umedfeat.report.prediction_files import write_predictions
from umedfeat.report.prediction_page import write_prediction_page
from umedfeat.report.prediction_pictures import draw_all
from umedfeat.terminal.progress import Progress
from umedfeat.workflows.studies import probe_and_report

__all__ = ["predictions_of", "study_of"]

_FRACTIONS = (0.1, 0.25, 0.5, 1.0)


def predictions_of(manifest: Path, model: Path, folder: Path, pseudonyms: Pseudonyms, progress: Progress) -> Predicted:
    """Apply the study's saved probe to new images; writes table, page and heatmap into ``folder``."""
    folder.mkdir(exist_ok=True)
    run = RunSettings(overwrite=True)
    found = predict(manifest, model, features=folder / "feats.h5", run=run, pseudonyms=pseudonyms, progress=progress)
    write_predictions(found, folder / "predictions.csv")
    write_prediction_page(found, folder, draw_all(found, "opacity", folder, manifest, pseudonyms))
    return found


def study_of(features: Path, folder: Path) -> ProbeResult:
    """Few-shot evaluation of the labelled radiographs; writes the study's files into ``folder``."""
    settings = ProbeSettings(fractions=_FRACTIONS)
    return probe_and_report(features, folder, settings=settings, labelling=Labelling(unmatched="skip")).result
