"""``umedfeat similar`` from an image to a page with pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pages import checked_links
from PIL import Image

from umedfeat.cli import run


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures whose brightness rises, embedded."""
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "in").mkdir()
    (folder / "key").write_text("a secret of the test suite")
    (folder / "key").chmod(0o600)
    noise = np.random.default_rng(0).integers(0, 60, (80, 80, 3))
    rows = ["path,patient,label"]
    for k in range(6):
        Image.fromarray((noise + 30 * k).astype(np.uint8)).save(folder / "in" / f"i{k}.png")
        rows.append(f"in/i{k}.png,p{k // 2},{'low' if k < 3 else 'high'}")
    (folder / "study.csv").write_text("\n".join(rows))
    arguments = ["extract", "-i", str(folder / "study.csv"), "-o", str(folder / "feats.h5")]
    arguments += ["--encoder", "efficientnet-lite0", "--device", "cpu", "--workers", "1", "--progress", "none"]
    assert run([*arguments, "--id-key", str(folder / "key")]) == 0
    return folder


def _similar(cohort: Path, *options: str) -> int:
    return run(["similar", "-f", str(cohort / "feats.h5"), "--id-key", str(cohort / "key"), *options])


def test_items_of_other_patients(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert _similar(cohort, "in/i2", "--other-patients", "--json", "--out", str(tmp_path / "out")) == 0
    hits = json.loads(capsys.readouterr().out)
    assert {hit["item"] for hit in hits} == {"in/i0", "in/i1", "in/i4", "in/i5"}
    assert [hit["cosine"] for hit in hits] == sorted((hit["cosine"] for hit in hits), reverse=True)
    with (tmp_path / "out" / "similar.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == [hit["item"] for hit in hits]
    assert {row["label"] for row in rows} == {"low", "high"}


def test_a_new_image_finds_itself_with_its_picture(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    options = ["--unit", "tile", "--images", str(cohort / "study.csv"), "--top", "2", "--device", "cpu", "--out", out]
    assert _similar(cohort, str(cohort / "in" / "i3.png"), *options) == 0
    assert "1     1.0000  in/i3" in capsys.readouterr().out
    links = checked_links((tmp_path / "out" / "index.html").read_text())
    assert len(links) == 2 and all(link.startswith("data:image/png") for link in links)


def test_an_unknown_item_is_told(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _similar(cohort, "in/i9") == 2
    assert "did you mean" in capsys.readouterr().err
