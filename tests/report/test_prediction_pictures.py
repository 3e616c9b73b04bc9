"""Evidence lies where it is: a dark square on a slide, a bright slice of a volume, found by features of real tiles."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nifti_factory
import numpy as np
import tifffile
from PIL import Image
from slide_factory import tissue_like, write_slide

from umedfeat.contract import Source
from umedfeat.discovery import discover
from umedfeat.fewshot.classifiers.attention_form import AttentionForm
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, Policy, SlidePolicy
from umedfeat.prediction.apply import Predicted, apply_probe
from umedfeat.prediction.saved import SavedProbe
from umedfeat.readers import open_reader
from umedfeat.report.prediction_page import write_prediction_page
from umedfeat.report.prediction_pictures import draw_all
from umedfeat.report.preview.cards import slug
from umedfeat.store import FeatureStore, Header, Item

POLICY = Policy(slide=SlidePolicy(tile_size=64, mpp=1.0), image=ImagePolicy(size=64))
KEY = Pseudonyms(b"k" * 32)
HEADER = Header({"name": "mean colour"}, POLICY.to_dict())
#: Darkness of a tile's mean colour: attention, and class "dark", go with it.
ARRAYS = {
    "embed": np.array([[-1.0, 1.0]]),
    "embed_bias": np.zeros(2),
    "flat": np.array([[1.0], [0.0]]),
    "flat_bias": np.zeros(1),
    "gate": np.array([[0.0], [0.0]]),
    "gate_bias": np.full(1, 9.0),
    "score": np.array([4.0]),
    "output": np.array([[-1.0, 1.0], [1.0, -1.0]]),
    "output_bias": np.zeros(2),
}


def _probe(scale: float) -> SavedProbe:
    arrays = {name: values.astype(np.float32) for name, values in ARRAYS.items()}
    form = AttentionForm(np.array([0.55]), np.array([scale]), link=2, **arrays)
    training = {"patients": 2, "items": 2, "per_class": {}, "where": "all"}
    return SavedProbe("abmil", form, "binary", ("light", "dark"), "", "item", "mean", HEADER, training)


def _embedded(images: Path, out: Path) -> Path:
    """Every input with one number a region: its mean colour in [0, 1], inverted for volumes."""
    with FeatureStore(out, HEADER, dim=1) as store:
        for source in discover([images], POLICY, KEY).sources:
            store.add(_item(source))
        return store.finish({})


def _item(source: Source) -> Item:
    reader = open_reader(source, POLICY)
    plan = reader.plan()
    pixels = np.stack([np.asarray(region) for region in reader.read(plan.regions)]).astype(np.float64)
    reader.close()
    if pixels.max() > 1:
        pixels /= 255
    means = pixels.reshape(len(pixels), -1).mean(axis=1, keepdims=True)
    return Item(source, plan, (means if plan.tile_extent else 1 - means).astype(np.float32))


def _drawn(images: Path, folder: Path, scale: float = 0.1) -> tuple[Predicted, Path]:
    found = apply_probe(_probe(scale), _embedded(images, folder / "feats.h5"))
    drawn = draw_all(found, "dark", folder / "out", images, KEY)
    return found, write_prediction_page(found, folder / "out", drawn)


def test_attention_and_score_lie_on_the_dark_square_of_a_slide(tmp_path: Path) -> None:
    pixels = tissue_like(768, 1024)
    pixels[256:384, 640:768] = (60, 20, 90)  # four tiles of 64 µm, grid-aligned
    (tmp_path / "slides").mkdir()
    write_slide(tmp_path / "slides" / "a.svs", pixels, 1.0, flavour="svs", compression=None)
    _, page = _drawn(tmp_path / "slides", tmp_path)
    for suffix, name in (("", "P(dark)"), ("-attention", "attention")):
        stem = tmp_path / "out" / "heatmaps" / f"{slug('a')}{suffix}"
        tiles = json.loads(stem.with_name(f"{stem.name}.geojson").read_text())["features"]
        score = {tuple(t["geometry"]["coordinates"][0][0]): t["properties"]["measurements"][name] for t in tiles}
        dark = sorted(corner for corner, value in score.items() if value > 0.5)
        assert dark == [(640, 256), (640, 320), (704, 256), (704, 320)], name
        values = tifffile.imread(stem.with_name(f"{stem.name}.ome.tif"))
        assert sorted((64 * x, 64 * y) for y, x in np.argwhere(values > 0.5)) == dark
        shown = np.asarray(Image.open(stem.with_name(f"{stem.name}.png")).convert("RGB")).astype(int)
        yellow = np.argwhere((shown[:700, :, 0] > 120) & (shown[:700, :, 1] > 120) & (shown[:700, :, 2] < 90))
        scale = 1024 / shown.shape[1]
        np.testing.assert_allclose(yellow.min(axis=0) * scale, (256, 640), atol=2 * scale)
        np.testing.assert_allclose((yellow.max(axis=0) + 1) * scale, (384, 768), atol=2 * scale)
        assert f"heatmaps/{stem.name}.png" in page.read_text()


def test_the_highest_slices_of_a_volume_are_shown_as_pictures(tmp_path: Path) -> None:
    data = np.zeros((32, 32, 12), dtype=np.int16)
    data[4:28, 4:28] = 100
    data[4:28, 4:28, 7] = 900
    (tmp_path / "volumes").mkdir()
    nifti_factory.write(tmp_path / "volumes" / "v.nii.gz", data)
    found, page = _drawn(tmp_path / "volumes", tmp_path)
    assert found.table.count.tolist() == [12]
    text = page.read_text()
    pictures = sorted((tmp_path / "out" / "pictures").iterdir())
    assert len(pictures) == 4 and all(f"pictures/{path.name}" in text for path in pictures)
    assert re.findall(r"<figcaption>slice (\d+): ", text)[0] == "7"
    brightest = max(pictures, key=lambda path: np.asarray(Image.open(path)).mean())
    assert brightest.name == f"{slug('v')}-7.png"
    assert "attention over the slices" in text and "P(dark) over the slices" in text


def test_single_images_are_shown_as_the_encoder_saw_them(tmp_path: Path) -> None:
    """Nothing is laid over them, and one that is gone leaves its card without a picture."""
    images = tmp_path / "images"
    images.mkdir()
    for name, grey in (("a", 60), ("b", 200)):
        Image.fromarray(np.full((48, 64), grey, np.uint8) + np.eye(48, 64, dtype=np.uint8)).save(images / f"{name}.png")
    _, page = _drawn(images, tmp_path)
    pictures = sorted((tmp_path / "out" / "pictures").iterdir())
    assert [path.name for path in pictures] == [f"{slug(name)}-0.png" for name in "ab"]
    assert all(f'src="pictures/{path.name}"' in page.read_text() for path in pictures)
    assert not (tmp_path / "out" / "heatmaps").exists()
