"""Saved probes: what a study learned, in one safetensors file that executes nothing when it is read.

The tensors are the arrays of a form (``umedfeat.fewshot.classifiers.forms``) under ``form.`` and, where it was learned,
the novelty under ``novelty.``; one metadata key holds everything else as JSON. ``docs/saved-probes.md`` has the format.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from umedfeat._version import __version__
from umedfeat.arrays import Floats, Rows
from umedfeat.errors import OutputError, SetupError
from umedfeat.fewshot.classifiers.attention_form import AttentionForm
from umedfeat.fewshot.classifiers.forms import FORMS, Form
from umedfeat.fewshot.classifiers.temperature import tempered
from umedfeat.fewshot.settings import Task
from umedfeat.prediction.novelty import Novelty
from umedfeat.prediction.saved_checks import SAVED_TASKS, check_arrays, check_told, unique_keys
from umedfeat.store import Header

__all__ = ["FORMAT", "SAVED_TASKS", "SavedProbe"]

#: Newest format that is known; a reader takes this one and all before it. A file names the oldest that can hold it.
FORMAT = 2
#: What a classifier needs at least; the others were there from the first.
_NEEDS = {"abmil": 2}
_KEY = "umedfeat.probe"
#: What the JSON holds as it stands here.
_PLAIN = (
    "classifier",
    "task",
    "classes",
    "label",
    "unit",
    "pool",
    "training",
    "tested",
    "temperature",
    "threshold",
    "version",
)
Given = TypeVar("Given")
_LARGEST_FILE = 2 << 30
_LARGEST_JSON = 4 << 20
_REMEDY = "`umedfeat probe` writes one as probe/model.safetensors"


@dataclass(frozen=True)
class SavedProbe:
    """A fitted classifier with all that is needed to apply it.

    Attributes:
        classifier: "linear", "knn", "prototype" or "abmil"; ``form``: its arrays.
        task: "binary", "multiclass", "ordinal", "multilabel" or "regression".
        classes: names of classes or labels, (K,); () for values.
        label: what was predicted (the label's column).
        unit: "item", "tile" or "patient": what one row stood for. pool: how an item's rows became one ("mean" …); of
            "abmil" for the novelty alone, since it takes the rows themselves.
        header: encoder and policy of the features it takes.
        training: what it was fitted on: items, patients, per_class, where ("training pool" or "all").
        tested: metric → [value, low, high] on the study's test patients; empty where it was fitted on everybody.
        temperature: logits are divided by it (1: not calibrated).
        threshold: of two classes, the probability of the second above which the study called it so.
        novelty: how to tell inputs unlike the training data; None where too few patients were there.
        version: of umedfeat that wrote it.
    """

    classifier: str
    form: Form
    task: Task
    classes: tuple[str, ...]
    label: str
    unit: Literal["item", "tile", "patient"]
    pool: Literal["mean", "max", "mean+std"]
    header: Header
    training: Mapping[str, Any]
    tested: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    threshold: float = 0.5
    novelty: Novelty | None = None
    version: str = __version__

    def predict(self, rows: Rows) -> Floats:
        """(n, K) probabilities, or (n, 1) values, for (n, D) rows made and pooled like those of the training.

        Raises:
            SetupError: the rows have another length.
        """
        if rows.ndim != 2 or rows.shape[1] != self.form.dim:
            raise SetupError(
                f"rows of shape {rows.shape} do not fit a probe of {self.form.dim} values",
                remedy="use features of the encoder that the probe was trained on",
            )
        return self._finished(self.form.predict, rows)

    def predict_bag(self, blocks: Iterable[Rows]) -> Floats:
        """(1, K) for one item of an "abmil" probe, whose rows come in any number of blocks.

        Raises:
            SetupError: another classifier.
        """
        if not isinstance(self.form, AttentionForm):
            raise SetupError(f"a probe of the kind {self.classifier} takes rows, no bags", remedy="use predict")
        return self._finished(self.form.predict_bag, blocks)

    def attention(self, rows: Rows) -> Floats | None:
        """(n,) how much each row of one item counts, 1 for the one that counts most; None but for "abmil"."""
        if not isinstance(self.form, AttentionForm):
            return None
        weights = self.form.attention(rows)
        return np.asarray(weights / weights.max())

    def _finished(self, apply: Callable[[Given], Floats], given: Given) -> Floats:
        """What comes out, at the probe's temperature. Arrays of a hostile file may be finite and overflow in use."""
        with np.errstate(all="ignore"):
            found = self._tempered(apply(given))
        if not np.isfinite(found).all():
            raise SetupError(
                "the saved probe gives no numbers for these features: its arrays, or they, are out of all range",
                remedy="umedfeat verify checks features; umedfeat probe makes the probe anew",
            )
        return found

    def _tempered(self, chances: Floats) -> Floats:
        if self.temperature == 1.0 or self.task == "regression":
            return chances
        return tempered(chances, self.temperature, labels=self.task == "multilabel")

    def refuse_unknown(self, class_name: str) -> None:
        """A class that is asked for by name must be one of the probe's ("" asks for none).

        Raises:
            SetupError: it is not.
        """
        if class_name and class_name not in self.classes:
            known = ", ".join(self.classes) or "none: it predicts values"
            raise SetupError(f"--class {class_name}: not a class of this probe", remedy=f"its classes: {known}")

    def save(self, path: Path) -> Path:
        """Write it; a reader sees the old file or the new one, never a part.

        Raises:
            OutputError: it cannot be written.
        """
        tensors = {f"form.{name}": np.ascontiguousarray(values) for name, values in self.form.tensors().items()}
        if self.novelty is not None:
            tensors |= {"novelty.references": self.novelty.references, "novelty.usual": self.novelty.usual}
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(save(tensors, {_KEY: json.dumps(self.described(), sort_keys=True)}))
            temporary.replace(path)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written ({error.strerror})", remedy="choose another folder"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def described(self) -> dict[str, Any]:
        """Everything but the arrays, JSON-able."""
        header = {**asdict(self.header), "fingerprint": self.header.fingerprint}
        return {
            "format": _NEEDS.get(self.classifier, 1),
            **{name: getattr(self, name) for name in _PLAIN},
            "features": header,
        }

    @classmethod
    def load(cls, path: Path | str) -> SavedProbe:
        """Read and check a file from anybody: nothing in it is executed.

        Raises:
            SetupError: missing, no saved probe, damaged, of a newer format, or its parts contradict each other.
        """
        path = Path(path)
        tensors, told = _opened(path)
        try:
            return _built(tensors, told)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            fault = f"{path.name}: the saved probe is damaged or contradicts itself ({error})"
            raise SetupError(fault, remedy=_REMEDY) from error


def _opened(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    if not path.is_file():
        raise SetupError(f"{path}: no such saved probe", remedy=_REMEDY)
    if path.stat().st_size > _LARGEST_FILE:
        raise SetupError(f"{path.name}: {path.stat().st_size:,} bytes are no saved probe", remedy=_REMEDY)
    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(_KEY, "")
            told = json.loads(text, object_pairs_hook=unique_keys) if text and len(text) <= _LARGEST_JSON else None
            if not isinstance(told, dict):
                raise SetupError(f"{path.name}: safetensors, but no saved probe", remedy=_REMEDY)
            _refuse_unknown_format(path.name, told.get("format"))
            return {name: file.get_tensor(name) for name in file.keys()}, told  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise SetupError(f"{path.name}: not a safetensors file, or damaged", remedy=_REMEDY) from error
    except (TypeError, AttributeError) as error:  # numbers of a kind that numpy does not have, bfloat16 among them
        raise SetupError(f"{path.name}: no saved probe holds numbers of this kind ({error})", remedy=_REMEDY) from error


def _refuse_unknown_format(name: str, number: object) -> None:
    if isinstance(number, bool) or number not in range(1, FORMAT + 1):
        fault = f"{name}: format {number!r} of saved probes is unknown to umedfeat {__version__}"
        raise SetupError(fault, remedy="a newer umedfeat reads it")


def _built(tensors: Mapping[str, npt.NDArray[Any]], told: Mapping[str, Any]) -> SavedProbe:
    check_arrays(tensors)
    form = FORMS[told["classifier"]].of(_part(tensors, "form."))
    check_told(told, form)
    features = told["features"]
    header = Header(dict(features["encoder"]), dict(features["policy"]), str(features["dtype"]))
    return SavedProbe(
        classifier=told["classifier"],
        form=form,
        task=told["task"],
        classes=tuple(told["classes"]),
        label=str(told["label"]),
        unit=told["unit"],
        pool=told["pool"],
        header=header,
        training=dict(told["training"]),
        tested=dict(told["tested"]),
        temperature=float(told["temperature"]),
        threshold=float(told.get("threshold", 0.5)),  # earlier files do not tell
        novelty=_novelty(_part(tensors, "novelty."), form.dim),
        version=str(told["version"]),
    )


def _part(tensors: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}


def _novelty(tensors: Mapping[str, npt.NDArray[Any]], dim: int) -> Novelty | None:
    if not tensors:
        return None
    references, usual = tensors["references"], tensors["usual"]
    if references.ndim != 2 or usual.ndim != 1 or not len(references) or references.shape[1] != dim:
        raise ValueError("arrays of the novelty do not fit")
    return Novelty(references, np.sort(usual))
