"""From inputs to a folder: slides, volumes, radiographs, failures."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import re
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pydicom.data
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image
from tissue_cases import haematoxylin_eosin

from umedfeat.cli import root
from umedfeat.contract import Failure, Plan, RegionUnreadable, Skipped, Source, make_regions
from umedfeat.errors import OutputError, SetupError
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.readers import open_reader
from umedfeat.readers.slides.annotations import external_mask
from umedfeat.report.preview import Drawing, PreviewWriter, preview

KEY = Pseudonyms(b"key of the tests")


def _slide(path: Path, *, scale: bool = True) -> None:
    """The drawn H&E slide at 2 µm/px (2560 × 2048), tiled."""
    pixels = np.asarray(Image.fromarray(haematoxylin_eosin().image).resize((2560, 2048), Image.Resampling.BICUBIC))
    resolution = {"resolution": (5000, 5000), "resolutionunit": "CENTIMETER"} if scale else {}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", compression="jpeg", **resolution)


def _volume(path: Path) -> None:
    rng = np.random.default_rng(0)
    nibabel.save(nibabel.Nifti1Image(rng.integers(0, 900, (40, 36, 9), dtype=np.int16), np.diag([1.0, 1, 3, 1])), path)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "centre-b").mkdir()
    _slide(folder / "slide.tif")
    _slide(folder / "centre-b" / "no-scale.tif", scale=False)
    _volume(folder / "head.nii")
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 120), dtype=np.uint8)).save(folder / "chest.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def policy() -> Policy:
    from umedfeat.policy import ImagePolicy, SlidePolicy

    return Policy(slide=SlidePolicy(mpp=2.0, tile_size=112), image=ImagePolicy(size=96))


def test_every_input_ends_on_the_page(inputs: Path, policy: Policy, tmp_path: Path) -> None:
    summary = preview(inputs, tmp_path / "out", policy=policy, pseudonyms=KEY, geojson=True)
    html = summary.page.read_text(encoding="utf-8")
    assert summary.page == tmp_path / "out" / "index.html"
    assert (summary.shown, len(summary.failures), summary.exit_code) == (4, 1, 1)
    for name in ("slide.tif", "centre-b/no-scale.tif", "head.nii", "chest.png", "broken.png", "notes.txt"):
        assert name in html, name
    pictures = set(re.findall(r'(?:src|href)="([^"]+)"', html))
    assert pictures == {f"pictures/{path.name}" for path in (tmp_path / "out" / "pictures").iterdir()}
    assert str(inputs) not in html
    assert str(tmp_path) not in html


def test_contact_sheet_holds_what_the_reader_returns(inputs: Path, policy: Policy, tmp_path: Path) -> None:
    preview(inputs / "head.nii", tmp_path, policy=policy, pseudonyms=KEY, regions=3)
    source = Source("head", "nifti", inputs / "head.nii", (inputs / "head.nii",), "head.nii")
    with contextlib.closing(open_reader(source, policy)) as reader:
        plan = reader.plan()
        expected = np.asarray(reader.read(plan.regions[[4]])[0])
    (picture,) = (tmp_path / "pictures").glob("*.regions.png")
    sheet = np.asarray(Image.open(picture).convert("RGB"))
    shown = sheet[:96, 102:198].astype(float)  # the second of three columns
    inside = np.s_[20:40, 20:76]  # away from the orientation letters
    np.testing.assert_allclose(shown[inside], np.rint(expected[inside] * 255), atol=0.51)


def test_slide_gets_overlay_contact_sheet_and_grid(inputs: Path, policy: Policy, tmp_path: Path) -> None:
    preview(inputs / "slide.tif", tmp_path, policy=policy, pseudonyms=KEY, geojson=True)
    kinds = sorted(path.name.split(".")[-2] for path in (tmp_path / "pictures").iterdir())
    assert kinds == ["overlay", "regions", "small"]
    document = json.loads((tmp_path / "geojson" / "slide.geojson").read_text())
    tiles = [f for f in document["features"] if f["properties"]["objectType"] == "tile"]
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert f"{len(tiles)} tiles" in html
    source = Source("slide", "slide", inputs / "slide.tif", (), "slide.tif")
    mask = external_mask(source, tmp_path / "geojson", 2560, 2048, (512, 640))
    assert mask.mean() == pytest.approx(0.25, abs=0.05)


def test_external_mask_decides_the_tiles(inputs: Path, policy: Policy, tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "masks").mkdir()
    ring = [[224, 224], [672, 224], [672, 672], [224, 672], [224, 224]]
    (tmp_path / "masks" / "slide.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    masked = replace(
        policy,
        slide=replace(policy.slide, tissue="none"),
        limits=replace(policy.limits, mask_dir=str(tmp_path / "masks")),
    )
    summary = preview(inputs / "slide.tif", tmp_path / "out", policy=masked, pseudonyms=KEY)
    assert summary.regions == 16
    (tmp_path / "in").mkdir()
    _slide(tmp_path / "in" / "without-mask.tif")
    failed = preview(tmp_path / "in", tmp_path / "out2", policy=masked, pseudonyms=KEY)
    assert len(failed.failures) == 1


class _Reader:
    """A reader of tiles of which some cannot be read, without thumbnail."""

    def __init__(self, bad: int) -> None:
        self.bad = bad

    def plan(self) -> Plan:
        return Plan(
            make_regions(np.arange(8) * 10, 0), (32, 32), "uint8", "raster", "histology", 80, 10, tile_extent=10.0
        )

    def read(self, regions: np.ndarray) -> list[np.ndarray | RegionUnreadable]:
        fault = RegionUnreadable("damaged")
        return [fault if row["x"] < 10 * self.bad else np.full((32, 32, 3), row["x"], np.uint8) for row in regions]

    def close(self) -> None: ...


@pytest.mark.parametrize(("bad", "pictures"), [(0, 2), (3, 2), (8, 1)])
def test_unreadable_regions_are_flagged(tmp_path: Path, bad: int, pictures: int) -> None:
    writer = PreviewWriter(tmp_path, Policy())
    draw = Drawing(tmp_path)
    reader = _Reader(bad)
    card = draw(Source("a/b", "raster", Path("x"), (), "a/b.png"), reader, reader.plan())
    writer.add(card)
    assert (f"{bad} unreadable of those shown" in card.flags) is (bad > 0)
    assert len(list((tmp_path / "pictures").iterdir())) == pictures
    writer.close()


def test_writer_collects_failures_and_skipped(tmp_path: Path) -> None:
    writer = PreviewWriter(tmp_path / "new" / "folder", Policy())
    writer.fail(Failure("bad.svs", "read", "UnreadableInput", "bad.svs: truncated", "copy it again"))
    writer.skip(Skipped("readme.md", "no image format"))
    html = writer.close().read_text(encoding="utf-8")
    assert "truncated" in html
    assert "readme.md" in html


@pytest.mark.parametrize("id", ["../outside", "/etc/x", "a\\b", "a:b", "..", "a/../../b"])
def test_geojson_never_leaves_its_folder(tmp_path: Path, id: str) -> None:
    draw = Drawing(tmp_path / "out", geojson=True)
    reader = _Reader(0)
    draw(Source(id, "raster", Path("x"), (), "x.png"), reader, reader.plan())
    (written,) = tmp_path.rglob("*.geojson")
    assert written.parent == tmp_path / "out" / "geojson"


def test_no_text_of_a_dicom_header_reaches_the_page(policy: Policy, tmp_path: Path) -> None:
    """Canaries in every free-text, name, identifier and description tag."""
    data = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    spared = {"Modality", "SpecificCharacterSet", "PhotometricInterpretation", "ImageType", "PatientPosition"}
    canaries = 0
    for element in data.iterall():
        if element.VR in {"PN", "LO", "LT", "SH", "ST", "UT", "UC", "CS", "AE"} and element.keyword not in spared:
            element.value = "CANARY"
            canaries += 1
    data.PatientBirthDate, data.StudyDate, data.AccessionNumber = "19010203", "19040506", "CANARY"
    assert canaries > 15
    (tmp_path / "in").mkdir()
    data.save_as(tmp_path / "in" / "image.dcm")
    summary = preview(tmp_path / "in", tmp_path / "out", policy=policy, pseudonyms=KEY)
    assert summary.shown == 1
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) >= 3
    for path in written:
        content = path.read_bytes()
        for secret in (b"CANARY", b"19010203", b"19040506", str(tmp_path).encode()):
            assert secret.lower() not in content.lower(), path.name


def test_nothing_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(SetupError, match="no image found in 1 files"):
        preview(tmp_path, tmp_path / "out", pseudonyms=KEY)
    assert not (tmp_path / "out").exists()


def test_command(inputs: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef0123456789abcdef")
    common = ["--id-key", str(key), "-q"]
    out = str(tmp_path / "out")
    good = CliRunner().invoke(
        root, ["preview", str(inputs / "chest.png"), "--out", out, "--json", *common], standalone_mode=False
    )
    assert good.exception is None, good.output
    assert good.return_value == 0
    told = json.loads(good.stdout)
    assert told["inputs"] == told["regions"] == 1
    assert Path(told["page"]).is_file()
    bad = CliRunner().invoke(
        root, ["preview", "-i", str(inputs / "broken.png"), "--out", out, *common], standalone_mode=False
    )
    assert bad.return_value == 1
    assert "1 failed" in bad.stdout


def test_command_without_inputs_is_a_usage_error() -> None:
    result = CliRunner().invoke(root, ["preview"])
    assert result.exit_code == 2
    assert "nothing to look at" in result.output


def test_no_worker_is_left_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(writer: PreviewWriter, card: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(PreviewWriter, "add", full)
    _volume(tmp_path / "head.nii")
    with pytest.raises(OutputError, match="the disk is full") as told:
        preview(tmp_path / "head.nii", tmp_path / "look", workers=1, pseudonyms=KEY)
    assert not multiprocessing.active_children(), told  # whose traceback would keep them alive
