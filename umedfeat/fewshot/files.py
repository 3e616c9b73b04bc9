"""Whole studies straight from feature files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.cohort.confounding import trivial_cohort
from umedfeat.fewshot.cohort.hospital import LabelTable
from umedfeat.fewshot.cohort.labelled import Labelled
from umedfeat.fewshot.cohort.sources import Labelling, aligned, cohort_of
from umedfeat.fewshot.cohort.table import FeatureTable, read_table
from umedfeat.fewshot.compare import MARGIN, compare_cohorts
from umedfeat.fewshot.refitting import refitted_significance
from umedfeat.fewshot.result import Comparison, ProbeResult
from umedfeat.fewshot.sanity import check_sanity
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.fewshot.study import Origin, Progress, run_study
from umedfeat.machine import usable_cores
from umedfeat.naming import Pseudonyms
from umedfeat.store import Header
from umedfeat.store.one_key import one_key

__all__ = ["Subject", "compare_files", "origin_of", "probe_cohort", "probe_file", "read_subject"]

#: Name of the classifier that sees size, kind and brightness of the files alone.
TRIVIAL = "trivial"
#: Labels of the file's own columns or folders.
_FOUND_THERE = Labelling()


def probe_file(
    path: Path,
    *,
    label: str = "",
    labels: Path | LabelTable | None = None,
    patient: str = "",
    unmatched: str = "stop",
    event: str = "",
    pseudonyms: Pseudonyms | None = None,
    settings: ProbeSettings | None = None,
    command: str = "",
    progress: Progress | None = None,
    jobs: int | None = None,
) -> ProbeResult:
    """Evaluate a feature file; see ``label_items`` for labels and patients, ``cohort_of`` for pseudonyms of items.

    Raises:
        CohortError: features and labels make no study.
        LeakageError: a patient or identical content would stand in training and in test.
        SetupError: not a feature file.
    """
    labelling = Labelling(label, labels, patient, unmatched, event)
    found = read_subject(path, settings or ProbeSettings(), labelling, pseudonyms, command)
    return probe_cohort(found.cohort, found.settings, found.origin, progress, jobs)


class Subject(NamedTuple):
    """What a study of a feature file is about: its labelled items, where they come from, and what is asked.

    ``header``: encoder and policy of the features.
    """

    cohort: Cohort
    settings: ProbeSettings
    origin: Origin
    header: Header


def read_subject(
    path: Path,
    settings: ProbeSettings,
    labelling: Labelling = _FOUND_THERE,
    pseudonyms: Pseudonyms | None = None,
    command: str = "",
) -> Subject:
    """Read a feature file and label its items; arguments and errors as of ``probe_file``."""
    table = read_table(path)
    labelled = labelling.of(table)
    origin = origin_of(table, table.encoder, labelled.name, command)
    return Subject(cohort_of(table, labelled, settings, pseudonyms), settings, origin, table.header)


def origin_of(table: FeatureTable, encoder: str, label: str, command: str) -> Origin:
    """Where a study of a feature file comes from."""
    return Origin(encoder, table.path.name, table.fingerprint, label, command, table.weights, table.policy)


def probe_cohort(
    cohort: Cohort, settings: ProbeSettings, origin: Origin, progress: Progress | None = None, jobs: int | None = None
) -> ProbeResult:
    """Run a study and what is asked for beside it: p-values of cross-validation, trivial baseline, sanity check."""
    result = run_study(cohort, settings, origin, progress, jobs)
    if settings.permutations and settings.cv:
        result = replace(result, significance=refitted_significance(cohort, result.settings, jobs or usable_cores()))
    if settings.baseline:
        result = _beside_trivial(result, cohort, settings, origin, jobs)
    if not settings.sanity:
        return result
    return replace(result, sanity=check_sanity(cohort, settings, jobs or usable_cores()))


def _beside_trivial(
    result: ProbeResult, cohort: Cohort, settings: ProbeSettings, origin: Origin, jobs: int | None
) -> ProbeResult:
    """The same draws and tests with size, kind and brightness of the files in place of the features."""
    alone = replace(settings, classifiers=("linear",), scale="standard", unit="item", pool="mean", baseline="")
    other = run_study(trivial_cohort(cohort), alone, origin, None, jobs)
    return replace(
        result,
        predictions=(*result.predictions, *(replace(each, classifier=TRIVIAL) for each in other.predictions)),
        scores=(*result.scores, *(replace(each, classifier=TRIVIAL) for each in other.scores)),
        estimates=(*result.estimates, *(replace(each, classifier=TRIVIAL) for each in other.estimates)),
        significance=(*result.significance, *(replace(each, classifier=TRIVIAL) for each in other.significance)),
        drops=(*result.drops, *(replace(each, classifier=TRIVIAL) for each in other.drops)),
    )


def compare_files(
    paths: Sequence[Path],
    *,
    baseline: str = "",
    label: str = "",
    labels: Path | LabelTable | None = None,
    patient: str = "",
    unmatched: str = "stop",
    event: str = "",
    margin: float = MARGIN,
    settings: ProbeSettings | None = None,
    command: str = "",
    progress: Progress | None = None,
    jobs: int | None = None,
) -> Comparison:
    """Compare feature files of the same inputs; labels, patients and further columns are those of the first.

    Args:
        baseline: name of an encoder or file; the last file by default.
        margin: how much worse than the baseline still counts as equal in "data needed".

    Raises:
        CohortError: the files do not hold the same labelled items, or make no study.
        LeakageError: a patient or identical content would stand in training and in test.
        SetupError: not a feature file, or patients under two keys.
    """
    chosen = settings or ProbeSettings()
    tables = [read_table(path) for path in paths]
    one_key((table.path.name, table.key_check) for table in tables)
    names = _names(tables)
    chosen_baseline = _baseline(names, tables, baseline)
    first = Labelling(label, labels, patient, unmatched, event).of(tables[0])
    cohorts: dict[str, Cohort] = {}
    for name, table, labelled in zip(names, tables, _shared(tables, first, unmatched), strict=True):
        cohorts[name] = cohort_of(table, labelled, chosen)
    origins = {name: origin_of(table, name, first.name, command) for name, table in zip(names, tables, strict=True)}
    return compare_cohorts(
        cohorts, chosen, baseline=chosen_baseline, origins=origins, margin=margin, progress=progress, jobs=jobs
    )


def _shared(tables: Sequence[FeatureTable], labelled: Labelled, unmatched: str) -> list[Labelled]:
    """The labelled items that every file holds, once per file."""
    for other in tables[1:]:
        labelled, _ = aligned(tables[0], other, labelled, unmatched)
    return [labelled, *(aligned(tables[0], other, labelled, unmatched)[1] for other in tables[1:])]


def _names(tables: Sequence[FeatureTable]) -> list[str]:
    """Encoder names; with the file's stem where two are the same."""
    if len(tables) < 2:
        raise CohortError("a comparison needs two feature files or more", remedy="umedfeat probe evaluates one")
    counts = Counter(table.encoder for table in tables)
    names = [table.encoder if table.encoder and counts[table.encoder] == 1 else table.path.stem for table in tables]
    if len(set(names)) < len(names):
        names = [table.path.as_posix() for table in tables]
    if len(set(names)) < len(names):
        raise CohortError(f"{names[0]}: the same file is given twice", remedy="give each file once")
    return names


def _baseline(names: Sequence[str], tables: Sequence[FeatureTable], asked: str) -> str:
    if not asked:
        return names[-1]
    for name, table in zip(names, tables, strict=True):
        if asked in (name, table.encoder, table.path.name, str(table.path), table.path.stem):
            return name
    raise CohortError(f"--baseline {asked}: none of the files", remedy=f"choose one of {', '.join(names)}")
