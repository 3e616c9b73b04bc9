"""Several images at one place: each volume holds what belongs together, whatever else is missing or noisy."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_factory import body, image, save, series
from test_dicom import PSEUDONYMS, SMALL, find, read
from test_dicom_frames import AS_STORED, enhanced, frame, how, item, stored
from test_dicom_series import STEPS, altered, reasons

from umedfeat.contract import Source
from umedfeat.discovery import discover
from umedfeat.errors import SetupError
from umedfeat.readers.dicom.repeats import Spot, alike, volumes_at_places

ONE = {"SeriesInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3"}


def told(source: Source, tag: str) -> set[str]:
    return {str(pydicom.dcmread(path).get(tag)) for path in source.files}


def repeated(folder: Path, places: list[float], **tags: Any) -> None:
    name = "-".join(str(value) for value in tags.values()).replace(" ", "")
    series(folder / name, places, "MR", **ONE, **tags)


def test_two_tags_together_and_a_missing_image_mix_nothing(tmp_path: Path) -> None:
    """Two echoes in two phases; one image is lost, and still no volume holds two kinds."""
    for echo in (10, 80):
        for phase in (1, 2):
            places = [z for z in STEPS if (echo, phase, z) != (10, 2, 10.0)]
            repeated(tmp_path, places, EchoTime=echo, TemporalPositionIdentifier=phase)
    sources = find(tmp_path).sources
    assert sorted(len(source.files) for source in sources) == [4, 5, 5, 5]
    kinds = [(told(source, "EchoTime"), told(source, "TemporalPositionIdentifier")) for source in sources]
    assert all(len(echo) == len(phase) == 1 for echo, phase in kinds)
    assert {read(source)[0].detail["parted_by"] for source in sources} == {"TemporalPositionIdentifier+EchoTime"}


def test_a_tag_that_differs_from_slice_to_slice_splits_nothing(tmp_path: Path) -> None:
    """Times of acquisition in turn: the first image of every place is the first volume."""
    for phase, seconds in ((1, 0), (2, 30)):
        for k, path in enumerate(series(tmp_path / str(phase), STEPS, "MR", **ONE)):
            altered(path, AcquisitionTime=f"1015{seconds + k:02d}", ContentTime=f"1016{seconds + k:02d}")
    sources = find(tmp_path).sources
    assert [len(source.files) for source in sources] == [5, 5]
    times = [sorted(told(source, "AcquisitionTime")) for source in sources]
    assert times == [[f"1015{seconds + k:02d}" for k in range(5)] for seconds in (0, 30)]
    assert read(sources[0])[0].detail["parted_by"] == "AcquisitionTime in turn"


def test_phases_of_different_reach_stay_apart(tmp_path: Path) -> None:
    for number, places in ((1, STEPS), (2, STEPS), (3, [30.0, 35.0, 40.0])):
        repeated(tmp_path, places, AcquisitionNumber=number)
    assert sorted(len(source.files) for source in find(tmp_path).sources) == [3, 5, 5]


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("ConvolutionKernel", ("B30f", "B70f")),
        ("FrameReferenceTime", (0.0, 60000.0)),
        ("InversionTime", (300, 900)),
        ("DiffusionGradientOrientation", ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M", "ND", "WATER"], ["ORIGINAL", "PRIMARY", "M", "ND", "FAT"])),
    ],
)
def test_reconstructions_frames_and_gradients_are_volumes_of_their_own(
    tmp_path: Path, tag: str, values: tuple[Any, Any]
) -> None:
    for value in values:
        repeated(tmp_path, STEPS, **{tag: value})
    sources = find(tmp_path).sources
    assert [len(source.files) for source in sources] == [5, 5]
    assert all(len(told(source, tag)) == 1 for source in sources)
    assert read(sources[0])[0].detail["parted_by"] == tag


def test_places_that_differ_by_noise_are_one_place(tmp_path: Path) -> None:
    """Interleaving two phases that lie 4 micrometres apart would make one volume of nonsense."""
    repeated(tmp_path, STEPS, TriggerTime=0)
    repeated(tmp_path, [z + 0.004 for z in STEPS], TriggerTime=500)
    assert [len(source.files) for source in find(tmp_path).sources] == [5, 5]


def test_noise_in_orientation_and_spacing_does_not_part_a_series(tmp_path: Path) -> None:
    """Values on either side of a rounding edge."""
    for k, path in enumerate(series(tmp_path, STEPS)):
        noise = 1e-6 * (-1) ** k
        altered(path, ImageOrientationPatient=[1, 0.0005 + noise, 0, 0, 1, 0], PixelSpacing=[0.70315 + noise] * 2)
    assert [len(source.files) for source in find(tmp_path).sources] == [5]


def test_one_series_uid_of_two_patients_is_two_series(tmp_path: Path) -> None:
    for patient in ("A-1", "B-2"):
        series(tmp_path / patient, STEPS, **ONE, PatientID=patient)
    sources = find(tmp_path).sources
    assert [len(source.files) for source in sources] == [5, 5]
    assert len({source.patient for source in sources}) == len({source.id for source in sources}) == 2


def test_one_instance_uid_at_two_places_is_two_images_and_at_one_place_one(tmp_path: Path) -> None:
    """Anonymisers that give one UID to a whole series must not cost slices."""
    first, second, *_ = series(tmp_path, STEPS)
    uid = pydicom.dcmread(first).SOPInstanceUID
    altered(second, SOPInstanceUID=uid)
    (tmp_path / "copy.dcm").write_bytes(first.read_bytes())
    found = find(tmp_path)
    assert [len(source.files) for source in found.sources] == [5]
    assert "second copy" in reasons(found) and len(found.skipped) == 1
    assert "share one SOP instance UID" in str(read(found.sources[0])[0].detail["note"])


def test_a_blank_modality_follows_from_the_class(tmp_path: Path) -> None:
    for path in series(tmp_path, STEPS):
        altered(path, Modality="")
    sources = find(tmp_path).sources
    assert [(source.modality, len(source.files)) for source in sources] == [("CT", 5)]
    assert read(sources[0])[0].detail["intensity"]["window"] == "soft-tissue"  # type: ignore[index,call-overload]


@pytest.mark.parametrize("kind", ["ADC", "FA", "TRACEW"])
def test_computed_maps_are_derived_images(tmp_path: Path, kind: str) -> None:
    repeated(tmp_path, STEPS, ImageType=["DERIVED", "PRIMARY", "DIFFUSION", kind])
    found = find(tmp_path)
    assert not found.sources
    assert f"derived image (DERIVED/PRIMARY/DIFFUSION/{kind}); --include-derived reads it" in reasons(found)


def test_thin_and_thick_slices_in_one_series_are_no_gap(tmp_path: Path) -> None:
    """A head CT: 2.5 mm through the skull base, 5 mm above; one thick slice is lost."""
    thin, thick = [0, 2.5, 5, 7.5, 10, 12.5], [16.25, 21.25, 26.25, 36.25, 41.25]
    for name, places, thickness in (("a", thin, 2.5), ("b", thick, 5.0)):
        series(tmp_path / name, places, **ONE, SliceThickness=thickness)
    plan, _ = read(find(tmp_path).sources[0])
    assert plan.depth == 11
    assert plan.detail["missing_slices"] == 1
    assert plan.detail["slice_thickness_mm"] == "2.5 to 5"


def test_frames_with_a_b_value_missing_at_one_place_mix_nothing(tmp_path: Path) -> None:
    frames, pixels = [], []
    for b in (0.0, 800.0):
        for z in STEPS:
            if (b, z) != (0.0, 5.0):
                groups = frame(z)
                groups.MRDiffusionSequence = item(DiffusionBValue=b)
                frames.append(groups)
                pixels.append(body(z) + (500 if b else 0))
    mixed = random.Random(1).sample(range(len(frames)), len(frames))
    enhanced(tmp_path, [frames[k] for k in mixed], np.stack([pixels[k] for k in mixed]).astype(np.int16))
    policy = how(volume_index="all")
    plans = [read(source, policy)[0] for source in find(tmp_path, policy).sources]
    assert [plan.depth for plan in plans] == [4, 5]
    assert {plan.detail["parted_by"] for plan in plans} == {"DiffusionBValue"}


def test_stacks_of_one_direction_are_volumes_of_their_own(tmp_path: Path) -> None:
    """Discs of a spine: two stacks that do not touch."""
    frames = [frame(z, stack=stack) for stack, first in (("1", 0.0), ("2", 60.0)) for z in (first, first + 5)]
    enhanced(tmp_path, frames, stored([0, 5, 60, 65]))
    policy = how(volume_index="all")
    plans = [read(source, policy)[0] for source in find(tmp_path, policy).sources]
    assert [plan.depth for plan in plans] == [2, 2]
    assert not any("missing_slices" in plan.detail for plan in plans)
    assert AS_STORED.volume.volume_index == ""


def test_volumes_do_not_depend_on_the_order_of_images() -> None:
    generator = random.Random(5)
    images = [(z, {"a": str(a), "b": str(b)}) for z in range(4) for a in (1, 10, 2) for b in (1, 2)]
    expected = [[(z, {"a": str(a), "b": str(b)}) for z in range(4)] for a in (1, 2, 10) for b in (1, 2)]
    for _ in range(5):
        shuffled = generator.sample(images, len(images))
        volumes, how_told = volumes_at_places(shuffled, lambda i: Spot(i[0], i[1], None), 0.1)
        assert (volumes, how_told) == (expected, "a+b")


def test_alike_has_no_rounding_edge() -> None:
    assert alike([(0.49999,), (0.50001,), (0.7,), ()], 1e-3) == [1, 1, 2, 0]


def test_a_photometric_change_within_a_series_parts_it(tmp_path: Path) -> None:
    series(tmp_path / "a", STEPS, "MR", **ONE)
    inverted = {"PhotometricInterpretation": "MONOCHROME1", "ImagePositionPatient": [-16.0, -16.0, 50.0]}
    pixels = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1.0, 1.0]}
    save(image("MR", body(1), **ONE, **pixels, **inverted), tmp_path / "b.dcm")
    assert sorted(len(source.files) for source in find(tmp_path).sources) == [1, 5]


def listed(folder: Path, header: str, rows: list[str]) -> Any:
    (folder / "study.csv").write_text("\n".join([header, *rows]))
    return discover([folder / "study.csv"], SMALL, PSEUDONYMS)


def test_slices_that_a_manifest_lists_with_ids_are_items_of_their_own(tmp_path: Path) -> None:
    """A label per slice: the first one's must not stand for all."""
    paths = series(tmp_path, STEPS)
    found = listed(tmp_path, "path,id,label", [f"{p.name},case-{k},{k % 2}" for k, p in enumerate(paths)])
    assert [source.id for source in found.sources] == [f"case-{k}" for k in range(5)]
    assert [source.meta["label"] for source in found.sources] == ["0", "1", "0", "1", "0"]
    assert [source.files for source in found.sources] == [(path,) for path in paths]


def test_slices_of_one_series_with_contradicting_rows_are_refused(tmp_path: Path) -> None:
    paths = series(tmp_path, STEPS)
    with pytest.raises(SetupError, match=r"im001\.dcm and im002\.dcm .* differ in label") as caught:
        listed(tmp_path, "path,label", [f"{path.name},{int(k > 1)}" for k, path in enumerate(paths)])
    assert "an id of its own" in caught.value.remedy


def test_slices_of_one_series_with_equal_rows_are_one_item(tmp_path: Path) -> None:
    paths = series(tmp_path, STEPS)
    found = listed(tmp_path, "path,patient,label", [f"{path.name},P1,benign" for path in paths])
    assert [(len(source.files), source.meta["label"]) for source in found.sources] == [(5, "benign")]
