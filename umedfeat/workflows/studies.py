"""A feature file, or several, become a study with its tables, its page and its saved probe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from umedfeat.fewshot.cohort.sources import Labelling
from umedfeat.fewshot.compare import MARGIN
from umedfeat.fewshot.files import compare_files, read_subject
from umedfeat.fewshot.result import Comparison, ProbeResult
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.fewshot.study import Study
from umedfeat.naming import Pseudonyms
from umedfeat.prediction.comparing import ModelComparison, compare_models
from umedfeat.prediction.external import Known
from umedfeat.prediction.fit import Saving, study_and_fit
from umedfeat.prediction.saved import SavedProbe
from umedfeat.report.comparison_page import write_comparison_report
from umedfeat.report.files import folder_name, write_comparison, write_study
from umedfeat.report.models_page import write_models
from umedfeat.report.study_page import write_report
from umedfeat.terminal.bar import Bar

__all__ = [
    "ComparisonReport",
    "ModelsReport",
    "StudyReport",
    "compare_and_report",
    "compare_models_and_report",
    "plan_probe",
    "probe_and_report",
]


class StudyReport(NamedTuple):
    """A study, the classifier that outlives it (None where none was kept), its folder, and the page in it."""

    result: ProbeResult
    probe: SavedProbe | None
    folder: Path
    page: Path


class ComparisonReport(NamedTuple):
    """A comparison of encoders, its folder, and the page in it."""

    comparison: Comparison
    folder: Path
    page: Path


class ModelsReport(NamedTuple):
    """A comparison of saved probes, its folder, and the page in it."""

    comparison: ModelComparison
    folder: Path
    page: Path


def plan_probe(
    features: Path | str = "feats.h5",
    *,
    labelling: Labelling | None = None,
    settings: ProbeSettings | None = None,
    pseudonyms: Pseudonyms | None = None,
) -> Study:
    """Who would be tested and labelled in a study (``probe --dry-run``); nothing is fitted or written.

    Arguments and errors are those of ``probe_and_report``.
    """
    chosen = settings or ProbeSettings()
    return Study.plan(read_subject(Path(features), chosen, labelling or Labelling(), pseudonyms).cohort, chosen)


def probe_and_report(
    features: Path | str = "feats.h5",
    out: Path | str | None = None,
    *,
    labelling: Labelling | None = None,
    settings: ProbeSettings | None = None,
    saving: Saving | None = Saving(),  # noqa: B008 - frozen
    preview: Path | str | None = None,
    pseudonyms: Pseudonyms | None = None,
    jobs: int | None = None,
    progress: bool | None = None,
    command: str = "",
) -> StudyReport:
    """Study a feature file and write what ``umedfeat probe`` writes: tables, page, checklists and the saved probe.

    Args:
        features: the feature file.
        out: folder; ``probe`` beside the features by default.
        labelling: where labels and patients come from; by default the file's own label column or class folders.
        settings: of the study.
        saving: the classifier that is kept as ``model.safetensors``; None: none.
        preview: folder of ``umedfeat preview`` for pictures; ``preview`` beside the features by default.
        pseudonyms: items get pseudonyms too, in every output, and no pictures.
        jobs: processes that fit; all usable cores by default.
        progress: None: a bar where somebody watches. command: as typed, for the report.

    Raises:
        CohortError: features and labels make no study, or the classifier cannot be kept.
        LeakageError: a patient or identical content would stand in training and in test.
        SetupError: not a feature file. OutputError: the folder cannot be written.

    Example:
        >>> study = umedfeat.probe_and_report("feats.h5", labelling=Labelling("diagnosis"))  # doctest: +SKIP
    """
    path = Path(features)
    subject = read_subject(path, settings or ProbeSettings(), labelling or Labelling(), pseudonyms, command)
    with Bar("fitting", unit="draw", shown=progress) as bar:
        result, probe = study_and_fit(subject, saving, bar.reach, jobs)
    folder = Path(out) if out is not None else path.parent / "probe"
    write_study(result, folder, probe)
    pictures = Path(preview) if preview is not None else path.parent / "preview"
    return StudyReport(result, probe, folder, write_report(result, folder, preview=pictures))


def compare_and_report(
    files: Sequence[Path | str],
    out: Path | str | None = None,
    *,
    labelling: Labelling | None = None,
    settings: ProbeSettings | None = None,
    baseline: str = "",
    margin: float = MARGIN,
    jobs: int | None = None,
    progress: bool | None = None,
    command: str = "",
) -> ComparisonReport:
    """Compare feature files of the same inputs and write what ``umedfeat compare`` writes, each study among it.

    Args:
        files: two or more; labels, patients and further columns are those of the first.
        out: folder; ``compare`` beside the first file by default.
        baseline: file or encoder that the others are compared with; the last by default.
        margin: how much worse than the baseline still counts as equal.

    The other arguments and the errors are those of ``probe_and_report``.
    """
    paths = [Path(file) for file in files]
    where = vars(labelling or Labelling())
    with Bar("fitting", unit="draw", shown=progress) as bar:
        comparison = compare_files(
            paths,
            baseline=baseline,
            **where,
            margin=margin,
            settings=settings,
            command=command,
            progress=bar.reach,
            jobs=jobs,
        )
    folder = _beside(paths, out)
    write_comparison(comparison, folder)
    for name, result in zip(comparison.names, comparison.results, strict=True):
        write_report(result, folder / folder_name(name), preview=paths[0].parent / "preview")
    links = {name: f"{folder_name(name)}/report.html" for name in comparison.names}
    return ComparisonReport(comparison, folder, write_comparison_report(comparison, folder, links))


def compare_models_and_report(
    files: Sequence[Path | str],
    models: Sequence[Path | str],
    out: Path | str | None = None,
    *,
    labelling: Labelling | None = None,
    settings: ProbeSettings | None = None,
    baseline: str = "",
    known: Known = "stop",
    threshold: float | None = None,
) -> ModelsReport:
    """Apply saved probes to the same labelled patients and write what ``umedfeat compare --model`` writes.

    Args:
        files: a feature file of each model's encoder. models: saved probes.
        baseline: model that the others are compared with; the last by default.
        known: "skip" leaves training patients and training images out, "stop" refuses them.
        threshold: of two classes; that of each model's own study by default.

    The other arguments and the errors are those of ``compare_and_report``.
    """
    paths = [Path(file) for file in files]
    found = compare_models(
        paths,
        [Path(model) for model in models],
        labelling,
        settings,
        baseline=baseline,
        known=known,
        threshold=threshold,
    )
    folder = _beside(paths, out)
    return ModelsReport(found, folder, write_models(found, folder))


def _beside(paths: Sequence[Path], out: Path | str | None) -> Path:
    if out is not None:
        return Path(out)
    return paths[0].parent / "compare" if paths else Path("compare")
