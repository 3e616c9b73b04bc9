"""External masks and QuPath annotations, and the grid written for QuPath."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from umedfeat.contract import Source
from umedfeat.errors import InputError, SetupError, TooLarge, UnreadableInput
from umedfeat.readers.slides.annotations import (
    external_mask,
    find_mask,
    grid_geojson,
    masks_digest,
    refuse_shared_masks,
)

WIDTH, HEIGHT = 4000, 3000
SHAPE = (75, 100)  # 40 level-0 pixels per pixel


def _source(id: str = "centre-a/slide-1", suffix: str = ".svs") -> Source:
    path = Path("slides") / f"{id}{suffix}"
    return Source(id=id, format="slide", path=path, files=(path,), name=f"{id}{suffix}")


def _square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def _feature(rings: list[Any], name: str | None = None, kind: str = "Polygon", **properties: Any) -> dict[str, Any]:
    if name is not None:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": rings}, "properties": properties}


def _mask(folder: Path, document: Any, name: str = "slide-1.geojson") -> np.ndarray:
    (folder / name).write_text(json.dumps(document))
    return external_mask(_source(), folder, WIDTH, HEIGHT, SHAPE)


def test_polygon_with_a_hole(tmp_path: Path) -> None:
    mask = _mask(
        tmp_path,
        {"type": "FeatureCollection", "features": [_feature([_square(400, 400, 1600), _square(800, 800, 400)])]},
    )
    assert mask.shape == SHAPE
    assert mask.sum() == 40 * 40 - 10 * 10
    assert mask[10, 10]
    assert not mask[25, 25]


def test_list_of_features_and_multipolygon(tmp_path: Path) -> None:
    both = [[_square(0, 0, 400)], [_square(2000, 2000, 400)]]
    mask = _mask(tmp_path, [_feature(both, kind="MultiPolygon"), _feature([_square(0, 0, 800)])])
    assert mask.sum() == 400 + 100  # the first square lies within the third


@pytest.mark.parametrize("name", ["Ignore*", "ignore", "Exclude", "exclude: fold"])
def test_excluding_classes_are_taken_away(tmp_path: Path, name: str) -> None:
    mask = _mask(tmp_path, [_feature([_square(800, 800, 400)], name), _feature([_square(400, 400, 1600)], "Tumor")])
    assert mask.sum() == 40 * 40 - 10 * 10


def test_only_excluding_classes_leave_the_rest_of_the_slide(tmp_path: Path) -> None:
    mask = _mask(tmp_path, [_feature([_square(0, 0, 400)], "Ignore*")])
    assert mask.sum() == mask.size - 100


def test_detections_points_and_lines_are_no_regions(tmp_path: Path) -> None:
    features = [
        _feature([_square(0, 0, 4000)], objectType="detection"),
        _feature([_square(0, 0, 4000)], objectType="tile"),
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [5, 5]}, "properties": None},
        {"type": "Feature", "geometry": {"type": "LineString", "coordinates": [[5, 5], [9, 9]]}},
        _feature([_square(400, 400, 400)], objectType="annotation"),
    ]
    assert _mask(tmp_path, {"type": "FeatureCollection", "features": features}).sum() == 100


def test_bare_geometry_and_classification_as_text(tmp_path: Path) -> None:
    assert _mask(tmp_path, {"type": "Polygon", "coordinates": [_square(0, 0, 400)]}).sum() == 100
    features = [_feature([_square(0, 0, 400)]), _feature([_square(0, 0, 200)], classification="Ignore*")]
    assert _mask(tmp_path, features).sum() == 75


def test_partly_outside_is_cut_wholly_outside_is_refused(tmp_path: Path) -> None:
    assert _mask(tmp_path, [_feature([_square(-400, -400, 800)])]).sum() == 100
    with pytest.raises(UnreadableInput, match=r"slide-1\.geojson: every annotation lies outside .*4000 × 3000"):
        _mask(tmp_path, [_feature([_square(5000, 100, 300)])])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "7",
        '"text"',
        "{}",
        '{"type": "FeatureCollection"}',
        '[{"type": "Feature", "geometry": {"type": "Polygon"}}]',
        '[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]}}]',
        '[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, NaN], [5, 5]]]}}]',
        '[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[["a", "b"], [1, 1], [5, 5]]]}}]',
        "[" * 100_000,
        "\ufeff\udcff".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)
def test_broken_geojson_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "slide-1.geojson").write_text(text, encoding="latin-1")
    with pytest.raises(UnreadableInput, match=r"^slide-1\.geojson: ") as caught:
        external_mask(_source(), tmp_path, WIDTH, HEIGHT, SHAPE)
    assert caught.value.remedy
    assert str(tmp_path) not in str(caught.value)


def test_geojson_without_areas_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match="no polygon among its annotations"):
        _mask(tmp_path, {"type": "FeatureCollection", "features": []})


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16", "LA"])
def test_mask_image_of_any_kind(tmp_path: Path, mode: str) -> None:
    pixels = np.zeros((150, 200), np.uint8)
    pixels[20:60, 40:120] = 1 if mode in ("P", "I;16") else 255
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16))
    elif mode == "P":
        image.putpalette([0, 0, 0, 10, 20, 30])
    else:
        image = image.convert(mode)
    image.save(tmp_path / ("slide-1.tif" if mode == "I;16" else "slide-1.png"))
    mask = external_mask(_source(), tmp_path, WIDTH, HEIGHT, SHAPE)
    expected = np.zeros(SHAPE, bool)
    expected[10:30, 20:60] = True
    assert np.array_equal(mask, expected)


def test_transparent_and_nan_pixels_are_no_region(tmp_path: Path) -> None:
    pixels = np.full((150, 200, 4), 255, np.uint8)
    pixels[:, 100:, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "slide-1.png")
    assert external_mask(_source(), tmp_path, WIDTH, HEIGHT, SHAPE).sum() == SHAPE[0] * 50
    (tmp_path / "slide-1.png").unlink()
    values = np.ones((150, 200), np.float32)
    values[:, :50] = np.nan
    Image.fromarray(values).save(tmp_path / "slide-1.tif")
    assert external_mask(_source(), tmp_path, WIDTH, HEIGHT, SHAPE).sum() == SHAPE[0] * 75


def test_mask_image_smaller_than_the_thumbnail(tmp_path: Path) -> None:
    Image.fromarray(np.array([[255, 0, 0, 0], [0] * 4, [0] * 4], np.uint8)).save(tmp_path / "slide-1.png")
    mask = external_mask(_source(), tmp_path, WIDTH, HEIGHT, SHAPE)
    assert mask.sum() == 25 * 25


def test_mask_image_of_another_shape_is_refused(tmp_path: Path) -> None:
    Image.new("L", (100, 100), 255).save(tmp_path / "slide-1.png")
    with pytest.raises(UnreadableInput, match=r"100 × 100 pixels do not have the shape"):
        external_mask(_source(), tmp_path, WIDTH, HEIGHT, SHAPE)


def test_damaged_mask_image(tmp_path: Path) -> None:
    Image.new("L", (200, 150), 255).save(tmp_path / "slide-1.png")
    data = (tmp_path / "slide-1.png").read_bytes()
    for content in (data[:40], b"", b"no image"):
        (tmp_path / "slide-1.png").write_bytes(content)
        with pytest.raises(UnreadableInput, match="not a readable mask image"):
            external_mask(_source(), tmp_path, WIDTH, HEIGHT, SHAPE)


def test_huge_mask_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (4000, 3000)).save(tmp_path / "slide-1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(TooLarge, match="too large for a mask"):
        external_mask(_source(), tmp_path, WIDTH, HEIGHT, SHAPE)


def test_missing_mask_fails_that_slide_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"centre-a/slide-1\.svs: no mask in --mask-dir") as caught:
        find_mask(_source(), tmp_path)
    assert "slide-1.geojson" in caught.value.remedy


def test_two_masks_are_never_chosen_from(tmp_path: Path) -> None:
    (tmp_path / "slide-1.png").touch()
    (tmp_path / "slide-1.svs.geojson").touch()
    with pytest.raises(InputError, match=r"several masks fit \(.*slide-1\.png.*\)"):
        find_mask(_source(), tmp_path)


@pytest.mark.parametrize(
    "name", ["slide-1.geojson", "slide-1.svs.json", "centre-a/slide-1.tiff", "centre-a/slide-1.svs.png"]
)
def test_names_under_which_a_mask_is_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert find_mask(_source(), tmp_path) == path


def test_a_slide_in_the_mask_folder_is_not_its_own_mask(tmp_path: Path) -> None:
    (tmp_path / "slide-1.tif").touch()
    with pytest.raises(InputError, match="no mask"):
        find_mask(_source("slide-1", ".tif"), tmp_path)


def test_ids_cannot_climb_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "secret.geojson").touch()
    with pytest.raises(InputError, match="no mask"):
        find_mask(Source("../secret", "slide", Path("x"), (), "../secret.svs"), tmp_path / "masks")


def test_digest_follows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text("1")
    (tmp_path / "notes.txt").write_text("not a mask")
    first = masks_digest(tmp_path)
    assert len(first) == 64
    (tmp_path / "notes.txt").write_text("changed")
    assert masks_digest(tmp_path) == first
    (tmp_path / "a.geojson").write_text("2")
    second = masks_digest(tmp_path)
    (tmp_path / "a.geojson").rename(tmp_path / "b.geojson")
    assert len({first, second, masks_digest(tmp_path)}) == 3


def test_digest_refuses_nothing(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no mask in this folder"):
        masks_digest(tmp_path)
    with pytest.raises(SetupError, match="no such folder"):
        masks_digest(tmp_path / "missing")


def test_grid_for_qupath_and_back(tmp_path: Path) -> None:
    """What is exported can be given to --mask-dir: the tissue comes back, the tiles are no regions."""
    mask = np.zeros(SHAPE, bool)
    mask[10:30, 20:60] = True
    mask[15:20, 30:40] = False
    document = grid_geojson([(800, 400), (1024, 400)], 224.0, [1.0, 0.5], mask, 40.0)
    kinds = [feature["properties"]["objectType"] for feature in document["features"]]
    assert kinds == ["annotation", "tile", "tile"]
    assert np.array_equal(_mask(tmp_path, document), mask)


def test_grid_tiles_are_closed_squares_with_their_tissue() -> None:
    tile = grid_geojson([(800, 400.5)], 224.25, [0.123456])["features"][0]
    ring = tile["geometry"]["coordinates"][0]
    assert ring == [[800.0, 400.5], [1024.25, 400.5], [1024.25, 624.75], [800.0, 624.75], [800.0, 400.5]]
    assert tile["properties"]["measurements"] == {"Tissue fraction": 0.1235}
    assert tile["properties"]["classification"]["name"] == "Tile"


def test_grid_without_tiles_or_mask_is_empty() -> None:
    oblong = grid_geojson([(10, 20)], 224.0, aspect=2.0)["features"][0]  # pixels twice as high as wide
    assert oblong["geometry"]["coordinates"] == [[[10, 20], [234, 20], [234, 132], [10, 132], [10, 20]]]
    assert grid_geojson(np.zeros((0, 2)), 224.0) == {"type": "FeatureCollection", "features": []}


def test_two_slides_of_one_name_cannot_share_a_mask(tmp_path: Path) -> None:
    sources = [_source(f"{folder}/S1") for folder in "ab"]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "S1.geojson").write_text("{}")
    refuse_shared_masks(sources, tmp_path)
    (tmp_path / "S1.geojson").write_text("{}")
    with pytest.raises(SetupError, match=r"fits two slides: a/S1\.svs and b/S1\.svs"):
        refuse_shared_masks(sources, tmp_path)
