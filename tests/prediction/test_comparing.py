"""Several models on one new cohort: paired over its patients, whatever encoder each of them needs."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pages import checked_links
from study_cases import gaussian_cases, write_features

from umedfeat.cli import run
from umedfeat.errors import CohortError, LeakageError, SetupError
from umedfeat.fewshot.files import read_subject
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.prediction.comparing import ModelComparison, compare_models
from umedfeat.prediction.fit import Saving, study_and_fit

FAST = ProbeSettings(fractions=(1.0,), classifiers=("linear",), bootstrap=200)
TRAINED, NEW = gaussian_cases(60, 1, 8, seed=0), gaussian_cases(80, 1, 8, seed=1)


def _features(path: Path, rows: np.ndarray, labels: list[str], encoder: str, prefix: str) -> Path:
    names = [f"{prefix}{k:03}.png" for k in range(len(rows))]
    content = [f"{prefix}{k:060x}" for k in range(len(rows))]
    options = {"patients": [f"{prefix}{k}" for k in range(len(rows))], "meta": {"label": labels}, "content": content}
    return write_features(path, [row[None] for row in rows], names, encoder=encoder, **options)  # type: ignore[arg-type]


def _model(folder: Path, rows: np.ndarray, encoder: str, classifier: str = "linear") -> Path:
    folder.mkdir()
    feats = _features(folder / "feats.h5", rows, TRAINED.labels, encoder, "old")
    _, probe = study_and_fit(read_subject(feats, FAST), Saving(classifier))
    assert probe is not None
    return probe.save(folder / "model.safetensors")


def _noise(rows: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=rows.shape).astype(np.float32)


def _compared(tmp_path: Path, known: str = "stop") -> ModelComparison:
    models = [
        _model(tmp_path / "good", TRAINED.features, "good"),
        _model(tmp_path / "bad", _noise(TRAINED.features, 7), "bad"),
    ]
    models.append(_model(tmp_path / "also", TRAINED.features, "good", "prototype"))
    files = [_features(tmp_path / "a.h5", NEW.features, NEW.labels, "good", "new")]
    files.append(_features(tmp_path / "b.h5", _noise(NEW.features, 8), NEW.labels, "bad", "new"))
    return compare_models(files, models, baseline="bad", settings=FAST, known=known)  # type: ignore[arg-type]


def test_the_better_model_is_better_by_the_difference_of_their_figures(tmp_path: Path) -> None:
    found = _compared(tmp_path)
    assert found.names == ("good", "bad", "also") and found.baseline == "bad"
    value = {
        name: {row.metric: row.value for row in rows if not row.subgroup} for name, rows in found.estimates.items()
    }
    rows = {(row.encoder, row.metric): row for row in found.differences}
    difference = rows["good", "auroc"]
    assert difference.value == pytest.approx(value["good"]["auroc"] - value["bad"]["auroc"])
    assert difference.low > 0.1 and difference.p < 0.01 and difference.p <= difference.p_holm <= 2 * difference.p + 1e-9
    assert {name for name, _ in rows} == {"good", "also"}


def test_a_model_whose_encoder_no_file_was_made_with_is_named(tmp_path: Path) -> None:
    models = [_model(tmp_path / "good", TRAINED.features, "good"), _model(tmp_path / "bad", TRAINED.features, "bad")]
    files = [_features(tmp_path / f"{name}.h5", NEW.features, NEW.labels, "good", "new") for name in "ab"]
    with pytest.raises(SetupError, match=r"bad: none of a\.h5, b\.h5 was made with its encoder"):
        compare_models(files, models, settings=FAST)
    with pytest.raises(SetupError, match=r"a.h5: made with other settings: encoder\.name: bad → good"):
        compare_models(files[:1], models, settings=FAST)
    with pytest.raises(CohortError, match="two models or more"):
        compare_models(files, models[:1], settings=FAST)
    copy = Path(shutil.copy(models[0], tmp_path / "copy.safetensors"))
    with pytest.raises(LeakageError, match="images of the training data"):
        compare_models([tmp_path / "good" / "feats.h5"], [models[0], copy])


def test_of_one_class_nothing_is_divided_by_nobody(tmp_path: Path) -> None:
    models = [_model(tmp_path / name, TRAINED.features, "good", name) for name in ("linear", "prototype")]
    new = _features(tmp_path / "new.h5", NEW.features, ["class1"] * len(NEW.labels), "good", "new")
    found = compare_models([new], models, settings=FAST)
    assert np.isfinite(next(row.value for row in found.differences if row.metric == "accuracy"))


def test_the_command_writes_tables_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [
        _model(tmp_path / "ours", TRAINED.features, "e"),
        _model(tmp_path / "noise", _noise(TRAINED.features, 7), "e"),
    ]
    new = _features(tmp_path / "new.h5", NEW.features, NEW.labels, "e", "new")
    command = [
        "compare",
        str(new),
        "--model",
        str(models[0]),
        "--model",
        str(models[1]),
        "--out",
        str(tmp_path / "out"),
    ]
    assert run([*command, "--bootstrap", "200"]) == 0
    assert "ours is better than noise: macro-F1 +0." in capsys.readouterr().out
    checked_links((tmp_path / "out" / "report.html").read_text())
    rows = list(csv.DictReader((tmp_path / "out" / "differences.csv").read_text().splitlines()))
    assert {row["model"] for row in rows} == {"ours"} and {"macro_f1", "auroc"} <= {row["metric"] for row in rows}
    told = list(csv.DictReader((tmp_path / "out" / "validation.csv").read_text().splitlines()))
    assert {row["model"] for row in told} == {"ours", "noise"}
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baseline"] == "noise"
    assert run([*command, "--fraction", "0.5", "--cv", "5"]) == 2
    assert "nothing is fitted: leave --fraction, --cv out" in capsys.readouterr().err
