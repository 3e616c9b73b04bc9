"""A feature file and its labels become a cohort: which column is the label, which rows belong to which items."""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from umedfeat.arrays import Bools, Ints, Texts
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.build import build_cohort
from umedfeat.fewshot.cohort.cohort import Bags, Cohort, FlowStep
from umedfeat.fewshot.cohort.hospital import LabelTable, is_identifying, joined, named_identifier
from umedfeat.fewshot.cohort.labels import MISSING
from umedfeat.fewshot.cohort.selection import select
from umedfeat.fewshot.cohort.table import FeatureTable
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.naming import Pseudonyms, plain_cell, stem_of

log = logging.getLogger("umedfeat")

__all__ = [
    "LABEL_COLUMNS",
    "Labelled",
    "Labelling",
    "aligned",
    "cohort_of",
    "flow_of",
    "kept_of",
    "label_items",
    "selected",
]


#: Columns taken for the label when none is named; exactly one of them may be there.
LABEL_COLUMNS = ("label", "labels", "class", "target", "diagnosis", "grade", "category")
PATIENT_COLUMNS = ("patient", "patient_id", "patientid", "pid", "subject", "subject_id", "case", "case_id")
_KEY_COLUMNS = ("id", "item", "path", "file", "filename", "image", "slide", "source", "name")
_SPLIT_NAMES = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev"})
_MOST_CLASSES = 20
#: How .xlsx and .ods (zip), and .xls files begin.
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


@dataclass(frozen=True)
class Labelling:
    """Where labels and patients of a feature file's items come from: the arguments of ``label_items``."""

    label: str = ""
    labels: Path | LabelTable | None = None
    patient: str = ""
    unmatched: str = "stop"
    event: str = ""

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


@dataclass(frozen=True)
class Labelled:
    """Labels for items of a feature table.

    Attributes:
        name: of the label column, "class folders", or "file.csv: column".
        items: (J,) items that have a label. labels: (J,) text. patients: (J,) or None for "nobody knows".
        meta: further columns, each (J,).
        left_out: what was skipped, for the cohort flow.
    """

    name: str
    items: Ints
    labels: Texts
    patients: Texts | None
    meta: Mapping[str, Texts]
    left_out: str = ""


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
        found = _from_csv(table, given, label, unmatched)
    elif label.startswith("folder") or (not label and not _candidates(table.meta, LABEL_COLUMNS)):
        found = _from_folders(table, label)
    else:
        column = _only(table.meta, label, LABEL_COLUMNS, f"{table.path.name}", "--label")
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
    column = _only(found.meta, event, (), found.name, "--event")
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
            f"{other.path.name}: {len(missing)} of {len(names)} labelled items are not in it: {_some(missing)}",
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


def kept_of(found: Labelled, keep: Bools, note: str) -> Labelled:
    """Some of the items; ``note`` says why the others are left out."""
    return Labelled(
        found.name,
        found.items[keep],
        found.labels[keep],
        None if found.patients is None else found.patients[keep],
        {name: values[keep] for name, values in found.meta.items()},
        ", ".join(filter(None, [found.left_out, note])),
    )


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


def _candidates(columns: Mapping[str, object], names: Sequence[str]) -> list[str]:
    return [column for column in columns if column.lower() in names]


def _only(columns: Mapping[str, object], asked: str, names: Sequence[str], place: str, flag: str) -> str:
    """The asked column, or the only one of the usual names."""
    if asked:
        if asked not in columns:
            there = ", ".join(columns) or "none"
            raise CohortError(f"{place}: no column {asked!r}", remedy=f"columns that are there: {there}")
        return asked
    found = _candidates(columns, names)
    if len(found) == 1:
        return found[0]
    if found:
        raise CohortError(f"{place}: several columns could be meant: {', '.join(found)}", remedy=f"choose with {flag}")
    there = ", ".join(columns) or "none"
    raise CohortError(
        f"{place}: no label column; its columns are {there}", remedy=f"choose with {flag}, or give --labels"
    )


def _from_folders(table: FeatureTable, label: str) -> Labelled:
    parts = [tuple(source.split("/")[:-1]) for source in table.sources]
    levels = _folder_levels(parts)
    _, colon, number = label.partition(":")
    if colon:
        try:
            names = [folders[int(number) - (int(number) > 0)] for folders in parts]
        except (ValueError, IndexError):
            raise CohortError(
                f"--label {label}: not every item lies that deep", remedy="use folder:1 or folder:-1"
            ) from None
    elif len(levels) == 1:
        names = next(iter(levels.values()))
    elif levels:
        shown = "; ".join(f"{name}: {', '.join(sorted(set(v))[:4])}" for name, v in levels.items())
        raise CohortError(
            f"{table.path.name}: several levels of class folders: {shown}",
            remedy=f"choose one: --label {next(iter(levels))}",
        )
    else:
        there = ", ".join(table.meta) or "none"
        raise CohortError(
            f"{table.path.name}: no label column (columns: {there}) and no class folders",
            remedy="choose a column with --label, or give a table with --labels labels.csv",
        )
    return Labelled("class folders", np.arange(len(table.ids)), np.asarray(names, dtype=np.str_), None, table.meta)


def _folder_levels(parts: Sequence[tuple[str, ...]]) -> dict[str, list[str]]:
    """Levels that look like classes: 2 to 20 names with two items or more each, and not train/test/valid."""
    depth = min(map(len, parts))
    found: dict[str, list[str]] = {}
    numbers = list(range(1, depth + 1)) or []
    if max(map(len, parts)) > depth and depth:
        numbers.append(-1)
    for number in numbers:
        names = [folders[number - (number > 0)] for folders in parts]
        counts = Counter(names)
        classlike = 2 <= len(counts) <= _MOST_CLASSES and min(counts.values()) >= 2
        if classlike and not {name.lower() for name in counts} <= _SPLIT_NAMES and names not in found.values():
            found[f"folder:{number}"] = names
    return found


def _from_csv(table: FeatureTable, given: LabelTable, label: str, unmatched: str) -> Labelled:
    path, rows = given.path, _read_csv(given.path)
    columns = list(rows[0])
    usual = next((found[0] for name in _KEY_COLUMNS if (found := _candidates(dict.fromkeys(columns), (name,)))), "")
    identifier = named_identifier(columns, given.by, path.name) if given.by or not usual else None
    if not usual and identifier is None:
        raise CohortError(
            f"{path.name}: no column names the items; its columns are {', '.join(columns)}",
            remedy="call it 'id' or 'path', or PatientID, AccessionNumber, StudyInstanceUID or SeriesInstanceUID",
        )
    key = usual if identifier is None else identifier[0]
    rest = {name: None for name in columns if name != key and (identifier is None or not is_identifying(name))}
    if not label and not _candidates(rest, LABEL_COLUMNS) and len(rest) == 1:
        label = next(iter(rest))
    label = _only(rest, label, LABEL_COLUMNS, path.name, "--label")
    values = [row[key] for row in rows]
    if identifier is None:
        items, matched = _match(table, values, path.name, unmatched)
    else:
        items, matched = joined(table, values, identifier[1], given, unmatched)
    kept = [rows[k] for k in matched]
    meta = {name: values[items] for name, values in table.meta.items() if name != label}
    meta |= {name: np.asarray([row[name] for row in kept], dtype=np.str_) for name in rest if name != label}
    texts = np.asarray([row[label] for row in kept], dtype=np.str_)
    left_out = []
    if lost := len(rows) - len(set(matched)):
        left_out.append(f"{lost} label rows without item")
    if len(table.ids) > len(items):
        left_out.append(f"{len(table.ids) - len(items)} items without label row")
    return Labelled(f"{path.name}: {label}", items, texts, None, meta, ", ".join(left_out))


def _read_csv(path: Path) -> list[dict[str, str]]:
    text = _text_of(path)
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    names = [(name or "").strip() for name in reader.fieldnames or ()]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise CohortError(
            f"{path.name}: several columns are called {twice[0]!r}", remedy="give each column its own name"
        )
    rows = [
        {(k or "").strip(): plain_cell((v or "").strip()) for k, v in row.items() if isinstance(v, str | None)}
        for row in reader
    ]
    if not rows:
        raise CohortError(f"{path.name}: no rows", remedy="give a CSV file with a header and one row per item")
    return rows


def _text_of(path: Path) -> str:
    if not path.is_file():
        raise CohortError(
            f"{path}: no such label file", remedy="give a CSV file with a column for the item and one for the label"
        )
    content = path.read_bytes()
    if content.startswith(_SPREADSHEETS):
        raise CohortError(f"{path.name}: a spreadsheet, not a CSV file", remedy="save the sheet as 'CSV UTF-8'")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise CohortError(
            f"{path.name}: line {line} is not UTF-8 text", remedy="save the table as 'CSV UTF-8' (in Excel: Save As)"
        ) from error


def _match(table: FeatureTable, keys: Sequence[str], name: str, unmatched: str) -> tuple[Ints, list[int]]:
    """Items and the rows that describe them, both ways complete unless skipping is allowed."""
    index: dict[str, set[int]] = {}
    for item, (identity, source) in enumerate(zip(table.ids, table.sources, strict=True)):
        for form in {*_forms(str(identity)), *_forms(str(source))}:
            index.setdefault(form, set()).add(item)
    pairs: dict[int, int] = {}
    lost = []
    for row, key in enumerate(keys):
        candidates: set[int] = next((index[form] for form in _forms(key) if form in index), set())
        if len(candidates) > 1:
            raise CohortError(
                f"{name}: {key!r} fits {len(candidates)} items", remedy="name items by id or relative path"
            )
        if not candidates:
            lost.append(key)
            continue
        item = next(iter(candidates))
        if item in pairs:
            raise CohortError(f"{name}: two rows describe {str(table.ids[item])!r}", remedy="keep one row per item")
        pairs[item] = row
    bare = [str(table.ids[item]) for item in range(len(table.ids)) if item not in pairs]
    if unmatched == "stop" or not pairs:
        _refuse_unmatched(name, lost, bare, len(keys), len(table.ids))
    items = sorted(pairs)
    return np.asarray(items, dtype=np.intp), [pairs[item] for item in items]


def _forms(key: str) -> list[str]:
    """Ways to write an item, the most specific first: path, stem, then shorter and shorter ends of both."""
    path = key.strip().replace("\\", "/").removeprefix("./")
    pieces = path.split("/")
    forms = []
    for start in range(len(pieces)):
        end = "/".join(pieces[start:])
        forms += [end, stem_of(end)]
    return list(dict.fromkeys(form for form in forms if form))


def _refuse_unmatched(name: str, lost: Sequence[str], bare: Sequence[str], n_rows: int, n_items: int) -> None:
    if lost:
        raise CohortError(
            f"{name}: {len(lost)} of {n_rows} rows name no item of the features: {_some(lost)}",
            remedy="correct the names, or leave such rows out with --unmatched skip",
        )
    if bare:
        raise CohortError(
            f"{name}: {len(bare)} of {n_items} items have no label row: {_some(bare)}",
            remedy="add their labels, or leave such items out with --unmatched skip",
        )


def _some(names: Sequence[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (" …" if len(names) > limit else "")


def _with_patients(table: FeatureTable, found: Labelled, patient: str) -> Labelled:
    stored = table.patients[found.items]
    if patient.lower() == "none":
        return replace(found, patients=None)
    if patient and patient != "patient":
        column = _only(found.meta, patient, (), "patients", "--patient")
        return replace(found, patients=_numbered(found.meta[column]))
    if (stored != "").any():
        return replace(found, patients=stored)
    usual = _candidates(found.meta, PATIENT_COLUMNS)
    if len(usual) > 1:
        raise CohortError(f"several columns could name the patient: {', '.join(usual)}", remedy="choose with --patient")
    return replace(found, patients=_numbered(found.meta[usual[0]])) if usual else found


def _numbered(names: Texts) -> Texts:
    """Pseudonyms P0001 … by sorted name, so that no identifier of a table reaches an output."""
    known = sorted({name for name in names.tolist() if name.lower() not in MISSING})
    pseudonym = {name: f"P{number + 1:04d}" for number, name in enumerate(known)}
    return np.asarray([pseudonym.get(name, "") for name in names.tolist()], dtype=np.str_)


def _without_gaps(table: FeatureTable, found: Labelled, unmatched: str) -> Labelled:
    """Leave items with an empty label cell out, if that is allowed."""
    gaps = np.asarray([text.lower() in MISSING for text in found.labels.tolist()], dtype=bool)
    if not gaps.any():
        return found
    if unmatched == "stop":
        names = table.ids[found.items[gaps]].tolist()
        raise CohortError(
            f"{len(names)} of {len(gaps)} items have no label: {_some(names)}",
            remedy="fill the label column, or leave these items out with --unmatched skip",
        )
    return kept_of(found, ~gaps, f"{int(gaps.sum())} items with an empty label")
