"""The page of a comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pages import checked_links
from study_cases import gaussian_cases, write_features

import umedfeat
from umedfeat.cli import run
from umedfeat.report.tables import data_needed_sentence


def test_compare_writes_one_page_for_all_and_one_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = gaussian_cases(30, 2, 8, shift=2.0)
    noisy = cases.features + np.random.default_rng(0).normal(size=cases.features.shape).astype(np.float32)
    names = [f"{label}/{k}.png" for k, label in enumerate(cases.labels)]
    for encoder, rows in (("good<b>", cases.features), ("noisy", noisy)):
        path = tmp_path / f"{encoder[:5]}.h5"
        write_features(path, list(rows[:, None]), names, patients=cases.patients, encoder=encoder)
    files = [str(tmp_path / "good<.h5"), str(tmp_path / "noisy.h5")]
    options = ["--fraction", "0.2,1", "--repeats", "3", "--classifier", "prototype", "--out", str(tmp_path / "out")]
    assert run(["compare", *files, *options]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    links = checked_links(page)
    assert len(links) == 2 and all((tmp_path / "out" / link).is_file() for link in links)
    assert (tmp_path / "out" / "figures" / "data_efficiency_prototype_test.svg").is_file()
    assert "good&lt;b&gt;" in page and "<b>, prototype" not in page
    shown = capsys.readouterr().out
    answer, needed = (" ".join(part.split()) for part in shown.split("\n\n")[:2])
    assert answer.startswith("With ") and "good<b> does not clearly differ from noisy: macro-F1 1.000 against" in answer
    assert "reach" in needed and needed.split(": ", 1)[1] in page
    assert page.count("<tr><td>good&lt;b&gt;</td>") == 2


def test_two_test_patients_say_nothing_about_the_data_needed() -> None:
    cases = gaussian_cases(8, 1, 6)
    other = np.random.default_rng(1).normal(size=(8, 6)).astype(np.float32)
    found = umedfeat.compare(
        {"a": cases.features, "b": other}, cases.labels, fractions=(1.0,), bootstrap=100, classifiers=("prototype",)
    )
    assert np.isnan(found.data_needed[0].low) and "interval" not in data_needed_sentence(found.data_needed[0])
