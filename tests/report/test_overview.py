"""The page of a cohort: its facts are those of the file, whatever the file holds."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pages import checked_links
from PIL import Image
from store_cases import DIM, header, item, write

import umedfeat
from umedfeat.cli import run
from umedfeat.errors import SetupError
from umedfeat.report.figures.embedding_map import embedding_map
from umedfeat.report.figures.histogram import histogram
from umedfeat.report.overview import overview_of
from umedfeat.report.preview.cards import picture_name
from umedfeat.store import Item


def _item(name: str, patient: str, features: np.ndarray, **columns: str) -> Item:
    made = item(name, len(features), slide=False)
    return replace(made, source=replace(made.source, patient=patient, meta=columns), features=features)


@pytest.fixture(scope="module")
def feats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 films of 20 patients, a copy under another patient, one far away, two slides, one of them empty."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, DIM)).astype(np.float32)
    rows[7] += 40
    items = [
        _item(f"film{k:02d}", f"p{k // 2}", rows[k : k + 1], finding=["<b>mass</b>", "none"][k % 2], age=str(30 + k))
        for k in range(40)
    ]
    items.append(_item("film99", "stranger", rows[3:4], finding="none", age=""))
    items += [item("slide", 5), item("slide-empty", 0)]
    out = tmp_path_factory.mktemp("cohort") / "feats.h5"
    return write(out, items, settings=header(), failures=["broken.svs"], skipped=["notes.txt", "more.txt"])


def test_facts(feats: Path) -> None:
    found = overview_of(feats)
    assert (found.items, found.regions, found.patients) == (43, 46, 22)
    assert [(kind.modality, kind.format, kind.items) for kind in found.kinds] == [
        ("photo", "png", 41),
        ("WSI", "aperio", 1),
    ]
    assert found.kinds[1].mpp == (0.25, 0.25, 0.25)
    assert [(pair.first, pair.second, pair.how, pair.apart) for pair in found.pairs] == [
        ("film03", "film99", "identical", True)
    ]
    assert [each.item for each in found.outliers] == ["film07"] and found.outliers[0].times > 5
    assert found.empty == ("slide-empty",) and found.judged == 41
    assert found.failures[0][:2] == ("broken.svs", "truncated") and found.skipped == {"not an image": 2}
    assert list(found.columns) == ["finding", "modality"]
    assert len(found.tissue) == 5


def test_the_page_holds_them_and_nothing_from_elsewhere(feats: Path, tmp_path: Path) -> None:
    umedfeat.overview(feats, tmp_path / "one.html", by=("finding", "age", "mpp_x"))
    page = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert all(link.startswith("data:") for link in checked_links(page))
    words = " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.S).split())
    assert "nan" not in words.lower().split() and "<b>mass" not in page and "&lt;b&gt;mass" in page
    for said in (
        "42 of 44 inputs of 22 patients",
        "different patients",
        "film07",
        "slide-empty",
        "broken.svs truncated",
        "2 not an image",
    ):
        assert said in words
    assert "39.75 to 49.5" in words or "to 69" in words  # a column of many numbers is shown by its quarters
    umedfeat.overview(feats, tmp_path / "again.html", by=("finding", "age", "mpp_x"))
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "one.html").read_bytes()


def test_pictures_of_a_preview_stand_beside_the_names(feats: Path, tmp_path: Path) -> None:
    for name in ("film03", "film07", "film20"):
        path = tmp_path / picture_name(name)
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (8, 8)).save(path)
    umedfeat.overview(feats, tmp_path / "page.html", preview=tmp_path)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") >= 2 and "A walk along the first component" in page


def test_the_command_tells_what_deserves_a_look(
    feats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(feats), "--out", str(tmp_path / "page.html")]) == 0
    told = capsys.readouterr().out
    assert "1 pair of items of different patients is one image" in told and "1 input failed." in told
    assert run(["report", str(feats), "--out", str(tmp_path / "page.html"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["copies"] == [["film03", "film99", "identical", True]] and facts["empty"] == ["slide-empty"]


def test_refused_by_name(feats: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no column 'colour'"):
        umedfeat.overview(feats, tmp_path / "page.html", by=("colour",))
    empty = write(tmp_path / "empty.h5", [item("a", 0)])
    with pytest.raises(SetupError, match="no item has a region"):
        umedfeat.overview(empty)


def test_what_has_no_value_is_grey_and_last() -> None:
    plane = np.arange(12, dtype=np.float64).reshape(6, 2)
    groups = np.array(["", "b", "", "a", "b", "a"])
    figure, key = embedding_map(plane, (0.5, 0.2), groups, "Items by label")
    assert [name for _, name in key] == ["a", "b", "unknown"] and key[-1][0] == "none"
    assert str(figure).count('class="dot none point"') == 2
    assert str(figure).rindex("none point") < str(figure).index("s0 point")  # the others lie above it


def test_groups_that_are_numbers_stand_in_their_order() -> None:
    """Quarters of a count: as text "9 to 11" came last."""
    groups = np.array(["11 to 14", "0 to 9", "1,400 to 2,700", "9 to 11", "other"] * 4)
    _, key = embedding_map(np.random.default_rng(0).normal(size=(20, 2)), (0.5, 0.2), groups, "Items by label")
    assert [name for _, name in key] == ["0 to 9", "9 to 11", "11 to 14", "1,400 to 2,700", "other"]


def test_a_short_logarithmic_axis_has_more_than_one_tick() -> None:
    figure = str(histogram(np.array([2.0, 7.0, 51.0]), "regions of an item", "items", log=True))
    ticks = re.findall(r">([\d,]+)</text>", figure)
    assert [tick for tick in ("2", "5", "10", "20", "50") if tick not in ticks] == []


def test_items_of_one_region_do_not_hide_the_others(tmp_path: Path) -> None:
    items = [item(f"slide{k}", 2 + k) for k in range(3)] + [item(f"film{k}", 1, slide=False) for k in range(30)]
    umedfeat.overview(write(tmp_path / "feats.h5", items, settings=header()), tmp_path / "page.html")
    assert "30 items of one region are not drawn" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_powers_of_ten_are_the_ticks_of_a_logarithmic_axis() -> None:
    figure = str(histogram(np.array([1.0, 3.0, 250.0, 4000.0]), "regions of an item", "items", log=True))
    assert all(f">{tick}<" in figure for tick in ("1", "10", "100", "1,000"))
