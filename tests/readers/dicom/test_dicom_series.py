"""A folder as archives export it: the right items, and everything else listed with its reason."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_factory import body, image, save, series
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data.data_manager import DATA_ROOT
from pydicom.uid import generate_uid
from test_dicom import PSEUDONYMS, SMALL, find, read

from umedfeat.contract import Plan
from umedfeat.discovery import Discovery, discover
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, Policy, VolumePolicy

STEPS = [0.0, 5.0, 10.0, 15.0, 20.0]


def altered(path: Path, to: Path | None = None, **tags: Any) -> Path:
    """The same file as another image."""
    dataset = pydicom.dcmread(path)
    if to is not None:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(to or path)
    return to or path


def reasons(found: Discovery) -> str:
    return " | ".join(sorted(skipped.reason for skipped in found.skipped))


def study(folder: Path) -> None:
    """CT of two series, MR with two echoes, a film, scouts, derived images, a report and a copy in one flat folder."""
    uid = generate_uid()
    made: list[Path] = []
    made += series(folder / "ct1", STEPS, StudyInstanceUID=uid)
    made += series(folder / "ct2", STEPS[:3], StudyInstanceUID=uid)
    for echo in (10, 80):
        made += series(
            folder / f"mr{echo}", STEPS, "MR", StudyInstanceUID=uid, SeriesInstanceUID="1.2.3.4", EchoTime=echo
        )
    made.append(save(image("DX", body(3).astype(np.uint16), StudyInstanceUID=uid), folder / "dx.dcm"))
    made.append(altered(made[0], folder / "scout.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    made.append(altered(made[0], folder / "mip.dcm", ImageType=["DERIVED", "SECONDARY", "MIP"]))
    made.append(altered(made[0], folder / "across.dcm", ImageOrientationPatient=[0, 1, 0, 0, 0, -1]))
    copy = folder / "copy.dcm"
    copy.write_bytes(made[1].read_bytes())
    made.append(copy)
    made.append(save(image("SR", body(0), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33"), folder / "sr.dcm"))


def test_a_mixed_study_becomes_its_series_and_the_rest_is_listed(tmp_path: Path) -> None:
    study(tmp_path)
    found = find(tmp_path)
    assert sorted((s.modality, len(s.files)) for s in found.sources) == [
        ("CT", 3), ("CT", 5), ("DX", 1), ("MR", 5), ("MR", 5)
    ]  # fmt: skip
    assert len(found.skipped) == 5 and not found.failures
    for told in ("localizer", "derived image", "lone orientation", "second copy", "structured report"):
        assert told in reasons(found)
    used = {path for source in found.sources for path in source.files}
    assert len(used) + len(found.skipped) == sum(path.is_file() for path in tmp_path.rglob("*"))
    assert len({source.study for source in found.sources}) == 1


def contents(folder: Path) -> list[tuple[str, str, str]]:
    """What a folder becomes: modality, positions and pixels of every item, whatever it is called."""
    what = []
    for source in find(folder).sources:
        plan, images = read(source)
        digest = hashlib.sha256(np.stack(images).tobytes()).hexdigest()
        what.append((source.modality, str(plan.regions["position"].tolist()), digest))
    return sorted(what, key=repr)


@pytest.fixture(scope="module")
def in_order(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str, str]]]:
    folder = tmp_path_factory.mktemp("study")
    study(folder)
    return folder, contents(folder)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_shuffled_names_and_instance_numbers_change_nothing(
    in_order: tuple[Path, list[tuple[str, str, str]]],
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
) -> None:
    folder, expected = in_order
    shuffled, generator = tmp_path_factory.mktemp("shuffled"), random.Random(seed)
    for path in folder.rglob("*"):
        if path.is_file():
            dataset = pydicom.dcmread(path)
            dataset.InstanceNumber = generator.randrange(10_000)
            place = shuffled / generator.choice("abc")
            place.mkdir(exist_ok=True)
            dataset.save_as(place / f"{generator.random()}")
    assert contents(shuffled) == expected


def test_every_excluded_kind_of_object_is_skipped_with_its_reason(tmp_path: Path) -> None:
    kinds = {
        "88.11": "structured report", "88.59": "structured report", "481.3": "radiotherapy structures",
        "481.5": "radiotherapy object", "481.2": "radiotherapy dose", "11.1": "presentation state",
        "9.1.1": "waveform", "66.4": "segmentation", "30": "parametric map", "104.1": "encapsulated document",
    }  # fmt: skip
    for kind in kinds:
        save(image("OT", body(0), SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{kind}"), tmp_path / f"{kind}.dcm")
    found = find(tmp_path)
    told = {skipped.name.removesuffix(".dcm"): skipped.reason for skipped in found.skipped}
    assert not found.sources and not found.failures
    for kind, what in kinds.items():
        assert what in told[kind]


@pytest.mark.parametrize("derived", [False, True])
def test_slices_side_by_side_in_one_image_are_not_shown_as_one_slice(tmp_path: Path, derived: bool) -> None:
    """Siemens' functional and diffusion series: an image is a volume."""
    series(tmp_path, STEPS, "MR", ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    found = find(tmp_path, Policy(volume=VolumePolicy(include_derived=derived)))
    assert not found.sources and len(found.skipped) == 5
    assert all("mosaic" in skipped.reason and "dcm2niix" in skipped.reason for skipped in found.skipped)


def test_real_reports_plans_and_waveforms_are_skipped() -> None:
    folder = Path(DATA_ROOT, "test_files")
    names = ["test-SR.dcm", "rtplan.dcm", "waveform_ecg.dcm", "rtdose.dcm"]
    found = discover([folder / name for name in names], Policy(), PSEUDONYMS)
    assert not found.sources and not found.failures
    assert len(found.skipped) == len(names)
    assert "waveform" in reasons(found)


def test_three_single_planes_are_scouts(tmp_path: Path) -> None:
    first = series(tmp_path, [0.0])[0]
    altered(first, tmp_path / "b.dcm", ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    altered(first, tmp_path / "c.dcm", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    found = find(tmp_path)
    assert not found.sources and len(found.skipped) == 3
    assert {skipped.reason for skipped in found.skipped} == {"lone orientation in its series: a localizer"}


def test_a_single_slice_is_an_item(tmp_path: Path) -> None:
    series(tmp_path, [0.0])
    plan, images = read(find(tmp_path).sources[0])
    assert plan.depth == len(images) == 1


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("TemporalPositionIdentifier", (1, 2)),
        ("AcquisitionNumber", (3, 4)),
        ("EchoTime", (10, 80)),
        ("DiffusionBValue", (0.0, 800.0)),
        ("TriggerTime", (20, 500)),
        ("AcquisitionTime", ("101500", "101530")),
    ],
)
def test_phases_echoes_and_b_values_at_one_place_are_volumes_of_their_own(
    tmp_path: Path, tag: str, values: tuple[Any, Any]
) -> None:
    for k, value in enumerate(values):
        series(tmp_path / str(k), STEPS, "MR", SeriesInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3", **{tag: value})
    found = discover([tmp_path], SMALL, Pseudonyms(b"k", keep=True))
    assert [len(source.files) for source in found.sources] == [5, 5]
    told = [{pydicom.dcmread(path)[tag].value for path in source.files} for source in found.sources]
    assert all(len(part) == 1 for part in told) and len(told[0] | told[1]) == 2


def test_phases_that_nothing_tells_apart_are_refused_by_name(tmp_path: Path) -> None:
    """The same numbers twice: no order of UIDs makes volumes of them."""
    for k in range(2):
        series(tmp_path / str(k), STEPS, "MR", SeriesInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3")
    found = find(tmp_path)
    assert not found.sources and len(found.failures) == 1
    failure = found.failures[0]
    assert failure.source.startswith("0/mr-") and failure.message.startswith(failure.source)
    assert "10 images lie at 5 places" in failure.message and "manifest" in failure.remedy


def test_duplicates_are_kept_once_and_the_same_one_whatever_the_order(tmp_path: Path) -> None:
    paths = series(tmp_path / "a", STEPS)
    for path in paths[:2]:
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
    found = find(tmp_path)
    assert [len(source.files) for source in found.sources] == [5]
    assert sorted(skipped.name for skipped in found.skipped) == ["b/im000.dcm", "b/im001.dcm"]


def test_missing_slices_are_counted_and_no_slice_is_invented(tmp_path: Path) -> None:
    series(tmp_path, [0.0, 5.0, 15.0, 20.0, 40.0, 45.0])
    plan, images = read(find(tmp_path).sources[0])
    assert plan.detail["missing_slices"] == 4
    assert len(images) == 6 and plan.regions["position"].tolist() == [0, 5, 15, 20, 40, 45]


def tilted(folder: Path) -> Plan:
    for k, path in enumerate(series(folder, STEPS)):
        altered(path, ImagePositionPatient=[-16.0, -16.0 + 2.0 * k, 5.0 * k])
    return read(find(folder).sources[0])[0]


def test_gantry_tilt_is_recorded_and_not_resliced(tmp_path: Path) -> None:
    plan = tilted(tmp_path)
    assert plan.detail["gantry_tilt_degrees"] == pytest.approx(21.8, abs=0.1)
    policy = Policy(volume=VolumePolicy(plane="coronal"), image=ImagePolicy(size=32))
    with pytest.raises(Exception, match=r"sheared by 21\.8 degrees"):
        read(find(tmp_path, policy).sources[0], policy)


def test_a_real_tilted_series_is_read(data_dir: Path) -> None:
    policy = Policy(volume=VolumePolicy(include_derived=True), image=ImagePolicy(size=32))
    folder = data_dir / "dicom" / "dicom2nifti" / "failing" / "gantrytilting"
    source = find(folder, policy).sources[0]
    assert len(source.files) == 4


def test_per_slice_slopes_are_applied_before_percentiles(tmp_path: Path) -> None:
    """PET and Philips MR: equal stored values mean different activities."""
    paths = series(tmp_path, STEPS, "PT")
    for k, path in enumerate(paths):
        altered(path, RescaleSlope=float(k + 1), RescaleIntercept=0.0)
    source = find(tmp_path).sources[0]
    plan, images = read(source)
    low, high = (float(plan.detail["intensity"][key]) for key in ("low", "high"))  # type: ignore[index,call-overload,arg-type]
    expected = [(1024 + 40 + z) * (k + 1) for k, z in enumerate(STEPS)]
    middle = [float(picture[16, 8, 0]) * (high - low) + low for picture in images]
    assert middle == pytest.approx(np.clip(expected, low, high), rel=1e-3)
    assert len(set(np.round(middle))) >= 4


def test_spacing_rows_and_image_type_split_a_series(tmp_path: Path) -> None:
    uid = {"SeriesInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3"}
    series(tmp_path / "a", STEPS, **uid)
    for path in series(tmp_path / "b", [50.0, 55.0], **uid):
        altered(path, PixelSpacing=[0.5, 0.5])
    for path in series(tmp_path / "c", [80.0, 85.0, 90.0], **uid):
        altered(path, ImageType=["ORIGINAL", "PRIMARY", "OTHER"])
    assert sorted(len(source.files) for source in find(tmp_path).sources) == [2, 3, 5]


def test_view_and_laterality_are_recorded_and_free_text_there_is_not(tmp_path: Path) -> None:
    pixels = np.tile(np.arange(32, dtype=np.uint16) * 10, (32, 1))
    save(image("MG", pixels, ViewPosition="MLO", ImageLaterality="L"), tmp_path / "a.dcm")
    save(image("MG", pixels, ViewPosition="ANNA", Laterality="BOB"), tmp_path / "b.dcm")
    first, second = (read(source)[0].detail for source in find(tmp_path).sources)
    assert (first["view"], first["laterality"]) == ("MLO", "L")
    assert "view" not in second and "laterality" not in second


def test_burned_in_annotation_is_flagged(tmp_path: Path) -> None:
    pixels = np.tile(np.arange(32, dtype=np.uint16) * 10, (32, 1))
    save(image("DX", pixels, BurnedInAnnotation="YES"), tmp_path / "a.dcm")
    assert read(find(tmp_path).sources[0])[0].detail["burned_in_annotation"] is True


def test_radiographs_keep_their_stored_orientation(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32), np.uint16)
    pixels[2:6, 2:12] = 1000
    tags = {"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0], "PatientOrientation": ["R", "H"]}
    save(image("DX", pixels, **tags), tmp_path / "a.dcm")
    _, images = read(find(tmp_path).sources[0])
    assert images[0][3, 5, 0] == 1 and images[0][28, 28, 0] == 0
