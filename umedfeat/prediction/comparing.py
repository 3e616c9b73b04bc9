"""Several fixed models on the same labelled patients: which one is better, by how much, and how surely?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from umedfeat.errors import CohortError, SetupError
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.cohort.sources import Labelling
from umedfeat.fewshot.compare import paired_differences
from umedfeat.fewshot.result import Difference, Estimate, Predictions
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.prediction.apply import apply_probe
from umedfeat.prediction.external import Known, Validation, estimates_of, validate
from umedfeat.prediction.overlap import trained_patients
from umedfeat.prediction.saved import SavedProbe
from umedfeat.store import FeatureFile

__all__ = ["ModelComparison", "compare_models"]


@dataclass(frozen=True)
class ModelComparison:
    """Models on one cohort.

    Attributes:
        names: of the models. baseline: the one that the others are compared with.
        cohort: the labelled items, or patients; those that every model may be tested on count.
        parts: what each model says of them. estimates: of each model; see ``Validation``.
        differences: metric by metric to the baseline, paired over the patients; p corrected over the models.
        settings: of the evaluation. warnings: full sentences.
    """

    names: tuple[str, ...]
    baseline: str
    cohort: Cohort
    parts: Mapping[str, Predictions]
    estimates: Mapping[str, tuple[Estimate, ...]]
    differences: tuple[Difference, ...]
    settings: ProbeSettings
    warnings: tuple[str, ...]


def compare_models(
    features: Sequence[Path],
    models: Sequence[Path],
    labelling: Labelling | None = None,
    settings: ProbeSettings | None = None,
    *,
    baseline: str = "",
    known: Known = "stop",
    threshold: float | None = None,
) -> ModelComparison:
    """Apply each model to the feature file that it fits, and compare them where all of them may be tested.

    Args:
        features: of the same inputs; one file an encoder. models: two saved probes or more, of the same classes.
        baseline: name of a model (its folder or file); the last by default.
        labelling, settings, known: see ``validate``.
        threshold: of two classes; that of each model's own study by default.

    Raises:
        SetupError: no file fits a model.
        CohortError: the models do not predict the same, or have no items in common.
        LeakageError: training patients of a model are among the items.
    """
    paths = dict(zip(_names(models), models, strict=True))
    probes = {name: SavedProbe.load(path) for name, path in paths.items()}
    chosen = _baseline(paths, baseline)
    _refuse_different(probes)
    validations = {}
    for name, probe in probes.items():
        trained = trained_patients(probe, paths[name])
        found = apply_probe(probe, _fitting(name, probe, features))
        judged = replace(settings or ProbeSettings(), threshold=threshold or probe.threshold)
        validations[name] = validate(found, labelling, judged, known=known, trained=trained)
    reference = validations[chosen]
    parts = _shared(validations, reference.cohort)
    return ModelComparison(
        names=tuple(paths),
        baseline=chosen,
        cohort=reference.cohort,
        parts=parts,
        estimates={name: estimates_of(reference.cohort, part, reference.settings) for name, part in parts.items()},
        differences=paired_differences(reference.cohort, parts, chosen, reference.settings),
        settings=reference.settings,
        warnings=tuple(dict.fromkeys(line for each in validations.values() for line in each.warnings)),
    )


def _names(models: Sequence[Path]) -> list[str]:
    """The folder where the file has its usual name, else the file's stem; the whole path where two are the same."""
    if len(models) < 2:
        raise CohortError("a comparison needs two models or more", remedy="umedfeat predict validates one")
    short = [path.resolve().parent.name if path.stem == "model" else path.stem for path in models]
    names = short if len(set(short)) == len(short) else [path.as_posix() for path in models]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise CohortError(f"{twice[0]}: the same model is given twice", remedy="give each model once")
    return names


def _baseline(paths: Mapping[str, Path], asked: str) -> str:
    if not asked:
        return list(paths)[-1]
    for name, path in paths.items():
        if asked in (name, str(path), path.name, path.stem):
            return name
    raise CohortError(f"--baseline {asked}: none of the models", remedy=f"choose one of {', '.join(paths)}")


def _refuse_different(probes: Mapping[str, SavedProbe]) -> None:
    (first, reference), *others = probes.items()
    for name, probe in others:
        if (probe.task, probe.classes) != (reference.task, reference.classes):
            shown = [f"{n} {p.task} ({', '.join(p.classes)})" for n, p in ((first, reference), (name, probe))]
            raise CohortError(f"the models do not predict the same: {shown[0]}, {shown[1]}")
        if "patient" in (probe.unit, reference.unit) and probe.unit != reference.unit:
            raise CohortError(
                f"{first} predicts {reference.unit}s and {name} {probe.unit}s", remedy="compare models of one --unit"
            )


def _fitting(name: str, probe: SavedProbe, features: Sequence[Path]) -> Path:
    """The feature file with the model's fingerprint; with a single file the difference is told by ``apply_probe``."""
    if len(features) == 1:
        return features[0]
    for path in features:
        with FeatureFile(path) as file:
            if file.fingerprint == probe.header.fingerprint:
                return path
    files = ", ".join(path.name for path in features)
    encoder = probe.header.encoder.get("name", "")
    raise SetupError(
        f"{name}: none of {files} was made with its encoder ({encoder}) and settings", remedy="add that feature file"
    )


def _shared(validations: Mapping[str, Validation], cohort: Cohort) -> dict[str, Predictions]:
    """What each model says of the items that all may be tested on, as items of one cohort."""
    found = [set(each.cohort.ids.tolist()) for each in validations.values()]
    there = np.asarray([all(name in ids for ids in found) for name in cohort.ids.tolist()], dtype=bool)
    items = np.flatnonzero(there)
    if not len(items):
        raise CohortError(
            "the models have no labelled items in common", remedy="extract all files from the same images"
        )
    parts = {}
    for model, each in validations.items():
        place = {name: number for number, name in enumerate(each.cohort.ids.tolist())}
        rows = np.asarray([place[name] for name in cohort.ids[items].tolist()], dtype=np.intp)
        if not np.array_equal(each.cohort.truth[rows], cohort.truth[items]):
            raise CohortError(f"{model}: its items carry other labels", remedy="give one table with --labels")
        parts[model] = replace(each.part, classifier="model", items=items, values=each.part.values[:, rows])
    return parts
