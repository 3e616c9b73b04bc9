"""A feature file and its labels become a cohort: which column is the label, which rows belong to which items."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from umedfeat.arrays import Texts
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.build import build_cohort
from umedfeat.fewshot.cohort.cohort import Bags, Cohort, FlowStep
from umedfeat.fewshot.cohort.hospital import LabelTable
from umedfeat.fewshot.cohort.label_csv import from_csv
from umedfeat.fewshot.cohort.label_folders import from_folders
from umedfeat.fewshot.cohort.labelled import LABEL_COLUMNS, Labelled, candidates, kept_of, only_column, some
from umedfeat.fewshot.cohort.labels import MISSING
from umedfeat.fewshot.cohort.selection import select
from umedfeat.fewshot.cohort.table import FeatureTable
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.naming import Pseudonyms, normalised

log = logging.getLogger("umedfeat")

__all__ = [
    "Labelling",
    "aligned",
    "cohort_of",
    "flow_of",
    "label_items",
    "selected",
]


PATIENT_COLUMNS = ("patient", "patient_id", "patientid", "pid", "subject", "subject_id", "case", "case_id")


@dataclass(frozen=True)
class Labelling:
    """Where labels and patients of a feature file's items come from: the arguments of ``label_items``."""

    label: str = ""
    labels: Path | LabelTable | None = None
    patient: str = ""
    unmatched: str = "stop"
    event: str = ""

    @property
    def path(self) -> Path | None:
        """The file that is read, if any."""
        return self.labels.path if isinstance(self.labels, LabelTable) else self.labels

    def of(self, table: FeatureTable) -> Labelled:
        """Find them; errors as of ``label_items``."""
        return label_items(
            table,
            label=self.label,
            labels=self.labels,
            patient=self.patient,
            unmatched=self.unmatched,
            event=self.event,
        )


def label_items(
    table: FeatureTable,
    *,
    label: str = "",
    labels: Path | LabelTable | None = None,
    patient: str = "",
    unmatched: str = "stop",
    event: str = "",
) -> Labelled:
    """Find labels and patients.

    Args:
        table: of the feature file.
        label: column; "folder" or "folder:N" for class folders (N counts from the top, -1 is the innermost);
            "" applies the rule: the one column of LABEL_COLUMNS that is there, else the one level of class folders.
        labels: CSV file with the labels, matched by id, relative path or stem, else by an identifier of DICOM
            (``LabelTable`` says which, and under which key).
        patient: column with the patient; "none" takes every item as its own patient; "" takes the file's pseudonyms,
            else the one column of PATIENT_COLUMNS that is there.
        event: for survival the column of the events (1 seen, 0 censored); the label is then the time.
        unmatched: "stop" or "skip" label rows without item and items without label.

    Raises:
        CohortError: nothing, or several things, could be meant; rows do not match.
    """
    if labels is not None:
        given = labels if isinstance(labels, LabelTable) else LabelTable(labels)
        found = from_csv(table, given, label, unmatched)
    elif label.startswith("folder") or (not label and not candidates(table.meta, LABEL_COLUMNS)):
        found = from_folders(table, label)
    else:
        column = only_column(table.meta, label, LABEL_COLUMNS, f"{table.path.name}", "--label")
        rest = {name: values for name, values in table.meta.items() if name != column}
        found = Labelled(column, np.arange(len(table.ids)), table.meta[column], None, rest)
    if event:
        found = _with_event(found, event)
    return _without_gaps(table, _with_patients(table, found, patient), unmatched)


def _mixed_modalities(labelled: Labelled) -> str:
    """A line where patients have items of several modalities: one classifier would see all of them alike."""
    modality = labelled.meta.get("modality")
    if labelled.patients is None or modality is None or len(set(modality.tolist())) < 2:
        return ""
    pairs = {(p, m) for p, m in zip(labelled.patients.tolist(), modality.tolist(), strict=True) if p}
    several = [patient for patient, count in Counter(patient for patient, _ in pairs).items() if count > 1]
    names = ", ".join(sorted(set(modality.tolist())))
    return f"{len(several)} patients have items of several modalities ({names}): --where modality=… selects" * bool(
        several
    )


def _with_event(found: Labelled, event: str) -> Labelled:
    """Times with their events, "12.5;1"; "" where one of them is missing."""
    column = only_column(found.meta, event, (), found.name, "--event")
    pairs = zip(found.labels.tolist(), found.meta[column].tolist(), strict=True)
    both = ["" if {time.lower(), seen.lower()} & MISSING else f"{time};{seen}" for time, seen in pairs]
    rest = {name: values for name, values in found.meta.items() if name != column}
    return replace(found, labels=np.asarray(both, dtype=np.str_), meta=rest, name=f"{found.name}, {column}")


def cohort_of(
    table: FeatureTable, labelled: Labelled, settings: ProbeSettings, pseudonyms: Pseudonyms | None = None
) -> Cohort:
    """Load the features of the labelled items that take part (``select``) and build the cohort.

    Args:
        pseudonyms: what items are called in everything that follows, instead of by their file names.
    """
    labelled = selected(labelled, settings)
    if mixed := _mixed_modalities(labelled):
        log.warning("%s: %s", table.path.name, mixed)
    ids = table.ids[labelled.items]
    if pseudonyms is not None:
        ids = np.asarray([pseudonyms.of(name, kind="item") for name in ids.tolist()], dtype=np.str_)
    if settings.pool == "abmil" and settings.unit != "item":
        raise CohortError(
            f"--pool abmil pools tiles into items, and --unit is {settings.unit}", remedy="leave --unit out"
        )
    if settings.unit == "tile":
        rows, row_item = table.rows(labelled.items)
    else:
        how = "mean" if settings.pool == "abmil" else settings.pool
        rows, row_item = table.pooled(labelled.items, how), np.arange(len(ids))
    cohort = build_cohort(
        rows,
        row_item,
        labelled.labels,
        settings,
        ids=ids.tolist(),
        patients=None if labelled.patients is None else labelled.patients.tolist(),
        meta={name: values.tolist() for name, values in labelled.meta.items()},
        content=table.content[labelled.items].tolist(),
        flow=flow_of(table, labelled),
        facts={name: values[labelled.items] for name, values in table.facts.items()},
    )
    cohort = replace(cohort, warnings=(*labelled.notes, *cohort.warnings))
    if settings.pool != "abmil":
        return cohort
    tiles, _ = table.rows(labelled.items)
    starts = np.concatenate([[0], np.cumsum(table.count[labelled.items])]).astype(np.intp)
    return replace(cohort, bags=Bags(tiles, starts))


def selected(labelled: Labelled, settings: ProbeSettings) -> Labelled:
    """The items and classes that the settings leave in, classes merged as they say (``select``)."""
    found = select(labelled.labels.tolist(), labelled.meta, settings)
    kept = kept_of(labelled, found.keep, found.note)
    return replace(kept, labels=np.asarray(found.labels, dtype=np.str_))


def aligned(table: FeatureTable, other: FeatureTable, labelled: Labelled, unmatched: str) -> tuple[Labelled, Labelled]:
    """The same labelled items in two feature files.

    Returns:
        ``labelled`` for the first table and for the other, items in the same order.

    Raises:
        CohortError: an item is missing in the other file, or stands for another image there.
    """
    place = {name: number for number, name in enumerate(other.ids.tolist())}
    names = table.ids[labelled.items].tolist()
    there = np.asarray([name in place for name in names], dtype=bool)
    if not there.any() or (unmatched == "stop" and not there.all()):
        missing = [name for name, found in zip(names, there, strict=True) if not found]
        raise CohortError(
            f"{other.path.name}: {len(missing)} of {len(names)} labelled items are not in it: {some(missing)}",
            remedy="extract both files from the same inputs, or compare what they share with --unmatched skip",
        )
    note = f"{int((~there).sum())} items not in {other.path.name}" if not there.all() else ""
    ours = kept_of(labelled, there, note)
    items = np.asarray([place[name] for name in table.ids[ours.items].tolist()], dtype=np.intp)
    a, b = table.content[ours.items], other.content[items]
    torn = (a != b) & (a != "") & (b != "")
    if torn.any():
        name = str(table.ids[ours.items[torn]][0])
        raise CohortError(
            f"{other.path.name}: {int(torn.sum())} items have the same id but other content, {name!r} among them",
            remedy="extract both files from the same images",
        )
    return ours, replace(ours, items=items)


def flow_of(table: FeatureTable, labelled: Labelled) -> tuple[FlowStep, ...]:
    """From the inputs to the labelled items."""
    known = np.unique(table.patients)
    lost = [f"{table.failed} could not be embedded"] * bool(table.failed)
    lost += [f"{table.empty} without rows"] * bool(table.empty)
    count = len(np.unique(labelled.patients)) if labelled.patients is not None else 0
    return (
        FlowStep("inputs", len(table.ids) + table.empty + table.failed, 0),
        FlowStep("embedded", len(table.ids), 0 if "" in known else len(known), ", ".join(lost)),
        FlowStep("with a label", len(labelled.items), count, labelled.left_out),
    )


def _with_patients(table: FeatureTable, found: Labelled, patient: str) -> Labelled:
    stored = table.patients[found.items]
    if patient.lower() == "none":
        return replace(found, patients=None)
    if patient and (patient in found.meta or patient != "patient"):
        column = only_column(found.meta, patient, (), "patients", "--patient")
        return replace(found, patients=_numbered(found.meta[column]))
    usual = candidates(found.meta, PATIENT_COLUMNS)
    if (stored != "").any():
        return replace(found, patients=stored, notes=(*found.notes, *_torn_by(found.meta, usual, stored)))
    if len(usual) > 1:
        raise CohortError(f"several columns could name the patient: {', '.join(usual)}", remedy="choose with --patient")
    return replace(found, patients=_numbered(found.meta[usual[0]])) if usual else found


def _torn_by(meta: Mapping[str, Texts], usual: Sequence[str], stored: Texts) -> list[str]:
    """A sentence for each column that looks like the patient and joins items of which the features have several."""
    found = []
    for name in usual:
        pairs = {(own, kept) for own, kept in zip(_numbered(meta[name]).tolist(), stored.tolist(), strict=True) if own}
        several = sum(count > 1 for count in Counter(own for own, _ in pairs).values())
        if several:
            found.append(
                f"Column {name!r} holds {several} patients whom the features keep as several: where they are one "
                f"person, training and test may share it. --patient {name} takes the column."
            )
    return found


def _numbered(names: Texts) -> Texts:
    """Pseudonyms P0001 … by sorted name, so that no identifier of a table reaches an output; "007" is "7"."""
    written = [normalised(name) if name.lower() not in MISSING else "" for name in names.tolist()]
    pseudonym = {name: f"P{number + 1:04d}" for number, name in enumerate(sorted({*written} - {""}))}
    return np.asarray([pseudonym.get(name, "") for name in written], dtype=np.str_)


def _without_gaps(table: FeatureTable, found: Labelled, unmatched: str) -> Labelled:
    """Leave items with an empty label cell out, if that is allowed."""
    gaps = np.asarray([text.lower() in MISSING for text in found.labels.tolist()], dtype=bool)
    if not gaps.any():
        return found
    if unmatched == "stop":
        names = table.ids[found.items[gaps]].tolist()
        raise CohortError(
            f"{len(names)} of {len(gaps)} items have no label: {some(names)}",
            remedy="fill the label column, or leave these items out with --unmatched skip",
        )
    return kept_of(found, ~gaps, f"{int(gaps.sum())} items with an empty label")
