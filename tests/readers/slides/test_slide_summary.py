"""What a run says of slides that gave nothing, are there twice, or are treated unlike their neighbours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from slide_factory import tissue_like, write_slide

from umedfeat.cli import root
from umedfeat.store import FeatureFile


def ran(*arguments: str) -> str:
    result = CliRunner().invoke(root, arguments, catch_exceptions=False)
    return result.output


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of a good slide, its copy, an empty slide and a flat picture, extracted."""
    folder = tmp_path_factory.mktemp("summary")
    inputs = folder / "in"
    inputs.mkdir()
    write_slide(inputs / "good.tif", tissue_like(512, 512), 0.5, levels=1)
    shutil.copy(inputs / "good.tif", inputs / "again.tif")
    write_slide(inputs / "white.tif", np.full((512, 512, 3), 245, np.uint8), 0.5, levels=1)
    tifffile.imwrite(inputs / "flat.tif", tissue_like(40, 2600), photometric="rgb", metadata=None)
    out = folder / "f.h5"
    said = ran(
        "extract", "-i", str(inputs), "-o", str(out), "-e", "efficientnet-lite0", "--workers", "1", "--progress", "none"
    )
    return out, said


def test_an_empty_slide_does_not_count_as_embedded(extracted: tuple[Path, str]) -> None:
    out, said = extracted
    assert "embedded   3 inputs" in said
    assert "empty      1 input without a single region, not embedded: white.tif" in said
    assert "--tissue none" in said
    with FeatureFile(out) as file:
        assert len(file) == 4
    overview = ran("info", str(out))
    assert "1 item without a region, not embedded: white" in overview
    assert "--min-tissue" in overview


def test_the_dry_run_names_empty_slides_too(extracted: tuple[Path, str]) -> None:
    inputs = extracted[0].parent / "in"
    said = ran("extract", "-i", str(inputs), "-e", "efficientnet-lite0", "--dry-run", "--json", "--progress", "none")
    assert json.loads(said[said.index("{") :])["empty"] == ["white.tif"]


def test_identical_slides_are_reported(extracted: tuple[Path, str]) -> None:
    assert "identical  again.tif, good.tif have the same content" in extracted[1]


def test_a_folder_treated_both_ways_is_pointed_out(extracted: tuple[Path, str]) -> None:
    said = extracted[1]
    assert "as pictures, without a scale or smaller than a tile: flat.tif" in said
    assert "shrunk more than 10 times" in said


def test_info_lists_what_slides_hold(extracted: tuple[Path, str]) -> None:
    assert "1 of 1 planes, 1 of 1 levels" in ran("info", str(extracted[0]), "--items")
