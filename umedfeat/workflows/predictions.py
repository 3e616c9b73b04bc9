"""A saved probe on new patients, with its tables, its pictures, its page, and how good it is where labels are known."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from umedfeat.extraction.evidence import Showing, evidence_of
from umedfeat.extraction.predicting import claim, place_of_shard, predict, table_at
from umedfeat.extraction.settings import RunSettings
from umedfeat.fewshot.cohort.sources import Labelling
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.keys import load_key
from umedfeat.naming import Pseudonyms
from umedfeat.prediction.apply import Predicted
from umedfeat.prediction.external import Known, Validation, validate_if_labelled
from umedfeat.prediction.overlap import trained_patients
from umedfeat.prediction.saved import SavedProbe
from umedfeat.report.prediction_files import write_predictions
from umedfeat.report.prediction_page import write_prediction_page
from umedfeat.report.validation_files import forget_validation, write_validation
from umedfeat.terminal.bar import Bar
from umedfeat.terminal.progress import Progress

__all__ = ["PredictionReport", "Truth", "predict_and_report"]

log = logging.getLogger("umedfeat")


@dataclass(frozen=True)
class Truth:
    """What the new patients have, for an external validation.

    Attributes:
        labelling: where labels and patients come from; by default the file's own column that the model was trained on.
        settings: of the evaluation, but for its threshold.
        known: "skip" leaves training patients and training images out, "stop" refuses them.
        threshold: of two classes, the probability of the second above which it is predicted; that of the study that
            made the model by default.
    """

    labelling: Labelling = field(default_factory=Labelling)
    settings: ProbeSettings = field(default_factory=ProbeSettings)
    known: Known = "stop"
    threshold: float | None = None


class PredictionReport(NamedTuple):
    """Predictions, how good they are (None without labels), the table, and the page beside it."""

    predicted: Predicted
    validation: Validation | None
    table: Path
    page: Path


def predict_and_report(
    inputs: Path | str,
    model: Path | str,
    out: Path | str = "predict/predictions.csv",
    *,
    images: Path | str | None = None,
    truth: Truth | None = None,
    showing: Showing | None = None,
    weights: Path | None = None,
    device: str = "auto",
    run: RunSettings | None = None,
    pseudonyms: Pseudonyms | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] = log.info,
) -> PredictionReport:
    """Apply a saved probe and write what ``umedfeat predict`` writes: tables, heatmaps, page, validation.

    Args:
        inputs: a feature file, or images (a file, a folder, a manifest).
        model: the saved probe's file.
        out: table of predictions, or a folder for it; everything else is written beside it.
        images: what a feature file was made of, for pictures.
        truth: labels of the new patients. showing: which pictures are made.
        weights, device: of the encoder, for images and occlusion.
        run, pseudonyms, progress: for images; see ``umedfeat.extract``.
        tell: receives what occlusion will cost, before it is spent.

    Raises:
        SetupError, CohortError: see ``umedfeat.predict``; no such class, or occlusion without images.
        LeakageError: training patients or images are among the labelled ones.
        OutputError: the folder cannot be written.

    Example:
        >>> umedfeat.predict_and_report("new/", "probe/model.safetensors").page  # doctest: +SKIP
    """
    run, truth, showing = run or RunSettings(), truth or Truth(), showing or Showing()
    pseudonyms = pseudonyms or Pseudonyms(load_key(None, shared=run.several_machines))
    saved = SavedProbe.load(model)
    probe = replace(saved, threshold=truth.threshold or saved.threshold)
    probe.refuse_unknown(showing.class_name)
    place = table_at(Path(out))
    table = place_of_shard(place, run)
    claim(table, [inputs, model, truth.labelling.path])
    with Bar("predict") as bar:
        found = predict(
            inputs,
            probe,
            features=place.parent / "feats.h5",
            weights=weights,
            device=device,
            run=run,
            pseudonyms=pseudonyms,
            progress=progress,
            on_rows=bar.update,
        )
    trained = trained_patients(probe, Path(model))
    settings = replace(truth.settings, threshold=probe.threshold)
    validation = validate_if_labelled(found, truth.labelling, settings, known=truth.known, trained=trained)
    write_predictions(found, table, validation)
    if validation is None:
        forget_validation(table.parent)
    else:
        write_validation(validation, table.parent)
    shown = replace(showing, weights=weights, device=device)
    source = None if images is None else Path(images)
    drawn = evidence_of(found, table.parent, shown, pseudonyms, inputs=Path(inputs), images=source, tell=tell)
    return PredictionReport(found, validation, table, write_prediction_page(found, table.parent, drawn, validation))
