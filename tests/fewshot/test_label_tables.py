"""Tables of labels as people keep them: how rows name items, what means that nobody knows, whose items are whose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from umedfeat.arrays import Texts
from umedfeat.errors import CohortError
from umedfeat.fewshot import probe
from umedfeat.fewshot.cohort.doubts import doubts
from umedfeat.fewshot.cohort.hospital import LabelTable
from umedfeat.fewshot.cohort.labelled import Labelled
from umedfeat.fewshot.cohort.labels import encode
from umedfeat.fewshot.cohort.matching import matched_items
from umedfeat.fewshot.cohort.sources import label_items


class _Table:
    """What the label tables ask of a feature file."""

    def __init__(self, sources: Sequence[str], patients: Sequence[str] = (), meta: Mapping[str, Texts] | None = None):
        self.path = Path("feats.h5")
        self.sources = np.asarray(sources)
        self.ids = np.asarray([name.removesuffix(".png") for name in sources])
        self.patients = np.asarray(patients or [""] * len(sources))
        self.meta = meta or {}


NAMES = ["b/1.png", "b/2.png", "b/3.png", "b/4.png"]


def _match(sources: Sequence[str], keys: Sequence[str]) -> list[int]:
    items, rows = matched_items(_Table(sources), keys, "labels.csv", "stop")  # type: ignore[arg-type]
    assert items.tolist() == list(range(len(sources)))
    return rows


def _read(folder: Path, content: str | bytes, label: str = "", **table: list[str]) -> Labelled:
    path = folder / "labels.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return label_items(_Table(NAMES, **table), labels=LabelTable(path), label=label)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["b/{}.png", "b/{}", "{}.jpg", "/mnt/b/{}.png", "C:\\x\\b\\{}.png", "./b/{}"])
def test_a_row_may_name_more_or_fewer_folders(key):
    assert _match(NAMES, [key.format(k) for k in (1, 2, 3, 4)]) == [0, 1, 2, 3]


@pytest.mark.parametrize("key", ["a/{}.png", "/mnt/a/{}", "xb/{}"])
def test_a_row_of_another_folder_is_not_the_item_of_that_name(key):
    with pytest.raises(CohortError, match="4 of 4 rows name no item"):
        _match(NAMES, [key.format(k) for k in (1, 2, 3, 4)])


def test_an_item_s_own_name_comes_before_the_end_of_another_s():
    assert _match(["7.png", "a/7.png"], ["7", "a/7"]) == [0, 1]


_ROWS = [("b/1", "x"), ("b/2", "y"), ("b/3", "x"), ("b/4", "y")]


@pytest.mark.parametrize(
    "content",
    [
        "id,label,,\n" + "".join(f"{a},{b},,\n" for a, b in _ROWS),
        "sep=;\nid;label\n" + "".join(f"{a};{b}\n" for a, b in _ROWS),
        'id,label,"a;b;c;d"\n' + "".join(f"{a},{b},\n" for a, b in _ROWS),
        "id|label\n" + "".join(f"{a}|{b}\n" for a, b in _ROWS),
        "id,label\r" + "".join(f"{a},{b}\r" for a, b in _ROWS),
    ],
    ids=["empty columns at the end", "delimiter declared", "delimiters in quotes", "bars", "carriage returns"],
)
def test_tables_as_programs_write_them(tmp_path, content):
    assert _read(tmp_path, content).labels.tolist() == ["x", "y", "x", "y"]


def test_lines_are_counted_with_the_one_that_declares_the_delimiter(tmp_path):
    with pytest.raises(CohortError, match="line 3: more cells"):
        _read(tmp_path, "sep=;\nid;label\nb/1;x;z\n")


@pytest.mark.parametrize("cell", ["N.A.", "#N/A", "<NA>", "not available", "[Not Available]", "#VALUE!", "missing"])
def test_cells_without_a_label(tmp_path, cell):
    with pytest.raises(CohortError, match="1 of 4 items have no label"):
        _read(tmp_path, f"id,label\nb/1,x\nb/2,{cell}\nb/3,x\nb/4,y\n")


@pytest.mark.parametrize(
    ("labels", "task", "doubtful"),
    [
        (["a", "b", "Unknown"], "auto", ["Unknown"]),
        (["a", "b", "-"], "auto", ["-"]),
        (["+", "-", "+"], "auto", []),
        (["0", "1", "-1"], "auto", ["-1"]),
        (["1", "-1", "1"], "auto", []),
        (["0", "1", "2", "999"], "auto", ["999"]),
        (["low", "mid", "-9"], "auto", ["-9"]),
        (["1.5", "2.5", "-99"], "regression", ["-99"]),
        (["-1.5", "2.5", "-9", "98"], "regression", []),
    ],
)
def test_classes_and_values_that_may_mean_unknown_are_named(labels, task, doubtful):
    found = " ".join(doubts(encode(labels, task)))
    assert [name for name in set(labels) if f"{name!r} may mean" in found] == doubtful


def test_numbers_with_zeros_in_front_are_noted():
    assert "'01' and '1' differ" in " ".join(doubts(encode(["1", "01", "2"], "auto")))


def test_spellings_of_one_patient_are_one(tmp_path):
    found = _read(tmp_path, "id,label,patient\nb/1,x,7\nb/2,x,007\nb/3,y,8.0\nb/4,y,8\n")
    assert found.patients is not None and found.patients.tolist() == ["P0001", "P0001", "P0002", "P0002"]


def test_an_asked_patient_column_of_the_table_is_taken_and_a_coarser_one_noted(tmp_path):
    text = "id,label,patient\nb/1,x,A\nb/2,x,A\nb/3,y,B\nb/4,y,C\n"
    kept = _read(tmp_path, text, patients=list("wxyz"))
    assert kept.patients is not None and kept.patients.tolist() == list("wxyz")
    assert "Column 'patient' holds 1 patients" in kept.notes[0]
    table = _Table(NAMES, patients=list("wxyz"))
    asked = label_items(table, labels=LabelTable(tmp_path / "labels.csv"), patient="patient")  # type: ignore[arg-type]
    assert asked.patients is not None and asked.patients.tolist() == ["P0001", "P0001", "P0002", "P0003"]
    assert not _read(tmp_path, text, patients=list("wwyz")).notes


def test_few_features_are_near_each_other_by_chance(seed):
    rows = np.random.default_rng(seed).normal(size=(60, 1)).astype(np.float32)
    result = probe(rows, ["ab"[k % 2] for k in range(60)], fractions=(1.0,), classifiers=("prototype",), bootstrap=100)
    assert not any("identical" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("labels", "task", "said"),
    [
        ([f"case {k}" for k in range(20)], "auto", "20 of 20 classes have fewer than 2 patients.*another column"),
        ([f"{k},5" for k in range(20)], "regression", "'0,5' is none.*decimals with a point"),
    ],
)
def test_a_column_that_is_no_label_is_told_as_one(seed, labels, task, said):
    rows = np.random.default_rng(seed).normal(size=(20, 6)).astype(np.float32)
    with pytest.raises(CohortError, match=said):
        probe(rows, labels, task=task, fractions=(1.0,), bootstrap=100)
