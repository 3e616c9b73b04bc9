"""What a region of interest leaves of an image: which slices, which millimetres, at which scale."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_factory import image, save
from mask_factory import segmentation, structure_set
from nifti_factory import write
from PIL import Image
from pydicom.uid import generate_uid

import umedfeat
from umedfeat.contract import Plan
from umedfeat.discovery import discover
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.errors import InputError, SetupError, UnreadableInput, UnsupportedInput
from umedfeat.extraction.settings import RunSettings
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, IntensityPolicy, Policy, RoiPolicy, VolumePolicy
from umedfeat.readers import open_reader
from umedfeat.store.info import policy_in_words

CENTRE = np.array([23.0, -14.0, 30.0])
RADIUS = 12.0


def scan(
    folder: Path, spacing: float = 1.0, side: int = 128, start: tuple[float, float] = (-64.0, -64.0)
) -> list[Path]:
    """Slices every 4 mm of a body with a bright ball (CENTRE, RADIUS), in a field of ``side`` pixels."""
    uids = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    x, y = (origin + spacing * np.arange(side) for origin in start)
    paths = []
    for k in range(16):
        z = 4.0 * k
        reach = np.sqrt((x[None, :] - CENTRE[0]) ** 2 + (y[:, None] - CENTRE[1]) ** 2 + (z - CENTRE[2]) ** 2)
        body = np.where(np.hypot(x[None, :], y[:, None]) < 60, 1024 + 20, 24)
        edge = np.clip((RADIUS - reach) / 2 + 0.5, 0, 1)  # two millimetres wide: scanners blur
        pixels = np.rint(edge * (1024 + 300) + (1 - edge) * body).astype(np.int16)
        place = {"ImagePositionPatient": [*start, z], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        tags = {**uids, **place, "PixelSpacing": [spacing, spacing], "InstanceNumber": k + 1, "SliceThickness": 4.0}
        paths.append(save(image("CT", pixels, **tags), folder / f"im{k:02d}.dcm"))
    return paths


def ball_mask(path: Path, spacing: float = 2.0) -> Path:
    """The ball as NIfTI on a grid of its own."""
    axis = np.arange(-60, 80, spacing)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    inside = np.sqrt((x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 + (z - CENTRE[2]) ** 2) < RADIUS
    affine = np.diag([-spacing, -spacing, spacing, 1.0])  # LPS as nibabel's RAS
    affine[:3, 3] = [60, 60, -60]
    return write(path, inside.astype(np.uint8), affine)


def manifest(folder: Path, rows: list[dict[str, str]]) -> Path:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with (folder / "study.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return folder / "study.csv"


def how(size: int = 64, spacing: float | None = None, rgb: str = "grey", **roi: Any) -> Policy:
    volume = VolumePolicy(**{key: roi.pop(key) for key in ("plane", "slices") if key in roi})
    picture = ImagePolicy(size=size, spacing=spacing)
    return Policy(image=picture, volume=volume, roi=RoiPolicy(**roi), intensity=IntensityPolicy(rgb=rgb))


def seen(table: Path, policy: Policy) -> tuple[Plan, np.ndarray]:
    """The plan of the only source, and its squares."""
    (source,) = discover([table], policy, Pseudonyms(b"key")).sources
    reader = open_reader(source, policy)
    try:
        plan = reader.plan()
        again = open_reader(source, policy, plan.prepared)
        squares = np.stack(again.read(plan.regions))
        again.close()
        return plan, squares
    finally:
        reader.close()


def bright(square: np.ndarray) -> tuple[float, float, float]:
    """(x, y, diameter) of what is white, in pixels."""
    rows, cols = np.nonzero(square[..., 0] > 0.725)  # half way between body and ball
    return float(cols.mean()) + 0.5, float(rows.mean()) + 0.5, 2 * float(np.sqrt(len(rows) / np.pi))


def circle(z: float) -> np.ndarray:
    """The contour of the ball at a place."""
    radius = np.sqrt(max(0.0, RADIUS**2 - (z - CENTRE[2]) ** 2))
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.column_stack([CENTRE[0] + radius * np.cos(angles), CENTRE[1] + radius * np.sin(angles), np.full(64, z)])


def named_mask(folder: Path, kind: str, images: list[Path]) -> Path:
    if kind == "nifti":
        return ball_mask(folder / "mask.nii.gz")
    if kind == "rtstruct":
        return structure_set(folder / "rs.dcm", {"ball": [circle(z) for z in np.arange(20.0, 41.0, 4.0)]})
    x = y = np.arange(-64, 64)
    stack = [
        np.sqrt((x[None, :] - CENTRE[0]) ** 2 + (y[:, None] - CENTRE[1]) ** 2 + (4.0 * k - CENTRE[2]) ** 2) < RADIUS
        for k in range(16)
    ]
    if kind == "seg":
        return segmentation(folder / "seg.dcm", images, {"ball": np.array(stack).astype(np.uint8)})
    sitk = pytest.importorskip("SimpleITK")
    written = sitk.GetImageFromArray(np.array(stack).astype(np.uint8))
    written.SetOrigin((-64.0, -64.0, 0.0))
    written.SetSpacing((1.0, 1.0, 4.0))
    sitk.WriteImage(written, str(folder / "mask.nrrd"))
    return folder / "mask.nrrd"


@pytest.mark.parametrize("kind", ["nifti", "rtstruct", "seg", "nrrd"])
def test_a_mask_of_any_kind_gives_the_same_crop(tmp_path: Path, kind: str) -> None:
    images = scan(tmp_path / "ct")
    mask = named_mask(tmp_path, kind, images)
    table = manifest(tmp_path, [{"path": "ct", "mask": mask.name}])
    plan, squares = seen(table, how(margin=8.0))
    assert plan.regions["position"].tolist() == [20.0, 24.0, 28.0, 32.0, 36.0, 40.0]
    x, y, diameter = bright(squares[3])
    side = plan.shape[0]
    field = float(str(plan.detail["fit"]).split()[-2])
    assert field == pytest.approx(2 * RADIUS + 16, abs=2.5)
    assert (x, y) == pytest.approx((side / 2, side / 2), abs=2.0)
    assert diameter * field / side == pytest.approx(2 * np.sqrt(RADIUS**2 - 4), abs=1.2)
    region = plan.detail["region"]
    assert isinstance(region, dict) and region["from"] == "mask" and region["numbers"] == [1]


@pytest.mark.parametrize("kind", ["rtstruct", "seg"])
def test_a_region_under_another_one_is_taken_whole(tmp_path: Path, kind: str) -> None:
    """A tumour within its planning target volume, which has the higher number."""
    images = scan(tmp_path / "ct")
    if kind == "rtstruct":
        drawn = {"GTV": [circle(20.0), circle(25.0)], "PTV": [circle(z) * [1.5, 1.5, 1] for z in (15.0, 20.0, 25.0)]}
        alone = structure_set(tmp_path / "alone.dcm", {"GTV": drawn["GTV"]})
        both = structure_set(tmp_path / "both.dcm", drawn)
    else:
        tumour, target = np.zeros((2, 16, 128, 128), np.uint8)
        tumour[5:7, 40:60, 40:60], target[4:8, 50:70, 30:70] = 1, 1
        alone = segmentation(tmp_path / "alone.dcm", images, {"GTV": tumour})
        both = segmentation(tmp_path / "both.dcm", images, {"GTV": tumour, "PTV": target})
    (one, first), (two, second) = (
        seen(manifest(tmp_path, [{"path": "ct", "mask": mask.name, "roi": "GTV"}]), how()) for mask in (alone, both)
    )
    assert np.array_equal(first, second) and one.detail == two.detail


def test_a_fixed_field_of_view_is_exact(tmp_path: Path) -> None:
    """64 pixels of 0.75 mm centred on a point: the ball is 24 mm wide, its centre in the middle to a tenth of a mm."""
    scan(tmp_path / "ct")
    table = manifest(tmp_path, [{"path": "ct", "point": "23 -14 30"}])
    with pytest.raises(UnsupportedInput, match="a point has no size"):
        seen(table, how())
    plan, squares = seen(table, how(spacing=0.75))
    assert len(plan.regions) == 1 and plan.regions["position"][0] in (28.0, 32.0)
    x, y, diameter = bright(squares[0])
    assert (x, y) == pytest.approx((32, 32), abs=0.35)
    assert diameter * 0.75 == pytest.approx(2 * np.sqrt(RADIUS**2 - 4), abs=0.5)


def test_boxes_take_the_slices_between_their_corners(tmp_path: Path) -> None:
    scan(tmp_path / "ct")
    table = manifest(tmp_path, [{"path": "ct", "box": "11;-26;18;35;-2;42"}])
    plan, squares = seen(table, how())
    assert plan.regions["position"].tolist() == [20.0, 24.0, 28.0, 32.0, 36.0, 40.0]
    assert plan.detail["fit"] == "field of view 24 mm"
    x, y, diameter = bright(squares[2])
    assert (x, y) == pytest.approx((32, 32), abs=1.2) and diameter == pytest.approx(63, abs=2.0)
    coronal, pictures = seen(table, how(plane="coronal"))
    assert coronal.regions["position"].min() == -26.0 and coronal.regions["position"].max() == -2.0
    assert bright(pictures[12])[2] == pytest.approx(63, abs=4.0)


def test_what_lies_beyond_the_image_is_black(tmp_path: Path) -> None:
    scan(tmp_path / "ct")
    table = manifest(tmp_path, [{"path": "ct", "point": "-62,0,30"}])
    policy = Policy(
        image=ImagePolicy(size=64), roi=RoiPolicy(size=64.0), intensity=IntensityPolicy(ct_window="-1100,400")
    )
    _, squares = seen(table, policy)
    assert not squares[0][:, :29].any() and squares[0][:, 31:].all()


def test_the_same_lesion_in_two_fields_of_view_gives_the_same_features(tmp_path: Path) -> None:
    """1.0 mm pixels of a 128 mm field, and 0.7 mm pixels of a narrower one that lies elsewhere."""
    scan(tmp_path / "wide")
    scan(tmp_path / "narrow", 0.7, 120, (-30.3, -60.1))
    rows = [{"path": name, "id": name, "point": "23,-14,30"} for name in ("wide", "narrow")]
    table = manifest(tmp_path, rows)
    lite = EncoderChoice("efficientnet-lite0", device="cpu")
    whole = manifest(tmp_path / "wide", [{"path": str(tmp_path / name), "id": name} for name in ("wide", "narrow")])
    at_scale = how(size=112, spacing=0.5)
    assert cosine(table, at_scale, lite) >= 0.99
    assert cosine(table, Policy(image=ImagePolicy(size=112), roi=RoiPolicy(size=56.0)), lite) >= 0.99
    assert cosine(whole, Policy(image=ImagePolicy(size=112)), lite) < 0.95  # what it would be without


def cosine(table: Path, policy: Policy, encoder: EncoderChoice) -> float:
    """Of the two items' embeddings."""
    out = table.with_suffix(".h5")
    umedfeat.extract(
        table, out, encoder=encoder, policy=policy, pseudonyms=Pseudonyms(b"key"), run=RunSettings(overwrite=True)
    )
    with umedfeat.FeatureFile(out) as file:
        one, other = (np.asarray(vector, float) for vector in file.embeddings)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_whole_images_at_a_stated_scale(tmp_path: Path) -> None:
    """The ball is as many pixels wide whatever the field of view; the middle of the image stays in the middle."""
    diameters = []
    for name, spacing, side in (("a", 1.0, 128), ("b", 0.8, 160), ("c", 1.6, 80)):
        scan(tmp_path / name, spacing, side)
        _, squares = seen(tmp_path / name, how(size=128, spacing=1.25))
        diameters.append(bright(squares[7])[2])
    assert diameters == pytest.approx([2 * np.sqrt(RADIUS**2 - 4) / 1.25] * 3, abs=0.4)


def test_several_regions_of_one_image_are_items_of_their_own(tmp_path: Path) -> None:
    scan(tmp_path / "ct")
    rows = [{"path": "ct", "id": name, "point": point, "label": name} for name, point in POINTS.items()]
    found = discover([manifest(tmp_path, rows)], how(), Pseudonyms(b"key"))
    assert [source.id for source in found.sources] == ["a", "b"] and not found.failures
    assert [source.name.rpartition("#")[2] for source in found.sources] == ["a", "b"]
    assert [source.meta["label"] for source in found.sources] == ["a", "b"]
    for changed in ({"id": ""}, {"point": ""}):
        with pytest.raises(SetupError, match="listed twice"):
            discover([manifest(tmp_path, [rows[0], rows[1] | changed])], how(), Pseudonyms(b"key"))


POINTS = {"a": "23,-14,30", "b": "0,0,20"}


def test_a_moved_region_is_embedded_again_and_another_is_not(tmp_path: Path) -> None:
    scan(tmp_path / "ct")
    lite = EncoderChoice("efficientnet-lite0", device="cpu")
    policy = how(size=64, spacing=0.5)
    rows = [{"path": "ct", "id": name, "point": point} for name, point in POINTS.items()]

    def run() -> Any:
        table = manifest(tmp_path, rows)
        return umedfeat.extract(table, tmp_path / "a.h5", encoder=lite, policy=policy, pseudonyms=Pseudonyms(b"key"))

    assert run().embedded == 2 and run().resumed == 2
    rows[1]["point"] = "1,0,20"
    summary = run()
    assert summary.resumed == 1 and len(summary.changed) == 1
    rows[0] = {"path": "ct", "id": "a", "mask": ball_mask(tmp_path / "mask.nii").name}
    assert len(run().changed) == 1
    assert run().resumed == 2


def test_the_path_of_a_mask_is_stored_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scan(tmp_path / "ct")
    (tmp_path / "CANARY").mkdir()
    ball_mask(tmp_path / "CANARY" / "CANARY.nii.gz")
    structure_set(tmp_path / "CANARY" / "empty.dcm", {"CANARY": []})
    rows = [
        {"path": "ct", "id": "a", "mask": "CANARY/CANARY.nii.gz"},
        {"path": "ct", "id": "b", "mask": "CANARY/empty.dcm", "roi": "CANARY"},
        {"path": "ct", "id": "c", "mask": "CANARY/missing.nii"},
    ]
    caplog.set_level(logging.DEBUG)
    lite = EncoderChoice("efficientnet-lite0", device="cpu")
    summary = umedfeat.extract(
        manifest(tmp_path, rows), tmp_path / "a.h5", encoder=lite, policy=how(), pseudonyms=Pseudonyms(b"key")
    )
    assert summary.embedded == 1 and len(summary.failures) == 2
    told = (tmp_path / "a.h5").read_bytes() + caplog.text.encode()
    told += b"".join(path.read_bytes() for path in tmp_path.glob("a.h5.*"))
    assert b"CANARY.nii" not in told and b"missing.nii" not in told and b"CANARY/" not in told


def test_faults_are_told_with_a_remedy(tmp_path: Path) -> None:
    images = scan(tmp_path / "ct")
    empty = segmentation(
        tmp_path / "seg.dcm", images, {"a": np.zeros((16, 128, 128), np.uint8)}, omit_empty_frames=False
    )
    cells = {
        "is empty": {"mask": empty.name},
        "100% of the point lies outside": {"point": "200,0,30"},
        "of the box lies outside": {"box": "0,0,0,100,100,40"},
        "a box of 4 numbers, and it is an image in the patient": {"box": "0,0,10,10"},
        "a point of 2 numbers": {"point": "0,0"},
        "cannot be read": {"mask": "missing.nii"},
        "no such region": {"mask": ball_mask(tmp_path / "ball.nii").name, "roi": "7"},
    }
    for told, cell in cells.items():
        with pytest.raises(InputError, match=told) as caught:
            seen(manifest(tmp_path, [{"path": "ct", **cell}]), how(margin=5.0))
        assert caught.value.remedy
    for cell in ({"box": "1,2,3"}, {"point": "a,b,c"}, {"point": "1,2,3", "box": "1,2,3,4,5,6"}):
        with pytest.raises(SetupError):
            discover([manifest(tmp_path, [{"path": "ct", **cell}])], how(), Pseudonyms(b"key"))


def test_flat_images_are_cropped_too(tmp_path: Path) -> None:
    pixels = np.full((80, 120), 50, np.uint8)
    pixels[20:40, 60:100] = 250
    pixels[0, :5] = (0, 100, 150, 200, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray((pixels == 250).astype(np.uint8)).save(tmp_path / "mask.png")
    plan, squares = seen(manifest(tmp_path, [{"path": "a.png", "mask": "mask.png"}]), how(size=40))
    assert plan.detail["fit"] == "field of view 40 px"
    assert (squares[0][10:30, :, 0] > 0.9).all() and not (squares[0][:9, :, 0] > 0.9).any()
    with pytest.raises(UnsupportedInput, match="size of its pixels is unknown"):
        seen(manifest(tmp_path, [{"path": "a.png", "mask": "mask.png"}]), how(margin=3.0))
    with pytest.raises(UnsupportedInput, match="size of its pixels is unknown"):
        seen(manifest(tmp_path, [{"path": "a.png", "box": "1,1,2,2"}]), how())
    row = {"path": "a.png", "mpp": "500", "box": "30,5,50,25"}
    _, boxed = seen(manifest(tmp_path, [row]), how(size=40))
    assert np.array_equal(boxed, squares)
    with pytest.raises(UnsupportedInput, match="a box of 6 numbers, and it is a flat image"):
        seen(manifest(tmp_path, [row | {"box": "30,5,0,50,25,9"}]), how(size=40))  # three corners in the plane


def test_a_slide_takes_its_regions_another_way(tmp_path: Path) -> None:
    import slide_factory

    slide_factory.write_slide(tmp_path / "slide.tif", slide_factory.tissue_like(1024, 1024), 0.5)
    with pytest.raises(UnsupportedInput) as caught:
        seen(manifest(tmp_path, [{"path": "slide.tif", "mask": "mask.png"}]), how())
    assert "--mask-dir" in caught.value.remedy


def test_slices_by_millimetres(tmp_path: Path) -> None:
    scan(tmp_path / "ct")
    plan, _ = seen(tmp_path / "ct", how(slices="every-10mm"))
    assert plan.regions["position"].tolist() == [0.0, 8.0, 20.0, 28.0, 40.0, 48.0, 60.0]
    plan, _ = seen(tmp_path / "ct", how(slices="every-1mm"))
    assert len(plan.regions) == 16
    with pytest.raises(SetupError, match="every-0mm"):
        VolumePolicy(slices="every-0mm")


def test_neighbours_as_channels(tmp_path: Path) -> None:
    """Red shows the slice towards the feet, blue the one towards the head; at the ends the slice itself."""
    scan(tmp_path / "ct")
    _, grey = seen(tmp_path / "ct", how())
    plan, squares = seen(tmp_path / "ct", how(rgb="neighbours"))
    assert "before" in str(plan.detail["channels"])
    for k in range(16):
        for channel, other in enumerate((max(0, k - 1), k, min(15, k + 1))):
            assert np.array_equal(squares[k][..., channel], grey[other][..., 0])
    chosen, few = seen(tmp_path / "ct", how(rgb="neighbours", slices="every-3"))
    assert np.array_equal(few[1], squares[chosen.regions["slice"][1]])


def test_three_windows_as_channels(tmp_path: Path) -> None:
    scan(tmp_path / "ct")
    plan, squares = seen(tmp_path / "ct", how(rgb="windows"))
    for channel, window in enumerate(("lung", "soft-tissue", "bone")):
        policy = Policy(image=ImagePolicy(size=64), intensity=IntensityPolicy(ct_window=window))
        assert np.array_equal(squares[..., channel], seen(tmp_path / "ct", policy)[1][..., 0])
    intensity = plan.detail["intensity"]
    assert isinstance(intensity, dict) and intensity["window"] == "red, green, blue: lung, soft-tissue, bone"
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).normal(9, 2, (9, 9, 4)), np.eye(4)), tmp_path / "mr.nii")
    _, mr = seen(tmp_path / "mr.nii", how(rgb="windows"))
    assert np.array_equal(mr[..., 0], mr[..., 2])


def test_real_contours_and_their_image(data_dir: Path, tmp_path: Path) -> None:
    """The tumour lies in every slice that is taken, and in no other."""
    folder = data_dir / "dicom" / "ibsi" / "STS_008" / "CT"
    row = {"path": str(folder / "image"), "mask": str(folder / "mask" / "RS.dcm")}
    plan, squares = seen(manifest(tmp_path, [row]), how(margin=10.0))
    assert len(plan.regions) == 19 and squares.shape == (19, 64, 64, 3)
    with pytest.raises(UnreadableInput, match="lies outside of the image"):
        other = data_dir / "dicom" / "ibsi" / "STS_025" / "CT" / "mask" / "RS.dcm"
        seen(manifest(tmp_path, [row | {"mask": str(other)}]), how(margin=10.0))


def test_scale_regions_and_colours_are_told_in_words() -> None:
    def told(policy: Policy) -> str:
        return "\n".join(policy_in_words({"file": "a.h5", "policy": policy.sized().to_dict(), "modalities": {"CT": 1}}))

    assert "images: 0.5 mm per pixel to 64 px" in told(how(spacing=0.5))
    assert "neighbouring slices as colours" in told(how(rgb="neighbours"))
    assert "CT: three windows as colours" in told(how(rgb="windows"))
    assert "regions of interest: 60 mm wide" in told(Policy(roi=RoiPolicy(size=60)))
    assert "regions of interest: with a margin of 5 mm" in told(how(margin=5.0))
    assert "regions" not in told(how())
