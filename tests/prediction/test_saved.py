"""Saved probes: what is written is read, what is hostile is refused, what was written once stays readable."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from store_cases import header

from umedfeat.errors import SetupError
from umedfeat.fewshot.classifiers.attention_form import AttentionForm
from umedfeat.fewshot.classifiers.forms import LinearForm, NeighboursForm, PrototypeForm
from umedfeat.fewshot.classifiers.scaling import Scaler
from umedfeat.prediction.novelty import Novelty
from umedfeat.prediction.saved import SavedProbe

DIM = 6
RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(40, DIM)).astype(np.float32)


def _linear(classes: int = 3) -> LinearForm:
    outputs = 1 if classes == 2 else classes
    scaler = Scaler.of(ROWS)
    coef = RNG.normal(size=(DIM, outputs))
    return LinearForm(scaler, coef, RNG.normal(size=outputs), np.arange(classes), 2, classes)


def _probe(form: Any = None, classifier: str = "linear", **changes: Any) -> SavedProbe:
    probe = SavedProbe(
        classifier=classifier,
        form=form or _linear(),
        task="multiclass",
        classes=("a", "b", "c"),
        label="diagnosis",
        unit="item",
        pool="mean",
        header=header(),
        training={"patients": 40, "items": 40, "per_class": {"a": 20, "b": 10, "c": 10}, "where": "training pool"},
        tested={"macro_f1": [0.8, 0.7, 0.9]},
        novelty=Novelty.of(ROWS, np.arange(40), seed=0),
    )
    return replace(probe, **changes)


def _forms() -> list[tuple[str, Any]]:
    unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    targets = np.eye(3)[np.arange(40) % 3]
    neighbours = NeighboursForm(np.zeros(DIM, np.float32), unit, targets, np.ones(40), np.full(3, 1 / 3), 5)
    directions = (unit.T @ targets)[None].astype(np.float32)
    prototypes = PrototypeForm(np.zeros((1, DIM), np.float32), directions, np.ones((1, 3), bool), 10.0)
    return [("linear", _linear()), ("knn", neighbours), ("prototype", prototypes), ("abmil", _attention())]


def _attention(hidden: int = 4, gate: int = 3) -> AttentionForm:
    shapes = [(DIM, hidden), (hidden,), (hidden, gate), (gate,), (hidden, gate), (gate,), (gate,), (hidden, 3), (3,)]
    arrays = [RNG.normal(size=shape).astype(np.float32) for shape in shapes]
    return AttentionForm(ROWS.mean(axis=0, dtype=np.float64), ROWS.std(axis=0, dtype=np.float64), *arrays, link=2)


@pytest.mark.parametrize(("classifier", "form"), _forms())
def test_what_is_written_predicts_the_same(classifier: str, form: Any, tmp_path: Path) -> None:
    probe = _probe(form, classifier, temperature=1.7)
    found = SavedProbe.load(probe.save(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(found.predict(ROWS), probe.predict(ROWS))
    assert found.described() == probe.described()
    assert found.novelty is not None and probe.novelty is not None
    np.testing.assert_array_equal(found.novelty.p_values(ROWS + 1), probe.novelty.p_values(ROWS + 1))
    np.testing.assert_allclose(probe.predict(ROWS).sum(axis=1), 1)
    assert (tmp_path / "model.safetensors").read_bytes() == probe.save(tmp_path / "again").read_bytes()


def test_the_formula_of_the_documentation_gives_the_same_numbers(tmp_path: Path) -> None:
    probe = _probe()
    arrays = load_file(probe.save(tmp_path / "model.safetensors"))
    z = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True).astype(np.float64)
    z = (z - arrays["form.mean"]) / arrays["form.length"]
    powers = np.exp(z @ arrays["form.coef"] + arrays["form.intercept"])
    np.testing.assert_allclose(probe.predict(ROWS), powers / powers.sum(axis=1, keepdims=True), atol=1e-7)


def test_attention_by_the_formula_of_the_documentation_and_in_blocks(tmp_path: Path) -> None:
    probe = _probe(_attention(), "abmil")
    a = {name.removeprefix("form."): v for name, v in load_file(probe.save(tmp_path / "model.safetensors")).items()}
    h = np.maximum(((ROWS - a["mean"]) / a["scale"]) @ a["embed"] + a["embed_bias"], 0)
    e = (np.tanh(h @ a["flat"] + a["flat_bias"]) / (1 + np.exp(-(h @ a["gate"] + a["gate_bias"])))) @ a["score"]
    w = np.exp(e) / np.exp(e).sum()
    powers = np.exp((w @ h) @ a["output"] + a["output_bias"])
    np.testing.assert_allclose(probe.predict_bag([ROWS])[0], powers / powers.sum(), atol=1e-6)
    for size in (1, 7, 39):
        blocks = [ROWS[first : first + size] for first in range(0, len(ROWS), size)]
        np.testing.assert_allclose(probe.predict_bag(blocks), probe.predict_bag([ROWS]), atol=1e-9)
    attention = probe.attention(ROWS)
    assert attention is not None
    np.testing.assert_allclose(attention, w / w.max(), atol=1e-6)
    assert _probe().attention(ROWS) is None
    with pytest.raises(SetupError, match="takes rows, no bags"):
        _probe().predict_bag([ROWS])


def test_a_temperature_flattens_and_keeps_the_order() -> None:
    probe = _probe()
    sharp, flat = probe.predict(ROWS), replace(probe, temperature=3.0).predict(ROWS)
    np.testing.assert_array_equal(sharp.argmax(axis=1), flat.argmax(axis=1))
    logits = np.log(sharp) - np.log(sharp[:, :1])
    np.testing.assert_allclose(np.log(flat) - np.log(flat[:, :1]), logits / 3, atol=1e-9)


Change = Callable[[dict[str, np.ndarray], dict[str, Any]], object]
HOSTILE: dict[str, Change] = {
    "a newer format": lambda _, told: told.update(format=3),
    "no format": lambda _, told: told.pop("format"),
    "an unknown classifier": lambda _, told: told.update(classifier="os.system"),
    "a classifier of another form": lambda _, told: told.update(classifier="knn"),
    "an unknown task": lambda _, told: told.update(task="survival"),
    "an unknown pooling": lambda _, told: told.update(pool="__import__"),
    "classes too few": lambda _, told: told.update(classes=["a"]),
    "classes that are none": lambda _, told: told.update(classes=7),
    "a temperature of zero": lambda _, told: told.update(temperature=0),
    "a temperature that is no number": lambda _, told: told.update(temperature=float("nan")),
    "a threshold of one": lambda _, told: told.update(threshold=1),
    "features that are a list": lambda _, told: told.update(features=[]),
    "an array missing": lambda arrays, _: arrays.pop("form.coef"),
    "an array of another shape": lambda arrays, _: arrays.update({"form.mean": np.zeros(3)}),
    "columns outside": lambda arrays, _: arrays.update({"form.columns": np.array([0, 1, 9])}),
    "columns that repeat": lambda arrays, _: arrays.update({"form.columns": np.array([0, 1, 1])}),
    "values that are no numbers": lambda arrays, _: arrays.update({"form.intercept": np.full(3, np.nan)}),
    "a format that is a truth value": lambda _, told: told.update(format=True),
    "classes in one text": lambda _, told: told.update(classes="abc"),
    "a class twice": lambda _, told: told.update(classes=["a", "b", "b"]),
    "a class that is no text": lambda _, told: told.update(classes=["a", "b", None]),
    "two classes for three": lambda _, told: told.update(task="binary"),
    "labels that are classes": lambda _, told: told.update(task="multilabel"),
    "values of three columns": lambda _, told: told.update(task="regression", classes=[]),
    "no training": lambda _, told: told.update(training={}),
    "a training of nobody": lambda _, told: told["training"].update(patients=0),
    "patients that are no count": lambda _, told: told["training"].update(patients="many"),
    "patients of a class that are no count": lambda _, told: told["training"].update(per_class=[20, 10]),
    "a training elsewhere": lambda _, told: told["training"].pop("where"),
    "a figure without bounds": lambda _, told: told.update(tested={"auroc": [0.8]}),
    "a figure that is no number": lambda _, told: told.update(tested={"auroc": [None, 0.7, 0.9]}),
    "a novelty of other rows": lambda arrays, _: arrays.update({"novelty.references": np.zeros((5, 3), np.float32)}),
    "whole numbers for weights": lambda arrays, _: arrays.update({"form.coef": np.ones((DIM, 3), np.int64)}),
    "fractions for columns": lambda arrays, _: arrays.update({"form.columns": np.array([0.0, 1.0, 2.5])}),
    "columns in a table": lambda arrays, _: arrays.update({"form.columns": np.array([[0], [1], [2]])}),
    "a length of zero": lambda arrays, _: arrays.update({"form.length": np.zeros(1)}),
    "a link to values": lambda arrays, _: arrays.update({"form.link": np.array([0, 3])}),
    "weights of a third dimension": lambda arrays, _: arrays.update({"form.coef": np.ones((DIM, 3, 1))}),
    "an empty novelty": lambda arrays, _: arrays.update({"novelty.references": np.zeros((0, DIM), np.float32)}),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_by_name(change: Change, tmp_path: Path) -> None:
    path = _probe().save(tmp_path / "model.safetensors")
    arrays, told = load_file(path), _probe().described()
    change(arrays, told)
    save_file(arrays, path, {"umedfeat.probe": json.dumps(told)})
    with pytest.raises(SetupError, match=r"model\.safetensors"):
        SavedProbe.load(path)


NEIGHBOURS: dict[str, Change] = {
    "targets that are no probabilities": lambda arrays, _: arrays.update({"form.targets": np.full((40, 3), 7.0)}),
    "weights below zero": lambda arrays, _: arrays.update({"form.weights": np.full(40, -1.0)}),
    "weights of two dimensions": lambda arrays, _: arrays.update({"form.weights": np.ones((40, 1))}),
    "a prior below zero": lambda arrays, _: arrays.update({"form.prior": np.full(3, -1.0)}),
}


@pytest.mark.parametrize("change", NEIGHBOURS.values(), ids=NEIGHBOURS.keys())
def test_hostile_neighbours_are_refused_by_name(change: Change, tmp_path: Path) -> None:
    probe = _probe(dict(_forms())["knn"], "knn")
    path = probe.save(tmp_path / "model.safetensors")
    arrays, told = load_file(path), probe.described()
    change(arrays, told)
    save_file(arrays, path, {"umedfeat.probe": json.dumps(told)})
    with pytest.raises(SetupError, match=r"model\.safetensors"):
        SavedProbe.load(path)


def test_a_file_that_says_a_thing_twice_is_refused(tmp_path: Path) -> None:
    path = _probe().save(tmp_path / "model.safetensors")
    told = json.dumps(_probe().described())[:-1] + ', "classes": ["c", "b", "a"]}'
    save_file(load_file(path), path, {"umedfeat.probe": told})
    with pytest.raises(SetupError, match="damaged"):
        SavedProbe.load(path)


def test_numbers_of_a_kind_that_numpy_lacks_are_refused_by_name(tmp_path: Path) -> None:
    path = _probe().save(tmp_path / "model.safetensors")
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    head = json.loads(content[8 : 8 + size])
    head["form.coef"] |= {"dtype": "BF16", "shape": [DIM, 12]}
    written = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + content[8 + size :])
    with pytest.raises(SetupError, match=r"model\.safetensors"):
        SavedProbe.load(path)


def test_arrays_that_overflow_give_an_error_and_no_predictions() -> None:
    form = _linear()
    huge = replace(form, coef=np.full_like(form.coef, 1e308) * np.sign(form.coef))
    with pytest.raises(SetupError, match="no numbers"):
        _probe(huge).predict(ROWS)


def test_prototypes_of_a_single_label_are_no_classes(tmp_path: Path) -> None:
    pair = np.stack([ROWS[0], -ROWS[0]], axis=1)[None] / np.linalg.norm(ROWS[0])
    form = PrototypeForm(np.zeros((1, DIM), np.float32), pair, np.ones((1, 2), bool), 10.0, of_labels=True)
    training = {"patients": 40, "items": 40, "per_class": {}, "where": "all"}
    probe = _probe(form, "prototype", task="multilabel", classes=("a",), training=training)
    found = SavedProbe.load(probe.save(tmp_path / "model.safetensors"))
    assert found.predict(ROWS).shape == (40, 1)
    np.testing.assert_array_equal(found.predict(ROWS), probe.predict(ROWS))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04\x95cposix\nsystem\n(S'touch canary'\ntR.",
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}    ',
    ],
)
def test_what_is_no_saved_probe_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(SetupError, match=r"model\.safetensors"):
        SavedProbe.load(tmp_path / "model.safetensors")


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(SetupError, match="do not fit a probe of 6 values"):
        _probe().predict(np.zeros((2, 5), np.float32))


def test_a_file_of_the_first_format_stays_readable() -> None:
    """Written by version 0.2.0 and kept: numbers and facts as they were then."""
    probe = SavedProbe.load(Path(__file__).with_name("format-1.safetensors"))
    rows = np.linspace(-1, 1, 10, dtype=np.float32).reshape(2, 5)
    then = [[0.21847090540888311, 0.5908677904676316, 0.19066130412348536]]
    then += [[0.0416035537646724, 0.05261965538925067, 0.905776790846077]]
    np.testing.assert_allclose(probe.predict(rows), then, rtol=1e-6)
    assert probe.novelty is not None
    np.testing.assert_allclose(probe.novelty.p_values(rows), 26 / 31)
    assert (probe.version, probe.classes, probe.label, probe.temperature) == ("0.2.0", ("a", "b", "c"), "grade", 1.3)


def test_a_file_of_the_second_format_stays_readable() -> None:
    """Attention, written by version 0.2.0 and kept."""
    probe = SavedProbe.load(Path(__file__).with_name("format-2.safetensors"))
    rows = np.linspace(-1, 1, 18, dtype=np.float32).reshape(3, 6)
    then = [[0.31224021042202116, 0.2941518400743355, 0.39360794950364325]]
    np.testing.assert_allclose(probe.predict_bag([rows]), then, rtol=1e-6)
    assert (probe.classifier, probe.classes, probe.label) == ("abmil", ("a", "b", "c"), "diagnosis")
