"""The page of a study: what stands on it, for every kind of target, and what must not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import checked_links
from PIL import Image
from study_cases import gaussian_cases, write_features

import umedfeat
from umedfeat.cli import run
from umedfeat.fewshot import ProbeSettings
from umedfeat.fewshot.result import ProbeResult
from umedfeat.report.figures.axes import Axes, linear_ticks
from umedfeat.report.figures.embedding_map import MOST_POINTS, principal_plane
from umedfeat.report.headline import headlines
from umedfeat.report.methods import methods_text
from umedfeat.report.preview.cards import picture_name
from umedfeat.report.study_page import render_report, write_report
from umedfeat.report.tables import render_study
from umedfeat.report.templating import page_environment

SETTINGS = {"fractions": (0.2, 1.0), "bootstrap": 100, "repeats": 3}


def checked(page: str) -> str:
    assert all(link.startswith("data:") for link in checked_links(page))
    assert "nan" not in re.sub(r"<[^>]*>", " ", page).lower().split()
    return page


def study(classes: int = 3, names: list[str] | None = None, **settings: object) -> ProbeResult:
    cases = gaussian_cases(30, 2, 8, classes=classes)
    labels = [(names or [f"class{k}" for k in range(classes)])[code] for code in cases.codes]
    meta = {"centre": ["A" if int(p[1:]) % 3 else "B" for p in cases.patients]}
    chosen = ProbeSettings(**{**SETTINGS, **settings})  # type: ignore[arg-type]
    return umedfeat.probe(cases.features, labels, cases.patients, meta=meta, settings=chosen)


def test_labels_are_text_whatever_they_hold() -> None:
    page = checked(render_report(study(3, ["<script>alert(1)</script>", "a & b", '"quoted"'])))
    assert "<script" not in page and "&lt;script&gt;" in page and "a &amp; b" in page


def test_the_headline_holds_the_numbers_of_the_result() -> None:
    result = study(2)
    row = result.estimate("linear", result.budgets[0].name, "macro_f1")
    page = checked(render_report(result))
    headline = re.search(r'<p class="headline">(.*?)</p>', page)
    assert headline is not None
    assert f'{row.value:.3f} <span class="kept">[{row.low:.3f}, {row.high:.3f}]</span>' in headline.group(1)
    assert f"tested on {row.test_patients} patients ({row.test_items} items)" in headline.group(1)
    assert f"single draws of {result.budgets[0].n_patients} reach {row.minimum:.3f} to {row.maximum:.3f}" in page
    assert f"<td>±{row.sd:.3f}<small>{row.minimum:.3f} to {row.maximum:.3f}</small></td>" in page


def test_options_and_intervals_are_not_broken_between_lines() -> None:
    page = checked(render_report(study(2, cv=3, cv_repeats=2, fractions=(1.0,))))
    assert 'P-values need <span class="kept">--permutations</span>.' in page
    assert "It matters how the folds fall: single partitions reach" in page and "whom one labels:" not in page
    assert "&lt;b&gt; [1, 2]" in re.sub("</?span[^>]*>", "", page_environment().filters["unbroken"]("<b> [1, 2]"))


def test_not_everybody_is_said_of_a_few() -> None:
    said = {}
    for name, options in {"shots": {"shots": (1, 4), "fractions": ()}, "everybody": {"fractions": (0.2, 1.0)}}.items():
        said[name] = headlines(study(2, classifiers=("prototype",), **options))[0]
    assert "; with 8 (4\N{NO-BREAK SPACE}shots)" in said["shots"] and "with all" in said["everybody"]


def test_the_confusion_counts_every_test_item() -> None:
    result = study(3, classifiers=("linear",))
    page = checked(render_report(result))
    table = re.search(r'<table class="confusion">.*?</table>', page, re.DOTALL)
    assert table is not None
    counts = [float(n) for n in re.findall(r"</b> ([\d.]+)</td>", table.group(0))]
    assert sum(counts) == result.estimates[0].test_items


def test_a_drop_between_centres_is_a_headline() -> None:
    result = study(2, external="centre=B")
    page = checked(render_report(result))
    assert len(re.findall('class="headline"', page)) == 3
    assert "Left out, centre=B: macro-F1" in page
    drop = next(d for d in result.drops if (d.classifier, d.metric, d.budget) == ("linear", "macro_f1", "100 %"))
    bounds = (drop.low, drop.high) if drop.drop >= 0 else (-drop.high, -drop.low)
    assert f"by {abs(drop.drop):.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}]" in re.sub("</?span[^>]*>", "", page)
    assert "coloured by centre" in page


def test_each_centre_left_out_has_the_patients_that_its_own_pool_trained() -> None:
    """Pools differ in size: the first one's number stood at every test set."""
    result = study(2, loco="centre")
    sizes = {name: len(fold.pool) for fold in result.folds for name in fold.tests}
    assert len(set(sizes.values())) == 2
    page = checked(render_report(result))
    for test_set, size in sizes.items():
        assert result.budgets_of(test_set)[-1].n_patients == size
        assert f"{size} patients, 1 draw<" in page
        table = render_study(result).split(f"{test_set}: ")[1].split("from 0 to 1")[0]
        assert re.search(rf"100 % +{size} +linear", table)
    both = " or ".join(map(str, dict.fromkeys(sizes.values())))
    assert f"drawn from the remaining {both} at random" in " ".join(methods_text(result).split())


def test_drops_have_a_table_with_their_intervals() -> None:
    result = study(2, loco="centre")
    page = checked(render_report(result))
    table = page.split('id="drops"')[1].split("</table>")[0]
    shown = [drop for drop in result.drops if drop.metric == result.primary]
    assert table.count("<tr>") == 1 + len(shown)
    for drop in shown:
        bounds = f"<small>{drop.low:+.3f} to {drop.high:+.3f}</small>" if np.isfinite(drop.low) else ""
        assert f"{drop.drop:+.3f}{bounds}</td>" in table
    assert 'id="drops"' not in render_report(study(2))


def test_regression_and_multilabel_have_pages_of_their_own() -> None:
    cases = gaussian_cases(30, 2, 8)
    settings = ProbeSettings(task="regression", label_of="item", **SETTINGS)  # type: ignore[arg-type]
    truth = cases.features[:, 0] * 2
    page = checked(render_report(umedfeat.probe(cases.features, truth, cases.patients, settings=settings)))
    assert "true value" in page and "sensitivity" not in page
    settings = ProbeSettings(task="multilabel", label_of="item", **SETTINGS)  # type: ignore[arg-type]
    both = (cases.features[:, :2] > 0).astype(int)
    page = checked(render_report(umedfeat.probe(cases.features, both, cases.patients, settings=settings)))
    assert "sensitivity" in page and 'class="confusion"' not in page.split("</style>")[1]


def test_mistakes_show_the_pictures_of_a_preview(tmp_path: Path) -> None:
    result = study(3)
    (tmp_path / "pictures").mkdir()
    for item in result.cohort.ids:
        Image.new("RGB", (4, 4)).save(tmp_path / picture_name(str(item)))
    with_pictures = checked(render_report(result, preview=tmp_path))
    assert "data:image/png;base64," in with_pictures and "taken for" in with_pictures
    assert "data:image" not in render_report(result)


def test_the_command_writes_it_without_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = gaussian_cases(20, 2, 8)
    names = [f"{label}/{k}.png" for k, label in enumerate(cases.labels)]
    features = write_features(tmp_path / "feats.h5", list(cases.features[:, None]), names, patients=cases.patients)
    assert run(["probe", "-f", str(features), "--fraction", "0.5"]) == 0
    page = checked((tmp_path / "probe" / "report.html").read_text(encoding="utf-8"))
    assert str(tmp_path) not in page
    assert "report.html" in capsys.readouterr().out


def test_write_report_makes_the_folder(tmp_path: Path) -> None:
    path = write_report(study(2), tmp_path / "new")
    assert path.name == "report.html" and path.stat().st_size < 300_000


def test_budgets_of_the_same_patients_share_a_tick() -> None:
    page = checked(render_report(study(3, fractions=(0.01, 0.02, 1.0))))
    assert ">1 %, 2 %</text>" in page


def test_large_cohorts_are_thinned_and_it_is_said() -> None:
    cases = gaussian_cases(1600, 2, 4)
    settings = ProbeSettings(fractions=(0.01,), bootstrap=100, repeats=1, classifiers=("prototype",))
    page = checked(render_report(umedfeat.probe(cases.features, cases.labels, cases.patients, settings=settings)))
    assert f"{MOST_POINTS} items" in page
    assert page.count("point") <= MOST_POINTS + 50


def test_the_plane_is_that_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    rows = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32) * np.arange(1, 7, dtype=np.float32)
    plane, shares = principal_plane(rows)
    reference = PCA(2).fit(rows.astype(np.float64))
    assert np.allclose(np.abs(plane), np.abs(reference.transform(rows.astype(np.float64))), atol=1e-4)
    assert np.allclose(shares, reference.explained_variance_ratio_)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 17.0), (0.61, 0.62), (0, 1e6)])
def test_ticks_are_few_and_within(low: float, high: float) -> None:
    places = [place for place, _ in linear_ticks(low, high)]
    assert 2 <= len(places) <= 7
    assert low - 1e-9 <= min(places) and max(places) <= high + 1e-9


def test_nothing_unbreakable_widens_a_narrow_page_and_no_tip_says_nan() -> None:
    page = render_report(study(2))
    assert "td.text { white-space: normal; min-width: min(14em, 40vw); overflow-wrap: anywhere; }" in page
    assert "nan]" not in page and "1 draws" not in page


def _quick(labels: Any, **options: Any) -> ProbeResult:
    cases = gaussian_cases(40, 1, 8)
    quick: dict[str, Any] = {"fractions": (1.0,), "bootstrap": 100, "classifiers": ("linear",)}
    return umedfeat.probe(cases.features, labels, cases.patients, **quick | options)


def test_a_centre_of_one_class_has_a_page_and_no_drop() -> None:
    labels = ["ab"[k % 2] for k in range(40)]
    centre = ["A" if k % 2 == 0 and k < 20 else "BC"[k // 2 % 2] for k in range(40)]
    result = _quick(labels, loco="centre", meta={"centre": centre})
    page, text = checked(render_report(result)), render_study(result)
    assert "nan" not in text.split() and "+nan" not in text and "undefined" in text
    assert "Left out, centre=A: macro-F1 is not defined there" in " ".join(text.split())
    assert page.count("Is acting on it worth it?") == 6


def test_class_names_that_steer_a_terminal_are_shown_as_they_are_written(tmp_path: Path) -> None:
    labels = [f"{'a' + chr(27) + '[31m' if k % 2 else chr(0x202E) + 'b'}" for k in range(40)]
    result = _quick(labels, meta={"centre": [chr(27) + "AB"[k // 2 % 2] for k in range(40)]}, subgroups=("centre",))
    write_report(result, tmp_path)
    for text in (render_study(result), (tmp_path / "report.html").read_text(encoding="utf-8")):
        assert chr(27) not in text and chr(0x202E) not in text
    assert result.cohort.classes == ("\\u202eb", "a\\u001b[31m")


def test_a_terminal_table_holds_only_what_is_there() -> None:
    outcome = np.stack([np.arange(1.0, 41.0), np.arange(40) % 2], axis=1)
    survival = render_study(_quick(outcome, task="survival"))
    assert survival.count("C-index") == 3 and "time to an event" in survival  # headline, table, curve
    assert "Mean over draws" not in survival
    everybody = methods_text(_quick(np.stack([np.arange(1.0, 41.0), np.ones(40)], axis=1), task="survival"))
    assert "was held out; no patient" in everybody and "at least one" not in everybody
    many = render_study(_quick([f"k{k // 2:02d}" for k in range(40)], on_missing_class="skip"))
    assert "20 classes: k00, k01, k02 … k19" in " ".join(many.split())


def test_where_draws_agree_it_does_not_matter_whom_one_labels() -> None:
    easy = gaussian_cases(40, 1, 8, shift=30.0)
    chosen = ProbeSettings(fractions=(0.1, 1.0), repeats=2, bootstrap=100, classifiers=("prototype",))
    assert "It matters" not in render_study(umedfeat.probe(easy.features, easy.labels, settings=chosen))


def test_p_values_that_were_computed_are_shown_and_not_advised() -> None:
    options: dict[str, Any] = {"cv": 2, "cv_repeats": 1, "classifiers": ("prototype",)}
    labels = ["ab"[k % 2] for k in range(40)]
    assert "P-values need" in render_study(_quick(labels, **options))
    text = " ".join(render_study(_quick(labels, permutations=19, **options)).split())
    assert "P-values need" not in text and "chance 0.500, p = " in text and "cross-validation" in text
    assert "repeated 1 times" not in methods_text(_quick(labels, **options))


def test_large_values_do_not_run_into_the_name_of_their_axis() -> None:
    short, long = (Axes((0, 1), (0, 1), [], [(0.5, text)], "x", "y", "t") for text in ("0.5", "123456789"))
    assert short.left == 64 and long.left > 95


def test_many_small_test_sets_are_one_note() -> None:
    labels = ["ab"[k % 2] for k in range(40)]
    centre = ["E" if k == 0 else "ABCD"[k // 2 % 4] for k in range(40)]
    notes = [note for note in _quick(labels, loco="centre", meta={"centre": centre}).warnings if "est set" in note]
    assert notes[0] == (
        "10 of 10 test sets hold fewer than 30 patients (1 to 12): their intervals are wide and approximate."
    )
    assert len(notes) == 2 and "'external centre=E' holds no patient of 'b'" in notes[1]
