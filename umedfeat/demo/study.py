"""The demo's question: does a radiograph show the opacity that was drawn into it, and how few labels tell?"""

from __future__ import annotations

from pathlib import Path

from umedfeat.extraction.predicting import predict
from umedfeat.extraction.settings import RunSettings
from umedfeat.fewshot import ProbeSettings
from umedfeat.fewshot.cohort.sources import Labelling
from umedfeat.fewshot.files import read_subject
from umedfeat.fewshot.result import ProbeResult
from umedfeat.naming import Pseudonyms
from umedfeat.prediction.apply import Predicted
from umedfeat.prediction.fit import Saving, study_and_fit
from umedfeat.report.files import write_study
from umedfeat.report.prediction_files import write_predictions
from umedfeat.report.prediction_page import write_prediction_page
from umedfeat.report.prediction_pictures import draw_all
from umedfeat.report.study_page import write_report
from umedfeat.terminal.progress import Progress

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
    subject = read_subject(features, ProbeSettings(fractions=_FRACTIONS), Labelling(unmatched="skip"))
    result, probe = study_and_fit(subject, Saving())
    write_study(result, folder, probe)
    write_report(result, folder, preview=features.parent / "preview")
    return result
