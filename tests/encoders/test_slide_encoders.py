"""Another package's slide encoder: installed, it makes one vector a slide, and everything that follows tells of it."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from installed_package import install
from slide_factory import tissue_like, write_slide
from store_cases import header, item, write

import umedfeat
from umedfeat.cli import run
from umedfeat.encoders.slides import list_slide_encoders, load_slide_encoder
from umedfeat.errors import SetupError
from umedfeat.extraction.alike import features_like, slides_place
from umedfeat.extraction.like import header_of
from umedfeat.extraction.settings import RunSettings

MODULE = """
import numpy as np
from umedfeat.encoders.slides import SlideEncoder

def load(choice):
    def vector(tiles):
        if (tiles.features > 9).any():
            raise RuntimeError("out of memory")
        middle = tiles.coords.mean(0) + tiles.extent / 2
        return np.concatenate([tiles.features.mean(0), middle * tiles.mpp])

    expects = {"encoder.name": "umedpt", "policy.slide.tile_size": 224}
    return SlideEncoder(vector, dim=6, weights_sha256="a" * 64, expects=expects, settings={"heads": 2})

def largest(choice):
    return SlideEncoder(lambda tiles: tiles.features.max(0), dim=64, weights_sha256="", expects={})

def wide(choice):
    return SlideEncoder(lambda tiles: np.zeros((1, 6)), dim=6, weights_sha256="", expects={})

def no_number(choice):
    return SlideEncoder(lambda tiles: np.full(6, np.nan), dim=6, weights_sha256="", expects={})

def nothing(choice):
    return object()
"""
POINTS = """[umedfeat.slide_encoders]
middles = slide_middles:load
largest = slide_middles:largest
wide = slide_middles:wide
no-number = slide_middles:no_number
nothing = slide_middles:nothing
broken = slide_middles:missing
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install(tmp_path, monkeypatch, "slide-middles", "slide_middles", MODULE, POINTS)


def _tiles(path: Path, numbers: range = range(24), **settings: object) -> Path:
    """Slides of 2 to 5 tiles, the fourth without one, and a photograph among them."""
    items = [item(f"{k:02d}/slide", 0 if k == 3 else 2 + k % 4, label="ab"[k % 2]) for k in numbers]
    items = [replace(each, source=replace(each.source, patient=f"p{each.source.id}")) for each in items]
    items.append(item("photo", 1, label="a", slide=False))
    return write(path, items, settings=header(**settings), failures=["broken.svs"])


@pytest.mark.usefixtures("installed")
def test_it_is_listed_without_being_imported(capsys: pytest.CaptureFixture[str]) -> None:
    entry = next(entry for entry in list_slide_encoders() if entry.name == "middles")
    assert (entry.about, entry.loader) == ("slide-middles 1.2", "slide_middles:load")
    assert run(["encoders"]) == 0
    assert "slide-middles 1.2" in capsys.readouterr().out
    assert run(["encoders", "--json"]) == 0
    told = {each["name"]: each["takes"] for each in json.loads(capsys.readouterr().out)}
    assert (told["umedpt"], told["middles"]) == ("images", "tiles")
    assert "slide_middles" not in sys.modules


@pytest.mark.usefixtures("installed")
def test_one_row_a_slide(tmp_path: Path) -> None:
    path = _tiles(tmp_path / "feats.h5")
    done = umedfeat.aggregate(path, tmp_path / "slides.h5", "middles")
    assert (done.made, done.resumed, done.empty, done.exit_code) == (23, 0, ("03/slide",), 0)
    assert umedfeat.verify(done.out).faults == ()
    with umedfeat.FeatureFile(path) as tiles, umedfeat.FeatureFile(done.out) as slides:
        assert slides.ids == tiles.ids[:-1] and slides.items["count"].sum() == 23
        wanted = [*tiles.features("01/slide").mean(0), (112 + 112 + 224) * 0.25, 224 * 0.25]
        assert np.allclose(slides.features("01/slide")[0, :4], wanted[:4])
        middle = tiles.coords("01/slide").mean(0) + 224
        assert np.allclose(slides.features("01/slide")[0, 4:], middle * 0.25)
        for column in ("patient", "content_sha256", "mpp_x", "width", "source"):
            assert (slides.items[column] == tiles.items[column][:-1]).all(), column
        assert slides.labels("label").tolist() == tiles.labels("label").tolist()[:-1]
        assert slides.detail("01/slide")["tiles"] == 3
        assert slides.failures["source"].tolist() == ["broken.svs"]
        assert "photo" in slides.skipped["source"][-1]
        encoder = slides.encoder
        assert (encoder["name"], encoder["package"], encoder["heads"]) == ("middles", "slide-middles 1.2", 2)
        assert encoder["tiles"]["encoder"]["name"] == "umedpt" and encoder["weights_sha256"] == "a" * 64


@pytest.mark.usefixtures("installed")
def test_info_tells_whose_it_is_and_what_it_was_made_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = umedfeat.aggregate(_tiles(tmp_path / "feats.h5"), tmp_path / "slides.h5", "middles").out
    assert run(["info", str(made)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "encoder middles, 6 values" in told and "weights sha256 aaaaaaaaaaaa…" in told
    assert "package slide-middles 1.2" in told and "of tiles by umedpt, sha256 000000000000…" in told
    assert run(["aggregate", str(tmp_path / "feats.h5"), "-e", "middles", "-o", str(made)]) == 0
    assert "23 slides (23 were there), 6 values by middles" in capsys.readouterr().out


@pytest.mark.usefixtures("installed")
def test_again_makes_what_is_new_and_forgets_what_is_gone(tmp_path: Path) -> None:
    out = tmp_path / "slides.h5"
    umedfeat.aggregate(_tiles(tmp_path / "one.h5", range(4, 20)), out, "middles")
    done = umedfeat.aggregate(_tiles(tmp_path / "two.h5", range(8, 24)), out, "middles")
    assert (done.made, done.resumed) == (4, 12)
    umedfeat.aggregate(_tiles(tmp_path / "two.h5", range(8, 24)), tmp_path / "at-once.h5", "middles")
    assert out.read_bytes() == (tmp_path / "at-once.h5").read_bytes()
    with pytest.raises(SetupError, match="holds features of other settings"):
        umedfeat.aggregate(_tiles(tmp_path / "other.h5", precision="bf16"), out, "middles")


@pytest.mark.usefixtures("installed")
def test_tiles_that_it_does_not_take_are_named(tmp_path: Path) -> None:
    other = _tiles(tmp_path / "other.h5", name="conch")
    with pytest.raises(SetupError, match=r"middles takes other tiles.*encoder\.name: conch, not umedpt"):
        umedfeat.aggregate(other, tmp_path / "slides.h5", "middles")
    flat = write(tmp_path / "flat.h5", [item("a", 1, slide=False)])
    with pytest.raises(SetupError, match="holds no tiles of slides"):
        umedfeat.aggregate(flat, tmp_path / "slides.h5", "middles")
    made = umedfeat.aggregate(_tiles(tmp_path / "feats.h5"), tmp_path / "slides.h5", "middles").out
    with pytest.raises(SetupError, match="holds vectors of slides already, by middles"):
        umedfeat.aggregate(made, tmp_path / "more.h5", "middles")


@pytest.mark.usefixtures("installed")
def test_a_slide_that_it_fails_at_is_one_failure(tmp_path: Path) -> None:
    hot = item("hot", 3)
    hot.features[1, 2] = 10
    path = write(tmp_path / "feats.h5", [item("cold", 3), hot])
    done = umedfeat.aggregate(path, tmp_path / "slides.h5", "middles")
    assert (done.made, done.exit_code) == (1, 1)
    failure = done.failures[0]
    assert failure.message == "hot.svs: middles (slide-middles 1.2): RuntimeError: out of memory"
    with umedfeat.FeatureFile(done.out) as slides:
        assert slides.ids == ("cold",) and slides.failures["stage"].tolist() == ["encode"]
    done = umedfeat.aggregate(path, tmp_path / "none.h5", "no-number")
    assert [failure.error for failure in done.failures] == ["NotFinite", "NotFinite"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("wide", r"values of shape \(1, 6\), not \(6,\)"),
        ("nothing", "gives object, not a SlideEncoder"),
        ("broken", "cannot be imported"),
        ("midles", "did you mean middles"),
    ],
)
def test_what_is_no_slide_encoder_is_refused(name: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=told):
        umedfeat.aggregate(_tiles(tmp_path / "feats.h5"), tmp_path / "slides.h5", name)


def test_without_one_the_page_is_named() -> None:
    if not list_slide_encoders():
        with pytest.raises(SetupError, match="none is installed"):
            load_slide_encoder("titan")


def test_a_study_tells_of_it_and_its_probe_takes_no_other(installed: Path, tmp_path: Path) -> None:
    path = _tiles(tmp_path / "feats.h5")
    slides = tmp_path / "slides.h5"
    assert run(["aggregate", str(path), "--encoder", "middles", "--out", str(slides)]) == 0
    settings = umedfeat.ProbeSettings(fractions=(1.0,), repeats=1, bootstrap=100)
    study = umedfeat.probe_and_report(slides, tmp_path / "probe", settings=settings)
    weights = f"{'a' * 64}, slide-middles 1.2; tiles by umedpt, weights SHA-256 {'0' * 64}"
    methods = " ".join((study.folder / "methods.txt").read_text().split())
    assert f"from the encoder middles (weights SHA-256 {weights})" in methods and "tile size 224" in methods
    summary = json.loads((study.folder / "summary.json").read_text())
    assert (summary["encoder"], summary["weights"]) == ("middles", weights)

    model = study.folder / "model.safetensors"
    found = umedfeat.predict(slides, model)
    again = umedfeat.predict(path, model)  # the tiles will do: the slide encoder is asked
    assert np.array_equal(found.values, again.values) and again.table.path == tmp_path / "feats.slides.h5"
    assert umedfeat.predict_and_report(path, model, tmp_path / "predict").page.is_file()
    with pytest.raises(SetupError, match="made with other settings"):
        umedfeat.predict(_tiles(tmp_path / "other.h5", name="conch"), model)

    shutil.move(installed, installed.with_name("slide_middles-2.0.dist-info"))
    metadata = installed.with_name("slide_middles-2.0.dist-info") / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.2", "2.0"))
    (tmp_path / "feats.slides.h5").unlink()
    with pytest.raises(SetupError, match=r"encoder\.package: slide-middles 1\.2 → slide-middles 2\.0"):
        umedfeat.predict(path, model)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:--encoder random")
@pytest.mark.usefixtures("installed")
def test_images_come_to_the_same_vectors(tmp_path: Path) -> None:
    """From images straight to slides' vectors, as ``predict`` and ``similar`` need them."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for seed in range(2):
        write_slide(folder / f"{seed}.svs", tissue_like(600, 900, seed), mpp=0.5)
    umedfeat.extract(folder, tmp_path / "feats.h5", encoder="random")
    made = umedfeat.aggregate(tmp_path / "feats.h5", tmp_path / "slides.h5", "largest").out
    with umedfeat.FeatureFile(made) as slides:
        again = features_like(folder, tmp_path / "again.h5", slides.header)
        with umedfeat.FeatureFile(again) as other:
            assert other.fingerprint == slides.fingerprint
            assert np.array_equal(other.embeddings, slides.embeddings) and slides.embeddings.any()


@pytest.mark.usefixtures("installed")
def test_shards_are_aggregated_one_by_one(tmp_path: Path) -> None:
    """Each beside its tiles, under the names that ``merge`` looks for; together they are those of an undivided run."""
    items = [item(f"{k:02d}/slide", 2 + k) for k in range(6)]
    made = []
    for number in (1, 2):
        tiles = write(tmp_path / "feats.h5", items[number - 1 :: 2], settings=header(), shard=(number, 2))
        place = slides_place(tmp_path / "feats.h5", RunSettings(shard=(number, 2)))
        made.append(umedfeat.aggregate(tiles, place, "middles").out)
    assert [path.relative_to(tmp_path).as_posix() for path in made] == [
        "feats.slides.h5.shards/1-of-2.h5",
        "feats.slides.h5.shards/2-of-2.h5",
    ]
    with pytest.raises(SetupError, match="missing"):
        umedfeat.merge(made[:1], tmp_path / "half.h5")
    merged = umedfeat.merge(made, tmp_path / "merged.h5").out
    whole = write(tmp_path / "whole.h5", items, settings=header())
    assert merged.read_bytes() == umedfeat.aggregate(whole, tmp_path / "slides.h5", "middles").out.read_bytes()


@pytest.mark.usefixtures("installed")
def test_like_slides_means_like_their_tiles(tmp_path: Path) -> None:
    path = _tiles(tmp_path / "feats.h5")
    made = umedfeat.aggregate(path, tmp_path / "slides.h5", "middles").out
    assert header_of(made).fingerprint == header_of(path).fingerprint


@pytest.mark.usefixtures("installed")
def test_no_region_is_drawn_of_what_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a row of a slide encoder was read as a tile")

    monkeypatch.setattr("umedfeat.workflows.neighbours.region_pictures", read)
    made = umedfeat.aggregate(_tiles(tmp_path / "feats.h5"), tmp_path / "slides.h5", "middles").out
    report = umedfeat.similar_and_report("01/slide", made, tmp_path / "similar", unit="tile", images=tmp_path)
    assert report.page.is_file() and report.found.matches
