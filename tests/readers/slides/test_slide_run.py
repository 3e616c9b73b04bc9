"""Bad slides through the whole command: each ends as it must, the others are embedded, a study copes with the rest."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from slide_factory import tissue_like, write_slide

from umedfeat.cli import run
from umedfeat.store import FeatureFile

SMALL = ["--encoder", "efficientnet-lite0", "--device", "cpu", "--workers", "1", "--progress", "none"]
SMALL += ["--mpp", "0.5", "--tile-size", "128", "--image-size", "128"]


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path_factory.mktemp("key") / "id-key"
    key.write_text("a secret of the test suite")
    monkeypatch.setenv("UMEDFEAT_ID_KEY", str(key))


def write_tiles(path: Path, *bad: int) -> Path:
    """121 tiles of 128 pixels, and the overview as a level of its own; the JPEGs of some tiles are destroyed."""
    pixels = tissue_like(1408, 1408)
    description = "Aperio Image Library v11\r\n1408x1408 [0,0 1408x1408] (128x128)|AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as writer:
        for level in (pixels, pixels[::8, ::8]):
            writer.write(
                level, tile=(128, 128), photometric="rgb", compression="jpeg", metadata=None, description=description
            )
    with tifffile.TiffFile(path) as file:
        offsets = file.pages[0].dataoffsets
    data = bytearray(path.read_bytes())
    for number in bad:
        data[offsets[number] : offsets[number] + 40] = bytes(40)
    path.write_bytes(data)
    return path


def test_every_bad_slide_ends_as_it_must(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_tiles(folder / "sound.svs")
    write_tiles(folder / "one-in-121.svs", 60)
    write_tiles(folder / "two-in-121.svs", 3, 60)
    write_slide(folder / "white.svs", np.full((512, 512, 3), 243, np.uint8), 0.5, levels=1, flavour="svs")
    write_slide(folder / "no-scale.svs", tissue_like(512, 512), None, levels=1, flavour="svs")
    sound = (folder / "sound.svs").read_bytes()
    (folder / "cut.svs").write_bytes(sound[: len(sound) // 2])
    (folder / "empty.svs").write_bytes(b"")
    (folder / "letter.ndpi").write_text("Dear colleague, the slides follow by post.")

    out = tmp_path / "feats.h5"
    assert run(["extract", "--input", str(folder), "--out", str(out), *SMALL]) == 1
    with FeatureFile(out) as file:
        assert file.items["id"].tolist() == ["one-in-121", "sound", "white"]
        assert file.items["count"].tolist() == [120, 121, 0]
        sick, well = file.coords("one-in-121"), file.coords("sound")
        same = [k for k, corner in enumerate(well.tolist()) if corner in sick.tolist()]
        assert len(same) == 120
        np.testing.assert_array_equal(file.features("one-in-121"), file.features("sound")[same])
        lost = file.dropped
        assert [int(lost[key][0]) for key in ("item", "x", "y")] == [0, 640, 640]
        assert len(lost["item"]) == 1
        assert "JPEG" in lost["reason"][0]
    with out.with_name("feats.h5.failures.csv").open(newline="") as stream:
        failures = {row["source"]: row for row in csv.DictReader(stream)}
    assert set(failures) == {"two-in-121.svs", "no-scale.svs", "cut.svs", "empty.svs", "letter.ndpi"}
    assert "2 of 121 regions are unreadable" in failures["two-in-121.svs"]["message"]
    assert failures["no-scale.svs"]["error"] == "ScaleError"
    assert failures["cut.svs"]["error"] == "UnreadableInput"
    assert all(name in row["message"] for name, row in failures.items())
    assert all(row["remedy"] for row in failures.values())


def test_a_study_says_that_a_slide_has_no_tiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    for k in range(12):
        kind = folder / ("a" if k % 2 else "b")
        kind.mkdir(parents=True, exist_ok=True)
        pixels = np.full((256, 256, 3), 243, np.uint8) if k == 4 else tissue_like(256, 256, seed=k)
        write_slide(kind / f"s{k}.svs", pixels, 0.5, levels=1, flavour="svs")
    out = tmp_path / "feats.h5"
    assert run(["extract", "--input", str(folder), "--out", str(out), *SMALL]) == 0
    capsys.readouterr()
    study = tmp_path / "study"
    assert run(["probe", "--features", str(out), "--patient", "none", "--shots", "2", "--out", str(study)]) == 0
    assert "11 items" in capsys.readouterr().out
    assert "1 without rows" in (study / "report.html").read_text()
