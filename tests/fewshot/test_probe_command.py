"""The commands: a labelled feats.h5 in the folder is enough."""

from __future__ import annotations

import csv
import json
from functools import partial

import numpy as np
import pytest
from study_cases import gaussian_cases, write_features

from umedfeat.cli import run
from umedfeat.fewshot import ProbeSettings, compare_files, probe, probe_file
from umedfeat.store import FeatureFile


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a labelled feats.h5, entered."""
    cases = gaussian_cases(40, 2, 12, shift=2.0)
    names = [f"im{k:03d}.png" for k in range(80)]
    meta = {"label": cases.labels, "centre": ["B" if int(p[1:]) % 4 < 2 else "A" for p in cases.patients]}
    write_features(tmp_path / "feats.h5", list(cases.features[:, None]), names, meta=meta, patients=cases.patients)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_option_is_enough(folder, capsys):
    assert run(["probe", "--fraction", "0.01"]) == 0
    shown = capsys.readouterr().out
    assert "synthetic: 80 items, 40 patients; binary on label (class0, class1)" in shown
    assert "1 % of 28 patients is 0.28: 2 used, the floor that holds every class" in shown
    for classifier in ("linear", "knn", "prototype"):
        assert classifier in shown
    with (folder / "probe" / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["fraction"] for row in rows} == {"0.01"}
    assert {row["n_train_patients"] for row in rows} == {"2"}
    assert len({row["draw"] for row in rows}) == 50


def test_everything_can_be_recomputed_from_the_folder(folder, capsys):
    """Draws and metrics of results.csv follow from splits.json and predictions.csv."""
    assert run(["probe", "--fraction", "10%,1", "--repeats", "3", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((folder / "probe" / "summary.json").read_text())
    splits = json.loads((folder / "probe" / "splits.json").read_text())["folds"][0]
    assert len(splits["draws"]["10 %"]) == 3
    assert set(splits["draws"]["10 %"][0]) < set(splits["pool"])
    assert not set(splits["pool"]) & set(splits["tests"]["test"])
    with (folder / "probe" / "predictions.csv").open() as stream:
        rows = [
            r for r in csv.DictReader(stream) if (r["classifier"], r["budget"], r["draw"]) == ("linear", "10 %", "1")
        ]
    hits = [(float(r["p_class1"]) > 0.5) == (r["truth"] == "class1") for r in rows]
    with (folder / "probe" / "results.csv").open() as stream:
        score = next(
            r
            for r in csv.DictReader(stream)
            if (r["classifier"], r["budget"], r["draw"], r["metric"]) == ("linear", "10 %", "1", "accuracy")
        )
    assert float(score["value"]) == pytest.approx(np.mean(hits))
    assert {r["patient"] for r in rows} == set(splits["tests"]["test"])
    carried = {r["patient"]: r["truth"] for r in rows} | _classes(folder)
    drawn = [carried[patient] for patient in splits["draws"]["10 %"][1]]
    assert score["n_train_patients"] == str(len(drawn))
    assert score["n_per_class"] == f"{drawn.count('class0')}|{drawn.count('class1')}"
    estimate = next(
        e for e in summary["estimates"] if (e["classifier"], e["budget"], e["metric"]) == ("linear", "10 %", "accuracy")
    )
    assert estimate["low"] < estimate["value"] < estimate["high"]
    methods = (folder / "probe" / "methods.txt").read_text().replace("\n", " ")
    for said in (
        "80 items of 40 patients",
        "10 % (3 patients, 3 draws)",
        "100 % (28 patients, 1 draw)",
        "random seed 0",
    ):
        assert said in methods


def _classes(folder):
    with FeatureFile(folder / "feats.h5") as file:
        return dict(zip(map(str, file.items["patient"]), map(str, file.labels()), strict=True))


def test_in_cross_validation_a_row_counts_what_one_classifier_saw(folder, capsys):
    assert run(["probe", "--cv", "4", "--cv-repeats", "1", "--fraction", "0.1", "--classifier", "prototype"]) == 0
    with (folder / "probe" / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["n_train_patients"] for row in rows} == {"3"}  # 10 % of the 30 patients outside a fold
    assert all(sum(map(float, row["n_per_class"].split("|"))) == 3 for row in rows)


def test_dry_run_prints_counts_and_writes_nothing(folder, capsys):
    assert run(["probe", "--fraction", "0.5", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if line.startswith("50 %"))
    assert line.split() == ["50", "%", "14", "28", "28.0", "20", "7.0", "7.0"]
    assert not (folder / "probe").exists()


def test_external_validation_reports_the_drop(folder, capsys):
    assert run(["probe", "--external", "centre=B", "--fraction", "1", "--subgroup", "centre"]) == 0
    shown = capsys.readouterr().out
    assert "Cross-centre drop of macro-F1" in shown
    drops = json.loads((folder / "probe" / "summary.json").read_text())["drops"]
    row = next(d for d in drops if d["classifier"] == "linear" and d["metric"] == "auroc")
    assert row["drop"] == pytest.approx(row["internal_value"] - row["external_value"])
    assert row["low"] < row["drop"] < row["high"]


def test_leave_one_centre_out_and_cross_validation(folder, capsys):
    assert run(["probe", "--loco", "centre", "--fraction", "1", "--classifier", "prototype"]) == 0
    assert "external centre=A" in capsys.readouterr().out
    assert run(["probe", "--cv", "4", "--cv-repeats", "2", "--fraction", "0.5", "--classifier", "knn"]) == 0
    assert "out-of-fold: 80 items of 40 patients" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fraction", "0"], "not above 0"),
        (["--fraction", "ten"], "neither a share"),
        (["--shots", "2", "--fraction", "0.1"], "exclude each other"),
        (["--cv", "3", "--loco", "centre"], "different ways to choose the test set"),
        (["--external", "centre=C"], "values: A, B"),
        (["--subgroup", "sex"], "there is no such column"),
        (["--features", "none.h5"], "none.h5"),
        (["--cv", "30"], "the rarest class"),
        (["--task", "survival"], "needs a time and an event"),
        (["--label", "centre", "--patient", "nobody"], "no column 'nobody'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_are_told_with_exit_2(folder, capsys, arguments, message):
    assert run(["probe", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_leakage_has_its_own_exit_code(tmp_path, capsys):
    cases = gaussian_cases(20, 1, 6)
    rows = cases.features.copy()
    rows[3] = rows[5] = rows[17] = rows[1]
    split = ["test" if k < 8 else "train" for k in range(20)]
    meta = {"label": cases.labels, "split": split}
    names = [f"im{k}.png" for k in range(20)]
    path = write_features(tmp_path / "f.h5", list(rows[:, None]), names, meta=meta, patients=cases.patients)
    assert run(["probe", "--features", str(path)]) == 3
    assert "have identical content in training and in test: im17 = im1" in capsys.readouterr().err


def test_a_split_column_is_used_unless_told_otherwise(tmp_path, capsys):
    cases = gaussian_cases(20, 1, 6)
    meta = {"label": cases.labels, "split": ["test" if k < 8 else "train" for k in range(20)]}
    names = [f"im{k}.png" for k in range(20)]
    path = write_features(tmp_path / "f.h5", list(cases.features[:, None]), names, meta=meta, patients=cases.patients)
    assert run(["probe", "-f", str(path), "--fraction", "1"]) == 0
    assert "test: 8 items of 8 patients" in capsys.readouterr().out
    assert run(["probe", "-f", str(path), "--fraction", "1", "--test-size", "0.3"]) == 0
    assert "test: 6 items of 6 patients" in capsys.readouterr().out


def test_commands_and_functions_read_the_same_split_column(tmp_path, capsys):
    """In the manifest or in --labels, by probe and by compare, by the command and by the function: one rule."""
    cases = gaussian_cases(20, 1, 6)
    split = ["test" if k < 8 else "train" for k in range(20)]
    names = [f"im{k:02d}.png" for k in range(20)]
    write = partial(write_features, rows=list(cases.features[:, None]), names=names, patients=cases.patients)
    with_meta = [write(tmp_path / f"{e}.h5", encoder=e, meta={"label": cases.labels, "split": split}) for e in "ab"]
    bare = [write(tmp_path / f"bare_{e}.h5", encoder=e) for e in "ab"]
    labels = tmp_path / "labels.csv"
    lines = [",".join(row) for row in zip(names, cases.labels, split, strict=True)]
    labels.write_text("\n".join(["path,label,split", *lines]))
    chosen = ProbeSettings(fractions=(1.0,), bootstrap=100)

    def tested(result):
        assert result.settings.split == "split"
        return set(result.cohort.ids[result.cohort.items_of(result.folds[0].tests["test"])])

    for files, table in ((with_meta, None), (bare, labels)):
        results = [probe_file(files[0], labels=table, settings=chosen)]
        results += compare_files(files, labels=table, settings=chosen).results
        assert all(tested(result) == {name.removesuffix(".png") for name in names[:8]} for result in results)
        option = [] if table is None else ["--labels", str(table)]
        quick = ["--fraction", "1", "--bootstrap", "100", *option]
        assert run(["probe", "-f", str(files[0]), "-o", str(tmp_path / "p"), *quick]) == 0
        assert run(["compare", *map(str, files), "-o", str(tmp_path / "c"), *quick]) == 0
        for folder in ("p", "c/a", "c/b"):
            saved = json.loads((tmp_path / folder / "splits.json").read_text())
            items = [saved["patients"][patient] for patient in saved["folds"][0]["tests"]["test"]]
            assert {item for of_patient in items for item in of_patient} == tested(results[0])
    arrays = probe(cases.features, cases.labels, cases.patients, meta={"split": split}, settings=chosen)
    assert tested(arrays) == {str(number) for number in range(8)}


def test_results_do_not_depend_on_the_number_of_threads(folder, capsys):
    found = []
    for jobs in ("1", "3"):
        assert run(["probe", "--fraction", "10%", "--repeats", "4", "--jobs", jobs, "--out", f"out{jobs}"]) == 0
        found.append((folder / f"out{jobs}" / "predictions.csv").read_bytes())
    assert found[0] == found[1]


def test_compare_command(folder, capsys):
    cases = gaussian_cases(40, 2, 12, shift=2.0)
    rows = cases.features + np.random.default_rng(0).normal(size=cases.features.shape).astype(np.float32)
    names = [f"im{k:03d}.png" for k in range(80)]
    write_features(folder / "other.h5", list(rows[:, None]), names, patients=cases.patients, encoder="other")
    arguments = [
        "compare",
        "feats.h5",
        "other.h5",
        "--fraction",
        "0.1,1",
        "--repeats",
        "3",
        "--classifier",
        "prototype",
        "--margin",
        "0.3",
    ]
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert "is the smallest budget that is surely not worse than other at 100 %" in " ".join(shown.split())
    assert (folder / "compare" / "differences.csv").is_file()
    assert run([*arguments, "--json", "--baseline", "synthetic"]) == 0
    assert json.loads(capsys.readouterr().out)["baseline"] == "synthetic"
    assert run(["compare", "feats.h5"]) == 2
    assert "two feature files" in capsys.readouterr().err
