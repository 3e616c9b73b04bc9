"""Heatmaps: every score lies where its tile lies, whatever the scale of the picture."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from umedfeat.report.heatmap import ScoredTiles, paint, score_map, write_geojson, write_ome_tiff


def _tiles(step: int = 448, extent: float = 448.0, columns: int = 9, rows: int = 7) -> ScoredTiles:
    x, y = np.meshgrid(np.arange(columns) * step, np.arange(rows) * step)
    corners = np.column_stack([x.ravel(), y.ravel()]).astype(np.int64)
    keep = np.arange(len(corners)) % 5 != 3
    scores = (corners[:, 0] + 10 * corners[:, 1]) / (corners[:, 0] + 10 * corners[:, 1]).max()
    return ScoredTiles(corners[keep], scores[keep], extent, (columns * step + 100, rows * step + 50), 0.25, "P(x)")


@pytest.mark.parametrize("pixel", [16.0, 31.7, 100.0, 448.0])
def test_the_map_shows_every_tile_in_its_place(pixel: float) -> None:
    tiles = _tiles()
    found = score_map(tiles, pixel)
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            centre = (np.array([j, i]) + 0.5) * pixel
            inside = ((tiles.corners <= centre) & (centre < tiles.corners + tiles.extent)).all(axis=1)
            expected = tiles.scores[inside].mean() if inside.any() else np.nan
            assert found[i, j] == pytest.approx(expected, rel=1e-6, nan_ok=True), (i, j)


def test_overlapping_tiles_are_averaged() -> None:
    tiles = _tiles(step=224, extent=448.0)
    assert tiles.step == 224
    found = score_map(tiles, tiles.step)
    covering = ((tiles.corners <= 560) & (tiles.corners + 448 > 560)).all(axis=1)
    assert covering.sum() > 1
    assert found[2, 2] == pytest.approx(tiles.scores[covering].mean(), rel=1e-6)


def test_the_picture_is_coloured_where_tiles_are(tmp_path: Path) -> None:
    tiles = _tiles()
    thumbnail = np.full((round(tiles.size[1] / 32), round(tiles.size[0] / 32), 3), 240, np.uint8)
    picture = np.asarray(paint(tiles, thumbnail, 32.0))
    left_out = picture[2, 3 * 14 + 4]  # the fourth tile of the first row has no score
    assert left_out.tolist() == [240, 240, 240]
    assert picture[2, 4].tolist() != [240, 240, 240]
    low, high = picture[2, 4].astype(int), picture[6 * 14 + 4, 8 * 14 + 4].astype(int)
    assert high[0] > low[0] and high[1] > low[1]  # violet to yellow


def test_geojson_and_ome_tiff_hold_the_scores(tmp_path: Path) -> None:
    tiles = _tiles()
    write_geojson(tiles, tmp_path / "a.geojson")
    write_ome_tiff(tiles, tmp_path / "a.ome.tif")
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert len(features) == len(tiles.scores)
    for feature, corner, score in zip(features, tiles.corners, tiles.scores, strict=True):
        assert feature["geometry"]["coordinates"][0][0] == corner.tolist()
        assert feature["properties"]["measurements"]["P(x)"] == pytest.approx(score, abs=1e-5)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.is_ome and 'PhysicalSizeX="112.0"' in str(file.ome_metadata)
        values = file.asarray()
    places = tiles.corners // 448
    np.testing.assert_allclose(values[places[:, 1], places[:, 0]], tiles.scores, rtol=1e-6)
    assert np.isnan(values).sum() == values.size - len(tiles.scores)


def test_values_have_a_scale_of_their_own() -> None:
    """Ages of 40 to 64 are not all "1"."""
    tiles = _tiles()
    years = replace(tiles, scores=40 + 24 * tiles.scores, span=(40.0, 64.0), name="value")
    np.testing.assert_allclose(years.colours, tiles.colours, atol=1)  # halves are rounded either way
    thumbnail = np.full((64, 80, 3), 240, np.uint8)
    assert len(np.unique(np.asarray(paint(years, thumbnail, tiles.size[0] / 80)).reshape(-1, 3), axis=0)) > 20
    alike = replace(years, scores=np.full(len(years.scores), 50.0), span=(50.0, 50.0))
    assert set(alike.colours.tolist()) == {0}


def test_tiles_of_oblong_pixels_are_oblong_in_pixels(tmp_path: Path) -> None:
    """At 0.25 by 0.5 µm a tile of 112 µm is 448 pixels wide and 224 high."""
    corners = np.array([[0, 0], [448, 0], [0, 224], [448, 224]])
    tiles = ScoredTiles(corners, np.array([0.1, 0.2, 0.3, 0.4]), 448.0, (896, 448), 0.25, "P(x)", aspect=2.0)
    found = score_map(tiles, 32.0)
    np.testing.assert_allclose(found[[0, 0, 13, 13], [0, 27, 0, 27]], tiles.scores, rtol=1e-6)
    write_geojson(tiles, tmp_path / "a.geojson")
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert np.ptp(features[0]["geometry"]["coordinates"][0], axis=0).tolist() == [448, 224]
    write_ome_tiff(tiles, tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert re.findall('PhysicalSize[XY]="([^"]+)"', file.ome_metadata or "") == ["56.0", "112.0"]
        assert file.asarray().shape == (2, 4)


def test_tiles_off_the_grid_do_not_ask_for_a_map_as_large_as_the_slide(tmp_path: Path) -> None:
    tiles = ScoredTiles(np.array([[0, 0], [1, 448]]), np.array([0.1, 0.9]), 448.0, (90_000, 1_000), 0.25, "P(x)")
    write_ome_tiff(tiles, tmp_path / "a.ome.tif")
    assert max(tifffile.imread(tmp_path / "a.ome.tif").shape) <= 8192
