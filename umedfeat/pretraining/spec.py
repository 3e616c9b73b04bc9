"""The task file: what is written there, checked; nothing is read here but the YAML."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from umedfeat.errors import SetupError

__all__ = ["OF_CASES", "TYPES", "TaskSpec", "read_task_file"]

#: Type of a task → the keys one of which lists its images.
TYPES = {
    "classification": ("labels",),
    "multilabel": ("labels",),
    "regression": ("labels",),
    "segmentation": ("labels", "slides"),
    "detection": ("coco", "slides"),
}
#: Label types whose target belongs to a whole case.
OF_CASES = ("classification", "multilabel", "regression")
_GROUPS = ("image", "case")
_ROLES = ("train", "select")
_MAX_BYTES = 4 << 20


@dataclass(frozen=True)
class TaskSpec:
    """One task as its author wrote it; paths are absolute.

    Attributes:
        name: unique; letters, digits, "-" and "_".
        type: a key of TYPES.
        labels: CSV manifest as ``extract`` takes it (path, label, patient, split; mask for a segmentation).
        coco: COCO JSON of a detection; its images lie beside it.
        slides: folder of slides, instead of a list.
        annotations: pattern of the GeoJSON files that belong to the images by name, instead of the column mask.
        label: column of the label (several, comma-separated, for "multilabel").
        classes: order of the classes; () takes them from the data. A segmentation needs them: mask value 0, 1, 2 …
        where: column → values: only these rows.
        weight: of the task's loss in a round.
        batch: images in a round; None: the run's.
        flip: mirror images at random (False where left and right have a meaning).
        modality: declared for all images of the task ("CT" windows them); "" leaves it to the manifest and the files.
        mpp: slides: micrometres per pixel of the tiles; None: the policy's.
        group: "image", or "case": the label belongs to all images of a case (column case, else the patient), which
            are pooled by gated attention.
        bag: images of a case in a draw.
        role: "train", or "select": never trained on, decides how far the weights move (``alpha`` auto).
        licence, attribution: of the data; carried into the weights file.
    """

    name: str
    type: str
    labels: Path | None = None
    coco: Path | None = None
    slides: Path | None = None
    annotations: str = ""
    label: str = "label"
    classes: tuple[str, ...] = ()
    where: Mapping[str, tuple[str, ...]] | None = None
    weight: float = 1.0
    batch: int | None = None
    flip: bool = True
    modality: str = ""
    mpp: float | None = None
    group: str = "image"
    bag: int = 8
    role: str = "train"
    licence: str = ""
    attribution: str = ""

    @property
    def data(self) -> Path:
        """The file that lists the images, or the folder that holds them."""
        listed = [given for key in TYPES[self.type] if (given := getattr(self, key)) is not None]
        found: Path = listed[0]  # there is one: checked when the task was read
        return found


def read_task_file(path: Path) -> tuple[TaskSpec, ...]:
    """Read and check a task file.

    Raises:
        SetupError: what is wrong, in which task, and what is legal.
    """
    content = _loaded(path)
    if not isinstance(content, dict) or set(content) != {"tasks"} or not isinstance(content["tasks"], list):
        raise SetupError(
            f"{path.name}: one key `tasks` with a list below it is expected", remedy="see docs/pretraining.md"
        )
    if not content["tasks"]:
        raise SetupError(f"{path.name}: no task", remedy="add one below `tasks:`")
    specs = tuple(_task(entry, number, path) for number, entry in enumerate(content["tasks"], start=1))
    for spec in specs:
        if sum(other.name == spec.name for other in specs) > 1:
            raise SetupError(f"{path.name}: two tasks are called {spec.name!r}", remedy="rename one")
    if all(spec.role == "select" for spec in specs):
        raise SetupError(f"{path.name}: every task has `role: select`", remedy="at least one task must be trained")
    return specs


def _loaded(path: Path) -> Any:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SetupError(f"{path.name}: a task file of {path.stat().st_size} bytes", remedy="is it the right file?")
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        fault = _fault(error)
        raise SetupError(f"{path.name}: not YAML ({fault})", remedy="see docs/pretraining.md for an example") from error


def _fault(error: Exception) -> str:
    """What is wrong, and in which line, of what YAML's reader says over several lines."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _task(entry: Any, number: int, path: Path) -> TaskSpec:
    if not isinstance(entry, dict):
        raise SetupError(f"{path.name}, task {number}: {entry!r} is no task", remedy="keys such as name, type, labels")
    where = f"{path.name}, task {entry.get('name', number)!r}"
    known = [field.name for field in fields(TaskSpec)]
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise SetupError(f"{where}: unknown key {key!r}", remedy=hint)
    values = {key: _converted(key, value, where, path.parent) for key, value in entry.items()}
    if "type" not in values and "coco" in values:
        values["type"] = "detection"
    for key in ("name", "type"):
        if not values.get(key):
            raise SetupError(f"{where}: no {key}", remedy=f"add `{key}:`")
    spec = TaskSpec(**values)
    _check(spec, where)
    return spec


def _converted(key: str, value: Any, where: str, folder: Path) -> Any:
    wanted: dict[str, Any] = {
        "classes": list, "where": dict, "weight": (int, float), "mpp": (int, float), "batch": int, "bag": int,
        "flip": bool,
    }  # fmt: skip
    kind: Any = wanted.get(key, (str, int, float))
    if not isinstance(value, kind) or (isinstance(value, bool) and key != "flip"):
        raise SetupError(f"{where}: {key}: {value!r} is not {_said(kind)}", remedy="see docs/pretraining.md")
    if key in {"labels", "coco", "slides"}:
        return _existing(folder / str(value), key, where)
    if key == "annotations":
        return os.path.abspath(folder / str(value))  # noqa: PTH100 - a pattern, not a path
    if key == "classes":
        return tuple(str(name) for name in value)
    if key == "where":
        return {str(k): tuple(map(str, v if isinstance(v, list) else [v])) for k, v in value.items()}
    return value if key in wanted else str(value)


def _said(kind: type | tuple[type, ...]) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    names = {list: "a list", dict: "a mapping", int: "a number", float: "a number", bool: "true or false", str: "text"}
    return " or ".join(dict.fromkeys(names[each] for each in kinds))


def _existing(path: Path, key: str, where: str) -> Path:
    if not (path.is_dir() if key == "slides" else path.is_file()):
        what = "folder" if key == "slides" else "file"
        raise SetupError(f"{where}: {key}: {path}: no such {what}", remedy="paths are relative to the task file")
    return path.absolute()


def _check(spec: TaskSpec, where: str) -> None:
    if not all(letter.isalnum() or letter in "-_" for letter in spec.name):
        raise SetupError(f"{where}: a name has letters, digits, - and _ only", remedy=f"rename {spec.name!r}")
    if spec.type not in TYPES:
        near = difflib.get_close_matches(spec.type, TYPES, n=1)
        raise SetupError(
            f"{where}: unknown type {spec.type!r}",
            remedy=f"did you mean {near[0]}?" if near else f"one of {', '.join(TYPES)}",
        )
    _check_images(spec, where)
    if spec.type == "segmentation" and len(spec.classes) < 2:
        raise SetupError(f"{where}: a segmentation needs its classes", remedy="classes: [background, …] in mask order")
    if len(set(spec.classes)) < len(spec.classes):
        raise SetupError(f"{where}: a class is named twice", remedy="name every class once")
    if not 0 < spec.weight < float("inf"):
        raise SetupError(f"{where}: weight {spec.weight}", remedy="more than 0")
    for key, number in (("batch", spec.batch), ("bag", spec.bag)):
        if number is not None and not 1 <= number <= 1024:
            raise SetupError(f"{where}: {key} {number}", remedy="1 to 1024")
    if spec.group not in _GROUPS or (spec.group == "case" and spec.type not in OF_CASES):
        raise SetupError(f"{where}: group {spec.group!r} of a {spec.type}", remedy=f"case is for {', '.join(OF_CASES)}")
    if spec.role not in _ROLES:
        raise SetupError(f"{where}: role {spec.role!r}", remedy="train or select")
    if spec.role == "select" and spec.type != "classification":
        raise SetupError(f"{where}: role select is for classification", remedy="leave the role out")


def _check_images(spec: TaskSpec, where: str) -> None:
    """One list of images, and for a folder of slides what is drawn on them."""
    keys = TYPES[spec.type]
    given = [key for key in ("labels", "coco", "slides") if getattr(spec, key) is not None]
    if len(given) != 1 or given[0] not in keys:
        needed = " or ".join(f"`{key}:`" for key in keys)
        has = f", and has {', '.join(given)}" if given else ""
        raise SetupError(f"{where}: a {spec.type} needs {needed}{has}", remedy="one of them, beside the task file")
    if spec.slides is not None and not spec.annotations:
        raise SetupError(f"{where}: slides without annotations", remedy='annotations: "wsi/*.geojson"')
    if spec.annotations and spec.type != "segmentation" and spec.slides is None:
        raise SetupError(f"{where}: annotations of a {spec.type}", remedy="they are for slides")
