"""DICOM as a radiologist would see it: series, exclusions, pixels."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_factory import body, image, save, series
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from umedfeat.contract import Plan, RegionUnreadable, Source
from umedfeat.discovery import Discovery, discover
from umedfeat.errors import EmptyImage, InputError, UnreadableInput, UnsupportedInput
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, IntensityPolicy, Limits, Policy, VolumePolicy
from umedfeat.readers import open_reader

PSEUDONYMS = Pseudonyms(b"a key of the tests")
SMALL = Policy(image=ImagePolicy(size=32))


def find(folder: Path, policy: Policy = SMALL) -> Discovery:
    return discover([folder], policy, PSEUDONYMS)


def read(source: Source, policy: Policy = SMALL) -> tuple[Plan, list[Any]]:
    reader = open_reader(source, policy)
    try:
        plan = reader.plan()
        return plan, list(reader.read(plan.regions))
    finally:
        reader.close()


def one(path: Path, dataset: Any, policy: Policy = SMALL) -> tuple[Plan, Any]:
    save(dataset, path / "one.dcm")
    sources = find(path, policy).sources
    assert len(sources) == 1
    plan, images = read(sources[0], policy)
    return plan, images[0]


@settings(max_examples=8)
@given(seed=st.integers(0, 2**16))
def test_names_and_instance_numbers_decide_nothing(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("series")
    generator = random.Random(seed)
    positions = [0.0, 5.0, 10.0, 15.0, 20.0]
    paths = series(folder / "a", generator.sample(positions, 5))
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = generator.randrange(1000)
        dataset.save_as(path)
        path.rename(path.with_name(f"{generator.random()}"))
    plan, images = read(find(folder).sources[0])
    assert plan.depth == 5
    assert np.abs(np.diff(plan.regions["position"])) == pytest.approx([5.0] * 4)
    middle = [float(picture[16, 8, 0]) for picture in images]
    assert middle == sorted(middle) or middle == sorted(middle, reverse=True)


def test_several_series_are_several_items_and_none_is_first(tmp_path: Path) -> None:
    series(tmp_path / "study", [0, 5, 10])
    for k, path in enumerate(series(tmp_path / "other", [0, 5], modality="MR")):
        path.rename(tmp_path / "study" / f"mr{k}.dcm")
    found = find(tmp_path)
    assert sorted(source.modality for source in found.sources) == ["CT", "MR"]
    assert len({source.id for source in found.sources}) == 2


def test_localizers_copies_and_reports_are_listed(tmp_path: Path) -> None:
    paths = series(tmp_path, [0, 5, 10, 15])
    (tmp_path / "copy.dcm").write_bytes(paths[0].read_bytes())
    save(image("CT", body(0), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), tmp_path / "scout.dcm")
    save(image("CT", body(0), ImageType=["DERIVED", "SECONDARY", "MIP"]), tmp_path / "mip.dcm")
    save(image("CT", body(0), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"), tmp_path / "report.dcm")
    save(image("CT", body(0), SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"), tmp_path / "seg.dcm")
    found = find(tmp_path)
    assert [len(source.files) for source in found.sources] == [4]
    reasons = " | ".join(sorted(skipped.reason for skipped in found.skipped))
    for told in ("second copy", "localizer", "derived image", "structured report", "segmentation"):
        assert told in reasons
    derived = find(tmp_path, Policy(volume=VolumePolicy(include_derived=True)))
    assert len(derived.sources) == 2


def test_a_lone_plane_across_a_series_is_a_scout(tmp_path: Path) -> None:
    paths = series(tmp_path, [0, 5, 10, 15])
    across = pydicom.dcmread(paths[0])
    across.SOPInstanceUID = across.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    across.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    across.save_as(tmp_path / "scout.dcm")
    found = find(tmp_path)
    assert [len(source.files) for source in found.sources] == [4]
    assert "lone orientation" in found.skipped[0].reason


def test_two_phases_at_one_place_are_two_volumes(tmp_path: Path) -> None:
    first = series(tmp_path / "a", [0, 5, 10], TemporalPositionIdentifier=1)
    uid = pydicom.dcmread(first[0]).SeriesInstanceUID
    for k, path in enumerate(series(tmp_path / "b", [0, 5, 10], TemporalPositionIdentifier=2)):
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = uid
        dataset.save_as(tmp_path / "a" / f"second{k}.dcm")
        path.unlink()
    found = find(tmp_path)
    assert sorted(len(source.files) for source in found.sources) == [3, 3]


def test_missing_slices_and_tilt_are_recorded(tmp_path: Path) -> None:
    series(tmp_path / "gap", [0, 5, 10, 20, 25])
    plan, _ = read(find(tmp_path / "gap").sources[0])
    assert plan.detail["missing_slices"] == 1
    paths = series(tmp_path / "tilt", [0, 5, 10])
    for k, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient = [-16.0, -16.0 + 2 * k, 5.0 * k]
        dataset.save_as(path)
    plan, _ = read(find(tmp_path / "tilt").sources[0])
    assert plan.detail["gantry_tilt_degrees"] == pytest.approx(np.degrees(np.arctan(2 / 5)), abs=0.1)


def test_hounsfield_units_reach_the_window(tmp_path: Path) -> None:
    plan, picture = one(tmp_path, image("CT", body(0)), Policy(image=ImagePolicy(size=32, fit="squash")))
    assert plan.modality == "CT"
    assert picture.dtype == np.float32
    assert picture[16, 8, 0] == pytest.approx((40 + 160) / 400, abs=1e-5)
    assert picture[0, 0, 0] == 0


def test_monochrome1_is_inverted_exactly_once(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(32, dtype=np.uint16) * 100, (32, 1))
    _, white = one(tmp_path / "a", image("DX", ramp))
    _, black = one(tmp_path / "b", image("DX", ramp, PhotometricInterpretation="MONOCHROME1"))
    both = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}
    _, once = one(tmp_path / "c", image("DX", ramp, **both))
    assert np.allclose(black, 1 - white, atol=1e-6)
    assert np.array_equal(once, black)


def test_padding_is_background_and_outside_of_percentiles(tmp_path: Path) -> None:
    pixels = np.tile(np.arange(32, dtype=np.int16) * 10, (32, 1))
    pixels[:8] = -2000
    plan, picture = one(tmp_path, image("MR", pixels, PixelPaddingValue=-2000))
    assert plan.detail["intensity"]["low"] >= 0  # type: ignore[index,call-overload,operator]
    assert picture[:7].max() == 0


def test_sentinels_below_air_are_background_without_a_tag(tmp_path: Path) -> None:
    pixels = body(0)
    pixels[:4] = -2000
    _, picture = one(tmp_path, image("CT", pixels), Policy(image=ImagePolicy(size=32)))
    assert picture[:3].max() == 0


def test_a_slope_of_zero_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match="slope 0"):
        one(tmp_path, image("CT", body(0), RescaleSlope=0))


def test_eight_bit_ct_makes_no_claim_of_hounsfield_units(tmp_path: Path) -> None:
    dataset = image("CT", body(0))
    del dataset.RescaleSlope, dataset.RescaleIntercept
    plan, _ = one(tmp_path, dataset)
    assert plan.detail["hounsfield"] is False
    assert "p2.5" in str(plan.detail["intensity"])


@pytest.mark.parametrize(
    ("function", "expected"), [("LINEAR", 0.5 + 0.5 / 399), ("LINEAR_EXACT", 0.5), ("SIGMOID", 0.5)]
)
def test_stored_windows(tmp_path: Path, function: str, expected: float) -> None:
    tags = {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": function}
    policy = Policy(image=ImagePolicy(size=32), intensity=IntensityPolicy(ct_window="file"))
    _, picture = one(tmp_path, image("CT", body(0), **tags), policy)
    assert picture[16, 8, 0] == pytest.approx(expected, abs=1e-5)


def test_truncated_pixels_fail_that_file(tmp_path: Path) -> None:
    dataset = image("CT", body(0))
    dataset.PixelData = dataset.PixelData[:500]
    with pytest.raises(UnreadableInput, match="truncated"):
        one(tmp_path, dataset)


def test_a_truncated_slice_tells_where_it_lies(tmp_path: Path) -> None:
    paths = series(tmp_path, [0, 5, 10])
    paths[1].write_bytes(paths[1].read_bytes()[:-500])
    _, images = read(find(tmp_path).sources[0])
    assert [isinstance(picture, RegionUnreadable) for picture in images] == [False, True, False]
    assert str(images[1]).startswith("at (-16, -16, 5) mm: the pixel data is damaged or truncated")


def test_a_constant_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmptyImage):
        one(tmp_path, image("DX", np.full((32, 32), 7, dtype=np.uint16)))


def test_no_preamble_needs_force(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes((data_dir / "dicom" / "CR-MONO1-10-chest_no_preamble").read_bytes())
    found = find(tmp_path)
    assert "--force" in found.failures[0].remedy
    forced = Policy(limits=Limits(force=True), image=ImagePolicy(size=32))
    assert len(read(find(tmp_path, forced).sources[0], forced)[1]) == 1


def test_no_meta_header_needs_force(tmp_path: Path) -> None:
    raw = save(image("DX", body(3).astype(np.uint16)), tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(raw[:132] + raw[144 + int.from_bytes(raw[140:144], "little") :])
    found = find(tmp_path)
    assert not found.sources and "does not tell how it is encoded" in found.failures[0].message
    assert "--force" in found.failures[0].remedy
    forced = Policy(limits=Limits(force=True), image=ImagePolicy(size=32))
    assert len(read(find(tmp_path, forced).sources[0], forced)[1]) == 1


def test_twelve_bit_jpeg_names_the_package(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mr").write_bytes((data_dir / "dicom" / "wg04" / "MR4_JPLY").read_bytes())
    with pytest.raises(UnsupportedInput, match=r"^mr: 12-bit JPEG") as caught:
        read(find(tmp_path).sources[0])
    assert "umedfeat[gpl-codecs]" in caught.value.remedy


def test_identifiers_in_names_are_replaced(tmp_path: Path) -> None:
    save(image("DX", body(3).astype(np.uint16)), tmp_path / "ID-4711" / "Canary.dcm")
    source = find(tmp_path).sources[0]
    for part in ("4711", "Canary", "Bird"):
        assert part not in source.id + source.name + source.patient
    assert source.patient == PSEUDONYMS.of("ID-4711")


def test_real_files_agree_with_an_independent_reading(data_dir: Path) -> None:
    """highdicom applies rescale, window and inversion on its own."""
    import highdicom

    path = data_dir / "dicom" / "pydicom" / "CT_small.dcm"
    expected = highdicom.imread(path).get_frame(1, apply_voi_transform=False, apply_presentation_lut=False)
    reader = open_reader(Source("x", "dicom", path, (path,), "x", modality="CT", selector='{"series": {}}'), SMALL)
    values, _ = reader._stack.slice(0)  # type: ignore[attr-defined]
    assert np.abs(values - expected).max() < 1e-3
    reader.close()


def test_every_real_file_is_read_or_refused_by_name(data_dir: Path) -> None:
    policy = Policy(image=ImagePolicy(size=32), volume=VolumePolicy(include_derived=True))
    found = find(data_dir / "dicom" / "wg04", policy)
    assert len(found.sources) == 9
    for source in found.sources:
        try:
            plan, images = read(source, policy)
        except InputError as error:
            assert source.name in str(error)
            continue
        assert len(images) == len(plan.regions)
        assert all(0 <= picture.min() <= picture.max() <= 1 for picture in images)
