"""From a task as written to a task with examples: manifests and COCO files, through the product's own discovery."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from umedfeat.contract import Failure, Found, Source
from umedfeat.discovery import discover, discover_files
from umedfeat.discovery.walk import Walked
from umedfeat.errors import SetupError
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.pretraining.annotated import outlined, segmented
from umedfeat.pretraining.coco import read_coco
from umedfeat.pretraining.examples import Boxes, Example, Task
from umedfeat.pretraining.spec import TaskSpec

__all__ = ["load_task"]

#: Patients are compared and drawn in memory; no identifier is written anywhere, so none is replaced.
_IN_MEMORY = Pseudonyms(b"", keep=True)
#: Values beyond overflow in float32, in which networks compute.
_LARGEST = 1e30
_TRAIN = frozenset({"train", "training"})
_HELDOUT = frozenset({"heldout", "held-out", "test", "val", "valid", "validation"})


def load_task(spec: TaskSpec, policy: Policy, *, holdout: float | str, seed: int) -> Task:
    """Find the images of a task and read its labels.

    Args:
        holdout: "split", or the share of patients that is held out of the rows whose split is "train" (of all rows
            where there is no such column). The same patient stands on the same side in every task.

    Raises:
        SetupError: the file, the row and the remedy.
    """
    if spec.coco is not None:
        return _detection(spec, policy, holdout, seed)
    sources = [_declared(source, spec) for source in _found(spec, policy) if _kept(source.meta, spec)]
    _require_columns(spec, sources)
    sides = [(source, _is_heldout(source.meta, source.patient or source.id, spec, holdout, seed)) for source in sources]
    used = [(source, held) for source, held in sides if held is not None]
    if spec.type == "segmentation":
        return _split(spec, spec.classes, segmented(spec, used))
    if spec.type == "detection":
        return _split(spec, *outlined(spec, used))
    return _labelled(spec, used)


def _found(spec: TaskSpec, policy: Policy) -> tuple[Source, ...]:
    found = discover([spec.data], policy, _IN_MEMORY)
    _refuse_failures(spec, found.failures)
    return found.sources


def _refuse_failures(spec: TaskSpec, failures: Sequence[Failure]) -> None:
    if failures:
        more = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
        raise SetupError(f"task {spec.name}: {failures[0].message}{more}", remedy=failures[0].remedy)


def _declared(source: Source, spec: TaskSpec) -> Source:
    """A task's masks are what it learns, so nothing is cut out by them."""
    whole = replace(source, roi=None)
    return replace(whole, modality=spec.modality) if spec.modality else whole


def _kept(row: Mapping[str, str], spec: TaskSpec) -> bool:
    return all(row.get(column, "") in values for column, values in (spec.where or {}).items())


def _require_columns(spec: TaskSpec, sources: Sequence[Source]) -> None:
    if not sources:
        said = f" with {dict(spec.where)}" if spec.where else ""
        raise SetupError(
            f"task {spec.name}: {spec.data.name} lists no image{said}", remedy="check the file and `where`"
        )
    columns = sources[0].meta
    for column in _needed(spec):
        if column not in columns:
            raise SetupError(
                f"task {spec.name}: {spec.data.name} has no column {column!r}",
                remedy=f"it has {', '.join(columns) or 'only path'}; name another with `label:`",
            )


def _needed(spec: TaskSpec) -> list[str]:
    if spec.annotations:
        return []
    return ["mask"] if spec.type == "segmentation" else [part.strip() for part in spec.label.split(",")]


def _is_heldout(row: Mapping[str, str], patient: str, spec: TaskSpec, holdout: float | str, seed: int) -> bool | None:
    """On which side a row stands; None: on neither."""
    split = row.get("split", "").strip().lower()
    if isinstance(holdout, str):
        if split in _TRAIN:
            return False
        if split in _HELDOUT:
            return True
        remedy = "a column split of train and heldout, or --holdout 0.15"
        raise SetupError(f"task {spec.name}: {spec.data.name}: split {split!r} of {patient}", remedy=remedy)
    if "split" in row and split not in _TRAIN:
        return None
    digest = hashlib.sha256(f"{seed}/{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < holdout


def _labelled(spec: TaskSpec, used: Sequence[tuple[Source, bool]]) -> Task:
    columns = [part.strip() for part in spec.label.split(",")]
    used = [(source, held) for source, held in used if any(source.meta[column] for column in columns)]
    if not used:
        raise SetupError(f"task {spec.name}: no row has a label", remedy=f"fill in {spec.label} of {spec.data.name}")
    if spec.type == "classification":
        classes = spec.classes or tuple(sorted({source.meta[spec.label] for source, _ in used}))
        return _split(
            spec, classes, _grouped(spec, [_classified(source, held, spec, classes) for source, held in used])
        )
    examples = [_measured(source, held, spec, columns) for source, held in used]
    return _split(spec, tuple(columns), _grouped(spec, examples))


def _grouped(spec: TaskSpec, examples: Sequence[Example]) -> Sequence[Example]:
    """Examples with the case that they belong to, where the label is a case's."""
    if spec.group != "case":
        return examples
    firsts: dict[str, Example] = {}
    for example in examples:
        case = example.source.meta.get("case") or example.patient
        first = firsts.setdefault(case, replace(example, case=case))
        if first.patient != example.patient or str(first.label) != str(example.label):
            what = "patients" if first.patient != example.patient else "labels"
            message = (
                f"task {spec.name}: {first.source.name} and {example.source.name} of one case have different {what}"
            )
            raise SetupError(message, remedy="one label a case: correct the column case, or `group: image`")
    return [replace(example, case=example.source.meta.get("case") or example.patient) for example in examples]


def _classified(source: Source, held: bool, spec: TaskSpec, classes: Sequence[str]) -> Example:
    label = source.meta[spec.label]
    if label not in classes:
        raise SetupError(
            f"task {spec.name}: {source.name}: label {label!r} is none of {', '.join(classes)}",
            remedy="correct the row, or add it to `classes`",
        )
    place = np.asarray(classes.index(label), np.float32)
    return Example(source, source.patient or source.id, label, held, label=place)


def _measured(source: Source, held: bool, spec: TaskSpec, columns: Sequence[str]) -> Example:
    values = np.asarray([_number(source.meta[column], source, spec, column) for column in columns], np.float32)
    if spec.type == "multilabel":
        if not np.isin(values[np.isfinite(values)], (0, 1)).all():
            raise SetupError(f"task {spec.name}: {source.name}: labels are 0, 1 or empty", remedy="correct the row")
        present = [column for column, value in zip(columns, values, strict=True) if value == 1]
        stratum = present[0] if present else ""
        return Example(source, source.patient or source.id, stratum, held, label=values)
    return Example(source, source.patient or source.id, "", held, label=values[0])


def _number(text: str, source: Source, spec: TaskSpec, column: str) -> float:
    if not text and spec.type == "multilabel":
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST:  # NaN too
        raise SetupError(f"task {spec.name}: {source.name}: {column} {text!r} is no number", remedy="correct the row")
    return value


def _detection(spec: TaskSpec, policy: Policy, holdout: float | str, seed: int) -> Task:
    coco = read_coco(spec.data, spec.name, spec.classes)
    found = [Found(image.path, image.name, {}) for image in coco.images]
    discovery = discover_files(Walked(found, [], []), policy, _IN_MEMORY)
    _refuse_failures(spec, discovery.failures)
    by_path = {source.path: _declared(source, spec) for source in discovery.sources}
    examples = []
    for image in coco.images:
        if image.path not in by_path:
            raise SetupError(f"task {spec.name}: {image.name} is not an image that is read here", remedy="remove it")
        source = by_path[image.path]
        if not _kept(image.row, spec):
            continue
        patient = image.row.get("patient") or source.patient or source.id
        held = _is_heldout(image.row, patient, spec, holdout, seed)
        if held is not None:
            boxes = Boxes(image.corners, image.kinds, image.size)
            examples.append(Example(source, patient, "", held, boxes=boxes))
    return _split(spec, coco.classes, examples)


def _split(spec: TaskSpec, classes: tuple[str, ...], examples: Sequence[Example]) -> Task:
    ordered = sorted(examples, key=lambda example: example.source.id)
    train = tuple(example for example in ordered if not example.heldout)
    heldout = tuple(example for example in ordered if example.heldout)
    if not train and spec.role == "train":
        raise SetupError(f"task {spec.name}: no image to train on", remedy="check the column split, or --holdout")
    if spec.type == "classification" and len({e.stratum for e in (train or heldout)}) < 2:
        raise SetupError(f"task {spec.name}: one class only", remedy="a classification needs two classes or more")
    scale = (0.0, 1.0)
    if spec.type == "regression":
        values = np.asarray([example.label for example in train], np.float64)
        if values.std() == 0:
            raise SetupError(f"task {spec.name}: every value is {values[0]:g}", remedy="nothing can be learnt from it")
        scale = (float(values.mean()), float(values.std()))
    return Task(spec, classes, train, heldout, scale)
