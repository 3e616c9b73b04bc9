"""The pages for newcomers are typed in, command by command, on drawn images: each does what the page says."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import dicom_factory
import nifti_factory
import numpy as np
import pytest
import slide_factory
from PIL import Image

from umedfeat.cli import run

pytestmark = pytest.mark.slow

DOCS = Path(__file__).resolve().parents[1] / "docs"
#: Encoders whose weights are not here; what they would do the ImageNet one does.
STANDS_IN = {"uni2-h": "efficientnet-lite0", "rad-dino": "efficientnet-lite0"}
#: Installation, and what has tests of its own.
ELSEWHERE = ("pip", "umedfeat demo", "umedfeat doctor")


def commands(page: str) -> Iterator[list[str]]:
    """The words of every command of a page that the tests do not run elsewhere."""
    for block in re.findall(r"```console\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S):
        for line in re.findall(r"^\$ (.*)$", block, re.M):
            call = line.split("#")[0].strip()
            if not call.startswith(ELSEWHERE):
                yield shlex.split(call)[1:]


def typed(words: Sequence[str]) -> list[str]:
    """As on the page, with encoders that are installed, and no more draws than show that it works."""
    known = [STANDS_IN.get(word, word) for word in words]
    if known[0] in ("probe", "compare"):
        return [*known, "--repeats", "2", "--bootstrap", "100"]
    embeds = known[0] == "extract" and "--encoder" not in known
    return [*known, *(["--encoder", "efficientnet-lite0"] if embeds else [])]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "site.key").write_text("a secret of the test suite, quite long")
    (tmp_path / "site.key").chmod(0o600)
    monkeypatch.setenv("UMEDFEAT_ID_KEY", str(tmp_path / "site.key"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def slide(path: Path, malignant: bool, seed: int) -> None:
    pixels = slide_factory.tissue_like(512, 512, seed).astype(np.int16)
    pixels[..., 1] -= 45 * malignant
    path.parent.mkdir(exist_ok=True)
    slide_factory.write_slide(path, np.clip(pixels, 0, 255).astype(np.uint8), 0.5)


def test_pathology(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[list[object]] = [["path", "patient", "diagnosis", "centre"]]
    for k in range(24):
        slide(here / "slides" / f"{k}.tif", k % 2 == 1, k)
        rows.append([f"slides/{k}.tif", f"P{k:03d}", ("benign", "malignant")[k % 2], "AB"[k // 2 % 2]])
    table(here / "study.csv", rows)
    for k in range(2):
        slide(here / "new-slides" / f"n{k}.tif", k % 2 == 1, 100 + k)
    _type_in("pathology.md", capsys)
    for made in ("preview/index.html", "slides.html", "probe/report.html", "slides-clam/dataset.csv"):
        assert (here / made).is_file(), made
    for made in ("centre-b/report.html", "compare/report.html", "predict/index.html", "similar/index.html"):
        assert (here / made).is_file(), made
    assert (here / "slides-clam" / "splits" / "splits_0.csv").is_file() and list((here / "predict").glob("heatmaps/*"))


def xray(path: Path, effusion: bool, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(60, 120, (96, 96), dtype=np.uint8)
    pixels[60:] += np.uint8(90 * effusion)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_radiology(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_volumes(here)
    rows: list[list[object]] = [["path", "patient", "finding"]]
    for k in range(32):
        xray(here / "xray" / f"{k}.png", k % 2 == 1, k)
        rows.append([f"xray/{k}.png", f"P{k:03d}", ("normal", "effusion")[k % 2]])
    table(here / "xray.csv", rows)
    truth: list[list[object]] = [["id", "finding"]]
    for k in range(6):
        xray(here / "new-xray" / f"n{k}.png", k % 2 == 1, 100 + k)
        truth.append([f"n{k}", ("normal", "effusion")[k % 2]])
    table(here / "truth.csv", truth)
    _type_in("radiology.md", capsys)
    for made in ("preview/index.html", "ct.html", "lesions/report.html", "ris/report.html", "probe/report.html"):
        assert (here / made).is_file(), made
    for made in ("mr.h5", "nifti.h5", "predict/index.html", "validated/validation.csv"):
        assert (here / made).is_file(), made


def _write_volumes(here: Path) -> None:
    """An export, CT and MR series, NIfTI volumes with two lesions each, and the hospital's table."""
    ris: list[list[object]] = [["PatientID", "label"]]
    for k in range(12):
        where = [3.0 * k, 3.0 * k + 5, 3.0 * k + 10]
        tags = {"PatientID": f"ID-{k}", "RescaleIntercept": -1024 + 40 * (k % 2)}
        dicom_factory.series(here / "ct" / f"s{k}", where, **tags)
        ris.append([f"ID-{k}", ("healthy", "ill")[k % 2]])
    table(here / "ris.csv", ris)
    dicom_factory.series(here / "export" / "a", [0.0, 5.0, 10.0])
    dicom_factory.series(here / "mr" / "m", [0.0, 5.0, 10.0], "MR")
    lesions: list[list[object]] = [["path", "id", "patient", "mask", "roi", "finding"]]
    for folder in ("nifti", "seg"):
        (here / folder).mkdir()
    for k in range(10):
        data = nifti_factory.phantom(seed=k)
        mask = np.zeros(data.shape, np.uint8)
        mask[4:8, 4:8, 2:4], mask[14:18, 10:14, 4:6] = 1, 2
        data[mask == 2] += 250
        nifti_factory.write(here / "nifti" / f"p{k}.nii.gz", data)
        nifti_factory.write(here / "seg" / f"p{k}.nii.gz", mask)
        for roi, finding in ((1, "benign"), (2, "malignant")):
            lesions.append([f"nifti/p{k}.nii.gz", f"p{k}-{roi}", f"P{k}", f"seg/p{k}.nii.gz", roi, finding])
    table(here / "lesions.csv", lesions)


def _type_in(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(page):
        code = run(typed(words))
        told = capsys.readouterr()
        assert code == 0, f"umedfeat {shlex.join(words)}\n{told.out[-2000:]}\n{told.err[-2000:]}"
