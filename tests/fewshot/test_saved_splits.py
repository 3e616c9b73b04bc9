"""``splits.json`` is read back: the same tests and draws, whatever the patients are called now."""

from __future__ import annotations

import json

import numpy as np
import pytest
from study_cases import gaussian_cases, write_features

from umedfeat.cli import run
from umedfeat.errors import CohortError
from umedfeat.fewshot import ProbeSettings
from umedfeat.fewshot.draws.saved import with_splits

CASES = gaussian_cases(40, 2, 8, shift=1.5)
NAMES = [f"im{k:03d}.png" for k in range(80)]
QUICK = ["--classifier", "prototype", "--bootstrap", "100"]


def _features(folder, patients=CASES.patients, name="feats.h5", rows=CASES.features):
    meta = {"label": CASES.labels, "centre": ["B" if int(p[1:]) % 4 < 2 else "A" for p in CASES.patients]}
    return write_features(folder / name, list(rows[:, None]), NAMES, meta=meta, patients=patients)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    _features(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "options",
    [
        ["--fraction", "10%,100%", "--repeats", "4"],
        ["--shots", "1,4", "--repeats", "3", "--seed", "5"],
        ["--cv", "4", "--cv-repeats", "2", "--fraction", "0.2,1", "--repeats", "4"],
        ["--external", "centre=B", "--fraction", "0.5", "--repeats", "2"],
        ["--loco", "centre", "--fraction", "1"],
        ["--train", "centre=A", "--test", "centre=B", "--fraction", "1"],
    ],
    ids=lambda options: options[0],
)
def test_the_same_numbers_come_out_again(folder, options, capsys):
    assert run(["probe", *options, *QUICK]) == 0
    assert run(["probe", "--splits", "probe/splits.json", "--out", "again", *QUICK]) == 0
    for name in ("results.csv", "predictions.csv", "splits.json"):
        assert (folder / "probe" / name).read_bytes() == (folder / "again" / name).read_bytes(), name
    assert "earlier study (splits.json)" in (folder / "again" / "methods.txt").read_text().replace("\n", " ")
    assert json.loads((folder / "again" / "summary.json").read_text())["settings"]["splits"] == "splits.json"


def test_patients_are_found_by_their_items_and_not_by_their_numbers(folder, capsys):
    assert run(["probe", "--fraction", "0.1", "--repeats", "3", *QUICK]) == 0
    renamed = [f"q{99 - int(p[1:]):03d}" for p in CASES.patients]  # the order turned round
    _features(folder, renamed, "other.h5")
    assert run(["probe", "-f", "other.h5", "--splits", "probe/splits.json", "--out", "again", *QUICK]) == 0
    first, second = (json.loads((folder / o / "splits.json").read_text()) for o in ("probe", "again"))

    def drawn(content):
        return [
            sorted(i for p in draw for i in content["patients"][p]) for draw in content["folds"][0]["draws"]["10 %"]
        ]

    assert drawn(first) == drawn(second)


def test_compare_takes_them(folder, capsys):
    noise = np.random.default_rng(0).normal(size=CASES.features.shape).astype(np.float32)
    _features(folder, name="other.h5", rows=CASES.features + noise)
    assert run(["probe", "--fraction", "0.5", "--repeats", "2", *QUICK]) == 0
    assert run(["compare", "feats.h5", "other.h5", "--splits", "probe/splits.json", *QUICK]) == 0
    assert "--splits" not in capsys.readouterr().err
    for name in ("feats", "other"):
        content = json.loads((folder / "compare" / name / "splits.json").read_text())
        assert content == json.loads((folder / "probe" / "splits.json").read_text())


def test_a_patient_on_both_sides_is_leakage(folder, capsys):
    assert run(["probe", "--fraction", "0.5", "--repeats", "2", *QUICK]) == 0
    content = json.loads((folder / "probe" / "splits.json").read_text())
    fold = content["folds"][0]
    fold["pool"].append(fold["tests"]["test"][0])
    (folder / "bad.json").write_text(json.dumps(content))
    assert run(["probe", "--splits", "bad.json"]) == 3
    assert "1 patients stand in training and in test" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["patients"][next(iter(c["patients"]))].append("gone"),
            "1 of its items are not in the study, 'gone'",
        ),
        (lambda c: c["patients"].update(p000=[*c["patients"].pop("p000"), "im002"]), "the items of p000 stand under"),
        (lambda c: c["folds"][0]["draws"].update({"50 %": [["p000", "p002"]]}), "draw 1 of 50 % lacks class 'class1'"),
        (lambda c: c.pop("budgets"), "not the splits.json of a study"),
    ],
    ids=["items", "patients", "classes", "content"],
)
def test_splits_of_another_study_are_refused(folder, capsys, change, message):
    assert run(["probe", "--fraction", "0.5", "--repeats", "2", "--test-size", "0.2", *QUICK]) == 0
    content = json.loads((folder / "probe" / "splits.json").read_text())
    fold = content["folds"][0]
    fold["pool"] = sorted({*fold["pool"], "p000", "p002"})
    fold["tests"]["test"] = [p for p in fold["tests"]["test"] if p not in ("p000", "p002")]
    change(content)
    (folder / "bad.json").write_text(json.dumps(content))
    assert run(["probe", "--splits", "bad.json"]) == 2
    assert message in capsys.readouterr().err


def test_what_splits_decide_cannot_be_asked_too(folder, capsys):
    for option in (["--fraction", "0.1"], ["--repeats", "3"], ["--cv", "3"], ["--test-size", "0.2"]):
        assert run(["probe", "--splits", "probe/splits.json", *option]) == 2
        assert "--splits" in capsys.readouterr().err


def test_no_such_file(tmp_path):
    with pytest.raises(CohortError, match=r"none\.json: cannot be read"):
        with_splits(ProbeSettings(), tmp_path / "none.json")
