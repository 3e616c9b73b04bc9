"""Labels and patients are found by rule; what does not fit is said in words a clinician understands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from study_cases import gaussian_cases, write_features

from umedfeat.cli import run
from umedfeat.errors import CohortError, SetupError
from umedfeat.fewshot.cohort.labels import encode, infer_task
from umedfeat.fewshot.cohort.sources import cohort_of, label_items
from umedfeat.fewshot.cohort.table import read_table
from umedfeat.fewshot.files import compare_files, probe_file
from umedfeat.fewshot.settings import ProbeSettings

QUICK = ProbeSettings(fractions=(1.0,), classifiers=("prototype",), bootstrap=100)
CASES = gaussian_cases(20, 2, 6)
NAMES = [f"{label}/sub{k % 3}/im{k:02d}.png" for k, label in enumerate(CASES.labels)]


def _file(folder: Path, names=NAMES, meta=None, patients=CASES.patients, **more) -> Path:
    rows = list(CASES.features[: len(names), None])
    return write_features(folder / "feats.h5", rows, names, meta=meta, patients=patients, **more)


def _labelled(path, **options):
    table = read_table(path)
    found = label_items(table, **options)
    return found, dict(zip(table.ids[found.items].tolist(), found.labels.tolist(), strict=True))


def _expected():
    return {name[:-4]: label for name, label in zip(NAMES, CASES.labels, strict=True)}


def _table(folder, rows, header="file,label"):
    path = folder / "labels.csv"
    path.write_text(header + "\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("column", ["label", "Class", "TARGET", "diagnosis"])
def test_the_only_column_with_a_usual_name_is_the_label(tmp_path, column):
    found, labels = _labelled(_file(tmp_path, meta={column: CASES.labels, "age": ["50"] * 40}))
    assert found.name == column
    assert labels == _expected()
    assert "age" in found.meta


def test_two_usual_names_are_ambiguous(tmp_path):
    path = _file(tmp_path, meta={"label": CASES.labels, "grade": CASES.labels})
    with pytest.raises(CohortError, match="several columns could be meant: grade, label"):
        _labelled(path)
    assert _labelled(path, label="grade")[0].name == "grade"
    with pytest.raises(CohortError, match="no column 'stage'") as caught:
        _labelled(path, label="stage")
    assert "grade, label" in caught.value.remedy


def test_class_folders(tmp_path):
    names = [f"{label}/im{k:02d}.png" for k, label in enumerate(CASES.labels)]
    found, labels = _labelled(_file(tmp_path, names))
    assert found.name == "class folders"
    assert set(labels.values()) == {"class0", "class1"}
    assert all(name.startswith(label) for name, label in labels.items())


def test_split_folders_are_no_classes(tmp_path):
    names = [f"{'train' if k % 3 else 'test'}/{label}/im{k:02d}.png" for k, label in enumerate(CASES.labels)]
    assert set(_labelled(_file(tmp_path, names))[1].values()) == {"class0", "class1"}


def test_two_levels_of_folders_are_ambiguous(tmp_path):
    path = _file(tmp_path)
    with pytest.raises(CohortError, match="several levels of class folders") as caught:
        _labelled(path)
    assert "--label folder:1" in caught.value.remedy
    assert _labelled(path, label="folder:1")[1] == _expected()
    assert set(_labelled(path, label="folder:-1")[1].values()) == {"sub0", "sub1", "sub2"}


def test_nothing_that_could_be_a_label(tmp_path):
    path = _file(tmp_path, [f"im{k:02d}.png" for k in range(40)], meta={"age": ["50"] * 40})
    with pytest.raises(CohortError, match=r"no label column \(columns: age, modality\) and no class folders"):
        _labelled(path)


@pytest.mark.parametrize(
    "write",
    [
        lambda name: name,
        lambda name: name[:-4],
        lambda name: name.rpartition("/")[2],
        lambda name: name.rpartition("/")[2][:-4],
        lambda name: "/data/study/" + name,
        lambda name: ".\\" + name.replace("/", "\\"),
    ],
    ids=["path", "id", "file name", "stem", "longer path", "windows"],
)
def test_label_rows_match_by_id_path_or_stem(tmp_path, write):
    rows = [f"{write(name)},{label}" for name, label in zip(NAMES, CASES.labels, strict=True)]
    found, labels = _labelled(_file(tmp_path), labels=_table(tmp_path, reversed(rows)))
    assert labels == _expected()
    assert found.name == "labels.csv: label"


def test_semicolons_and_a_single_further_column(tmp_path):
    rows = [f"{name};{label}" for name, label in zip(NAMES, CASES.labels, strict=True)]
    assert _labelled(_file(tmp_path), labels=_table(tmp_path, rows, "Image;histology"))[1] == _expected()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file;label\na;kränklich\n".encode("cp1252"), "line 2 is not UTF-8 text"),
        (b"PK\x03\x04\x14\x00", "a spreadsheet, not a CSV file"),
        (b"file,label,label\na,x,y\n", "several columns are called 'label'"),
        (b"", "no rows"),
    ],
    ids=["windows", "excel", "twice", "empty"],
)
def test_tables_that_are_not_read(tmp_path, content, message):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(CohortError, match=message) as caught:
        _labelled(_file(tmp_path), labels=tmp_path / "labels.csv")
    assert caught.value.remedy


def test_unmatched_rows_both_ways(tmp_path):
    path = _file(tmp_path)
    rows = [f"{name},{label}" for name, label in zip(NAMES, CASES.labels, strict=True)]
    more = _table(tmp_path, [*rows, "gone.png,class0"])
    with pytest.raises(CohortError, match=r"1 of 41 rows name no item of the features: gone\.png"):
        _labelled(path, labels=more)
    found, labels = _labelled(path, labels=more, unmatched="skip")
    assert labels == _expected()
    assert found.left_out == "1 label rows without item"
    fewer = _table(tmp_path, rows[2:])
    with pytest.raises(CohortError, match="2 of 40 items have no label row: class0/sub0/im00, class0/sub1/im01"):
        _labelled(path, labels=fewer)
    found, labels = _labelled(path, labels=fewer, unmatched="skip")
    assert len(labels) == 38
    assert found.left_out == "2 items without label row"


def test_rows_that_fit_several_items_or_one_item_twice(tmp_path):
    names = ["a/im.png", "b/im.png", *NAMES[2:]]
    path = _file(tmp_path, names)
    rows = [f"{name},{label}" for name, label in zip(names, CASES.labels, strict=True)]
    with pytest.raises(CohortError, match=r"'im.png' fits 2 items"):
        _labelled(path, labels=_table(tmp_path, ["im.png,class0", *rows[1:]]))
    with pytest.raises(CohortError, match="two rows describe 'a/im'"):
        _labelled(path, labels=_table(tmp_path, [rows[0], *rows]))


def test_empty_label_cells(tmp_path):
    labels = ["", "NaN", *CASES.labels[2:]]
    path = _file(tmp_path, meta={"label": labels})
    with pytest.raises(CohortError, match="2 of 40 items have no label: class0/sub0/im00"):
        _labelled(path)
    found, _ = _labelled(path, unmatched="skip")
    assert len(found.items) == 38
    assert found.left_out == "2 items with an empty label"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["x"] * 40, "the label column is constant: every item is 'x'"),
        (["rare", "rare", *["a", "a", "b", "b"] * 9, "a", "a"], "class 'rare' has 1 patient: it cannot stand in"),
        (["a", "b"] * 20, "20 of 20 patients stand in two classes: p000 is a and b"),
        ([str(k) for k in range(40)], "40 different whole numbers, too many to be taken for classes"),
    ],
    ids=["constant", "one patient", "two classes", "many numbers"],
)
def test_labels_that_make_no_study(tmp_path, labels, message):
    path = _file(tmp_path, meta={"label": labels})
    with pytest.raises(CohortError, match=message) as caught:
        probe_file(path, settings=QUICK)
    assert caught.value.exit_code == 2
    assert caught.value.remedy


def test_patients_come_from_the_file_a_column_or_nowhere(tmp_path):
    path = _file(tmp_path, meta={"label": CASES.labels, "case": [f"Doe{p}" for p in CASES.patients]})
    by_id = [patient for _, patient in sorted(zip(NAMES, CASES.patients, strict=True))]
    assert _labelled(path)[0].patients.tolist() == by_id
    column = _labelled(path, patient="case")[0].patients
    assert set(column.tolist()) == {f"P{k:04d}" for k in range(1, 21)}
    assert _labelled(path, patient="none")[0].patients is None


def test_a_usual_patient_column_is_taken_where_the_file_has_none_and_never_shown(tmp_path):
    path = _file(tmp_path, meta={"label": CASES.labels, "pid": [f"Doe{p}" for p in CASES.patients]}, patients=None)
    found, _ = _labelled(path)
    assert len(set(found.patients.tolist())) == 20
    assert not any("Doe" in name for name in found.patients.tolist())
    result = probe_file(path, settings=QUICK)
    assert result.cohort.patients_known


def test_no_patient_information_is_said(tmp_path):
    result = probe_file(_file(tmp_path, meta={"label": CASES.labels}, patients=None), settings=QUICK)
    assert not result.cohort.patients_known
    assert result.warnings[0].startswith("No patient information: every item is taken as its own patient")


def test_items_without_rows_are_left_out_and_counted(tmp_path):
    rows = [CASES.features[k : k + 1] if k else np.empty((0, 6), np.float32) for k in range(40)]
    path = write_features(tmp_path / "feats.h5", rows, NAMES, meta={"label": CASES.labels}, patients=CASES.patients)
    result = probe_file(path, settings=QUICK)
    assert len(result.cohort.ids) == 39
    steps = [(step.name, step.items, step.patients, step.note) for step in result.flow[:3]]
    assert steps == [("inputs", 40, 0, ""), ("embedded", 39, 20, "1 without rows"), ("with a label", 39, 20, "")]


def test_tiles_train_and_items_are_scored(tmp_path):
    rng = np.random.default_rng(0)
    rows = [CASES.features[k] + 0.1 * rng.normal(size=(1 + k % 4, 6)).astype(np.float32) for k in range(40)]
    path = write_features(tmp_path / "feats.h5", rows, NAMES, meta={"label": CASES.labels}, patients=CASES.patients)
    chosen = ProbeSettings(unit="tile", fractions=(1.0,), bootstrap=100)
    table = read_table(path)
    cohort = cohort_of(table, label_items(table), chosen)
    assert len(cohort.rows) == sum(map(len, rows))
    np.testing.assert_allclose(cohort.embedding, table.pooled(np.arange(40), "mean"), atol=1e-6)
    result = probe_file(path, settings=chosen)
    assert result.estimate("linear", "100 %", "auroc").test_items == 12
    assert table.pooled(np.arange(40), "mean+std").shape == (40, 12)
    np.testing.assert_allclose(table.pooled(np.asarray([3]), "max")[0], table.rows(np.asarray([3]))[0].max(axis=0))


def test_the_patient_as_unit(tmp_path):
    path = _file(tmp_path, meta={"label": CASES.labels})
    result = probe_file(path, settings=ProbeSettings(unit="patient", fractions=(1.0,), bootstrap=100))
    assert len(result.cohort.ids) == 20
    assert result.estimate("knn", "100 %", "accuracy").test_items == 6


def test_tasks_are_inferred():
    assert infer_task(["a", "b"]) == "binary"
    assert infer_task(["0", "1", "2"]) == "multiclass"
    assert infer_task(["0.5", "1", "2.25"]) == "regression"
    assert infer_task(["a|b", "a"]) == "multilabel"
    assert encode(["10", "9", "9"], "auto").classes == ("9", "10")
    assert encode(["a; b", "", "b"], "multilabel").truth.tolist() == [[1, 1], [0, 0], [0, 1]]
    with pytest.raises(CohortError, match="numeric grades"):
        encode(["low", "high", "mid"], "ordinal")
    with pytest.raises(CohortError, match="needs numbers, and 'x' is none"):
        encode(["1", "x"], "regression")


def test_not_a_feature_file(tmp_path):
    with pytest.raises(SetupError):
        read_table(tmp_path / "none.h5")


def test_files_of_other_images_are_not_compared(tmp_path):
    meta = {"label": CASES.labels}
    first = _file(tmp_path, meta=meta)
    (tmp_path / "b").mkdir()
    other = _file(tmp_path / "b", meta=meta, content=[f"other{k}" for k in range(40)])
    with pytest.raises(CohortError, match="40 items have the same id but other content"):
        compare_files([first, other], settings=QUICK)
    (tmp_path / "c").mkdir()
    fewer = write_features(tmp_path / "c" / "fewer.h5", list(CASES.features[:36, None]), NAMES[:36])
    with pytest.raises(CohortError, match=r"fewer.h5: 4 of 40 labelled items are not in it"):
        compare_files([first, fewer], settings=QUICK)
    shared = compare_files([first, fewer], settings=QUICK, unmatched="skip")
    assert len(shared.results[0].cohort.ids) == 36


def test_items_can_be_pseudonyms_in_every_file(tmp_path, monkeypatch, capsys):
    """File names of a hospital name patients: with --item-pseudonyms none of them leaves, and splits still return."""
    monkeypatch.setenv("UMEDFEAT_ID_KEY", str(tmp_path / "site.key"))
    (tmp_path / "site.key").write_text("k" * 64)
    (tmp_path / "site.key").chmod(0o600)
    cases = gaussian_cases(20, 1, 6)
    names = [f"Mustermann-{k:02d}.png" for k in range(20)]
    path = write_features(tmp_path / "f.h5", list(cases.features[:, None]), names, meta={"label": cases.labels})
    arguments = ["probe", "-f", str(path), "--fraction", "1", "--item-pseudonyms", "--out"]
    assert run([*arguments, str(tmp_path / "a")]) == 0
    capsys.readouterr()
    for file in (tmp_path / "a").rglob("*"):
        assert file.is_dir() or b"Mustermann" not in file.read_bytes(), file.name
    again = ["probe", "-f", str(path), "--item-pseudonyms", "--splits", str(tmp_path / "a" / "splits.json")]
    assert run([*again, "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a" / "predictions.csv").read_bytes() == (tmp_path / "b" / "predictions.csv").read_bytes()
