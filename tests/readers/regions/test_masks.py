"""Masks of every kind on the grid of an image: numbers land on the voxels that the patient's millimetres name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_factory import series
from mask_factory import geojson, segmentation, square, structure_set
from matplotlib.path import Path as Outline
from nifti_factory import RAS, reordered, write
from PIL import Image

from umedfeat.discovery import discover
from umedfeat.errors import InputError, UnreadableInput, UnsupportedInput
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy, VolumePolicy
from umedfeat.readers import open_reader
from umedfeat.readers.regions.grid import grid_of
from umedfeat.readers.regions.masks import chosen, labels_on, open_mask, refuse_off_image
from umedfeat.readers.stacks.stack import StackFacts

SHAPE = (24, 20, 8)


def facts_of(path: Path) -> StackFacts:
    """Of the only image under a path."""
    policy = Policy(volume=VolumePolicy(include_derived=True))
    (source,) = discover([path], policy, Pseudonyms(b"key")).sources
    reader = open_reader(source, policy)
    facts = reader.facts  # type: ignore[attr-defined]
    reader.close()
    return facts


def ball(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """(x, y, z): 1 in a ball, 2 in its smaller half."""
    x, y, z = np.meshgrid(*map(np.arange, shape), indexing="ij")
    inside = (x - 8) ** 2 + (y - 12) ** 2 + 4 * (z - 3) ** 2 < 25
    return (inside * (1 + (x > 9))).astype(np.uint8)


@pytest.fixture
def nifti(tmp_path: Path) -> StackFacts:
    return facts_of(write(tmp_path / "image.nii.gz"))


@pytest.mark.parametrize("codes", ["LPS", "RAS", "AIL", "SRP"])
def test_a_nifti_mask_in_any_axis_order_lands_on_the_same_voxels(tmp_path: Path, nifti: StackFacts, codes: str) -> None:
    path = write(tmp_path / "mask.nii.gz", *reordered(ball(), RAS, codes))
    assert np.array_equal(labels_on(path, nifti, "a"), ball().T)


def test_a_mask_of_another_grid_takes_the_nearest_voxel(tmp_path: Path, nifti: StackFacts) -> None:
    """Twice as fine in plane and cut down to the ball: nibabel says where its voxels lie."""
    fine = np.repeat(np.repeat(ball()[2:16, 5:19, 1:6], 2, axis=0), 2, axis=1)
    affine = RAS @ np.array([[0.5, 0, 0, 1.75], [0, 0.5, 0, 4.75], [0, 0, 1, 1], [0, 0, 0, 1]])
    path = write(tmp_path / "mask.nii", fine, affine)
    assert np.array_equal(labels_on(path, nifti, "a"), ball().T)
    assert nibabel.load(path).shape == (28, 28, 5)


def test_nrrd_and_metaimage_masks_equal_the_nifti_one(tmp_path: Path, nifti: StackFacts) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(write(tmp_path / "mask.nii.gz", ball())))
    for name in ("mask.nrrd", "mask.mha", "mask.mhd", "mask.seg.nrrd"):
        sitk.WriteImage(image, str(tmp_path / name), True)
        assert np.array_equal(labels_on(tmp_path / name, nifti, "a"), ball().T), name


def test_names_of_a_slicer_segmentation(tmp_path: Path) -> None:
    nrrd = pytest.importorskip("nrrd")
    header = {"Segment0_LabelValue": "1", "Segment0_Name": "tumour", "Segment1_LabelValue": "2", "Segment1_Name": "rim"}
    place = {"space": "left-posterior-superior", "space directions": np.eye(3), "space origin": [0, 0, 0]}
    nrrd.write(str(tmp_path / "a.seg.nrrd"), ball(), {**header, **place})
    mask = open_mask(tmp_path / "a.seg.nrrd", "a")
    assert dict(mask.names) == {1: "tumour", 2: "rim"}
    assert chosen(mask, "rim", "a") == [2] == chosen(mask, "2", "a") and chosen(mask, "", "a") == [1, 2]
    with pytest.raises(UnsupportedInput, match="no such region"):
        chosen(mask, "liver", "a")


@pytest.fixture
def ct(tmp_path: Path) -> tuple[list[Path], StackFacts]:
    """Eight slices of 32 x 32 mm, 5 mm apart."""
    paths = series(tmp_path / "ct", [5.0 * k for k in range(8)])
    return paths, facts_of(tmp_path / "ct")


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
@pytest.mark.parametrize("omit", [True, False])
def test_a_segmentation_comes_back_voxel_by_voxel(
    tmp_path: Path, ct: tuple[list[Path], StackFacts], kind: str, omit: bool
) -> None:
    """Written by highdicom; two slices in between and those at the ends are empty, and may be left out."""
    paths, facts = ct
    first, second = np.zeros((8, 32, 32), np.uint8), np.zeros((8, 32, 32), np.uint8)
    first[[2, 5], 4:12, 6:20] = 1
    second[5, 20:25, 3:9] = 1
    masks = {"tumour": first, "node": second}
    if kind == "FRACTIONAL":
        masks = {name: mask.astype(np.float64) for name, mask in masks.items()}
    path = segmentation(tmp_path / "seg.dcm", paths, masks, kind, omit_empty_frames=omit)
    assert np.array_equal(labels_on(path, facts, "a"), first + 2 * second)
    assert chosen(open_mask(path, "a"), "node", "a") == [2]


def test_a_real_segmentation_agrees_with_highdicom(data_dir: Path) -> None:
    import highdicom

    path = data_dir / "dicom" / "pydicom" / "liver.dcm"
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    mask = open_mask(path, "liver")
    grid = grid_of(
        StackFacts("a", "", "", volume.shape[2], volume.shape[1], volume.shape[0], volume.affine[:, [2, 1, 0, 3]])
    )
    assert grid is not None and np.array_equal(mask.on(grid), volume.array)  # type: ignore[union-attr]


def test_contours_enclose_the_centres_of_their_pixels_and_have_holes(
    tmp_path: Path, ct: tuple[list[Path], StackFacts]
) -> None:
    _, facts = ct
    ring = [square(-10.4, -6.2, 8.3, 5.1, 10.0), square(-4.0, -3.0, 2.0, 2.0, 10.0)]
    path = structure_set(tmp_path / "rs.dcm", {"tumour": ring, "node": [square(0, 0, 4, 4, 30.0)]})
    labels = labels_on(path, facts, "a")
    y, x = np.mgrid[-16:16, -16:16]  # millimetres of the pixel centres
    inside = (x > -10.4) & (x < 8.3) & (y > -6.2) & (y < 5.1) & ~((x >= -4) & (x < 2) & (y >= -3) & (y < 2))
    assert np.array_equal(labels[2], inside)
    assert np.flatnonzero(labels.any(axis=(1, 2))).tolist() == [2, 6] and set(np.unique(labels[6])) == {0, 2}


def test_contours_stay_where_they_are_on_thinner_and_on_thicker_slices(tmp_path: Path) -> None:
    """Planes at 10 and 15 mm: slices of 1 mm between 7.5 and 17.5 mm take them, and never two planes at once."""
    planes = [square(-8, -8, 8, 8, 10.0), square(-8, -8, 8, 8, 15.0)]
    path = structure_set(tmp_path / "rs.dcm", {"tumour": planes})
    series(tmp_path / "thin", [float(z) for z in range(5, 22)], SliceThickness=1.0)
    thin = labels_on(path, facts_of(tmp_path / "thin"), "a").any(axis=(1, 2))
    assert (np.flatnonzero(thin) + 5).tolist() == list(range(8, 18))
    series(tmp_path / "thick", [0.0, 12.0, 24.0], SliceThickness=12.0)
    thick = labels_on(path, facts_of(tmp_path / "thick"), "a")
    assert thick[1].sum() == 16 * 16 and not thick[[0, 2]].any()


def test_contours_on_another_storage_order(tmp_path: Path) -> None:
    """Axial contours on a NIfTI whose slowest axis runs from ear to ear."""
    facts = facts_of(
        write(tmp_path / "a.nii", *reordered(np.arange(24 * 20 * 8, dtype=np.int16).reshape(24, 20, 8), RAS, "PIR"))
    )
    mask = open_mask(structure_set(tmp_path / "rs.dcm", {"a": [square(-36, -26, -30, -20, -10.0)]}), "a")
    grid = grid_of(facts)
    assert grid is not None
    found = np.argwhere(mask.on(grid))[:, ::-1]  # type: ignore[union-attr]
    places = found @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    assert len(places) and np.allclose(places[:, 2], -10.0)
    assert ((places[:, 0] > -36.01) & (places[:, 0] < -29.99) & (places[:, 1] > -26.01)).all()


@pytest.mark.parametrize("scan", ["STS_008/CT", "STS_025/MR_T1", "STS_008/PET"])
def test_real_contours_agree_with_an_independent_fill(data_dir: Path, scan: str) -> None:
    """Matplotlib's test of points in polygons, with coordinates from the headers alone."""
    folder = data_dir / "dicom" / "ibsi" / scan
    facts = facts_of(folder / "image")
    labels = labels_on(folder / "mask" / "RS.dcm", facts, "a")
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in (folder / "image").iterdir()]
    headers.sort(key=lambda header: float(header.ImagePositionPatient[2]))
    assert facts.affine is not None and facts.affine[2, 2] > 0
    expected = np.zeros(labels.shape, bool)
    places = np.array([float(header.ImagePositionPatient[2]) for header in headers])
    structure = pydicom.dcmread(folder / "mask" / "RS.dcm")
    for contour in structure.ROIContourSequence[0].ContourSequence:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        k = int(np.abs(places - points[0, 2]).argmin())
        header = headers[k]
        rows, cols = np.mgrid[: header.Rows, : header.Columns]
        x = float(header.ImagePositionPatient[0]) + cols * float(header.PixelSpacing[1])
        y = float(header.ImagePositionPatient[1]) + rows * float(header.PixelSpacing[0])
        expected[k] ^= Outline(points[:, :2]).contains_points(np.column_stack([x.ravel(), y.ravel()])).reshape(x.shape)
    differing = (labels > 0) ^ expected
    assert expected.sum() > 300 and differing.sum() <= 0.002 * expected.sum()  # centres on a line


def test_a_mask_beside_its_image_is_an_error(tmp_path: Path, nifti: StackFacts) -> None:
    shifted = RAS.copy()
    shifted[0, 3] += 200
    path = write(tmp_path / "mask.nii", ball(), shifted)
    mask = open_mask(path, "a")
    with pytest.raises(UnreadableInput, match="100% of the region of interest lies outside"):
        refuse_off_image(mask, [1, 2], nifti, "a")  # type: ignore[arg-type]
    refuse_off_image(open_mask(write(tmp_path / "own.nii", ball()), "a"), [1, 2], nifti, "a")  # type: ignore[arg-type]


def test_flat_masks(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)).save(tmp_path / "a.png")
    facts = facts_of(tmp_path / "a.png")
    numbers = np.zeros((20, 30), np.uint8)
    numbers[3:8, 10:20] = 2
    Image.fromarray(numbers).save(tmp_path / "mask.png")
    assert np.array_equal(labels_on(tmp_path / "mask.png", facts, "a")[0], numbers)
    corners = [(10, 3), (20, 3), (20, 8), (10, 8), (10, 3)]
    drawn = geojson(tmp_path / "mask.geojson", {"tumour": [corners], "stroma": [[(0, 15), (5, 15), (5, 20), (0, 15)]]})
    labels = labels_on(drawn, facts, "a")[0]
    assert np.array_equal(labels == 2, numbers == 2) and (labels == 1).any()
    assert chosen(open_mask(drawn, "a"), "tumour", "a") == [2]
    Image.fromarray(numbers[:-1]).save(tmp_path / "smaller.png")
    with pytest.raises(UnreadableInput, match="30x19 pixels for an image of 30x20"):
        labels_on(tmp_path / "smaller.png", facts, "a")
    with pytest.raises(UnsupportedInput, match="does not tell where it lies"):
        labels_on(write(tmp_path / "mask.nii", ball()), facts, "a")


def test_what_is_no_mask_is_refused_by_name(tmp_path: Path, nifti: StackFacts) -> None:
    (tmp_path / "text").write_text("no mask")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "colours.png")
    write(tmp_path / "shares.nii", ball().astype(np.float32) / 3)
    (ct,) = series(tmp_path / "ct", [0.0])
    (tmp_path / "cut.nrrd").write_bytes(b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n\n12")
    for name in ("text", "colours.png", "shares.nii", "missing.nii", "cut.nrrd"):
        with pytest.raises(InputError) as caught:
            labels_on(tmp_path / name, nifti, "image a")
        assert "image a" in caught.value.message and caught.value.remedy
    with pytest.raises(UnsupportedInput, match="a DICOM file that is no mask"):
        labels_on(ct, nifti, "a")


def test_a_header_that_claims_more_than_its_file_holds(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    header = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4000 4000 400\nencoding: gzip\n\n"
    (tmp_path / "bomb.nrrd").write_bytes(header + b"\x1f\x8b" + bytes(100))
    with pytest.raises(UnreadableInput, match="claims 6,400,000,000 voxels"):
        open_mask(tmp_path / "bomb.nrrd", "a")


def test_voxels_of_a_mask_in_another_folder_are_not_followed(tmp_path: Path) -> None:
    header = (
        "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = ../secret.raw\n"
    )
    (tmp_path / "a.mhd").write_text(header)
    with pytest.raises(UnsupportedInput, match="elsewhere"):
        open_mask(tmp_path / "a.mhd", "a")


def test_without_simpleitk_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\ntype: uint8\n")
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    with pytest.raises(UnsupportedInput) as caught:
        open_mask(tmp_path / "a.nrrd", "a")
    assert "umedfeat[itk]" in caught.value.remedy


def test_uneven_slices_find_their_contours(tmp_path: Path) -> None:
    """The second gap is twice as wide: the slice at 20 mm is the fourth, not the fifth."""
    series(tmp_path / "ct", [0.0, 5.0, 10.0, 20.0, 25.0])
    facts = facts_of(tmp_path / "ct")
    path = structure_set(tmp_path / "rs.dcm", {"a": [square(-4, -4, 4, 4, 20.0)]})
    assert np.flatnonzero(labels_on(path, facts, "a").any(axis=(1, 2))).tolist() == [3]
    grid = grid_of(replace(facts))
    assert grid is not None and grid.voxels(np.array([[0.0, 0, 15.0]]))[0, 2] == pytest.approx(2.5)
