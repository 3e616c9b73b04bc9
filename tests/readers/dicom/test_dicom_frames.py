"""Files of several frames: enhanced CT and MR are volumes, cines keep their time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_factory import body, image, save
from pydicom.data.data_manager import DATA_ROOT
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage
from test_dicom import find, read

from umedfeat.contract import Plan
from umedfeat.discovery import discover
from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.policy import ImagePolicy, IntensityPolicy, Limits, Policy, VolumePolicy
from umedfeat.readers import open_reader

AXIAL, CORONAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]
AS_STORED = Policy(image=ImagePolicy(size=32), intensity=IntensityPolicy(ct_window="0,1000", window="percentile"))


def how(**volume: Any) -> Policy:
    return Policy(volume=VolumePolicy(**volume), image=ImagePolicy(size=32), intensity=AS_STORED.intensity)


def item(**values: Any) -> list[Dataset]:
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return [dataset]


def frame(z: float, *, axes: list[int] = AXIAL, slope: float | None = None, time: int = 1, stack: str = "1") -> Dataset:
    """The functional groups of one frame."""
    along = np.cross(axes[:3], axes[3:])
    groups = Dataset()
    groups.PlanePositionSequence = item(ImagePositionPatient=[float(v) for v in along * z])
    groups.PlaneOrientationSequence = item(ImageOrientationPatient=axes)
    groups.FrameContentSequence = item(StackID=stack, TemporalPositionIndex=time, DimensionIndexValues=[1, time])
    if slope is not None:
        groups.PixelValueTransformationSequence = item(RescaleSlope=slope, RescaleIntercept=-10, RescaleType="HU")
    return groups


def enhanced(path: Path, frames: list[Dataset], pixels: np.ndarray, modality: str = "MR", **tags: Any) -> Path:
    dataset = image(modality, pixels[0], **{"SOPClassUID": EnhancedMRImageStorage, **tags})
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    for name in ("RescaleSlope", "RescaleIntercept"):
        if name in dataset:
            delattr(dataset, name)
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=[1, 1], SliceThickness=5)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = frames
    return save(dataset, path / "enhanced.dcm")


def stored(places: list[float]) -> np.ndarray:
    """Frames whose middle tells where they belong."""
    return np.stack([body(z) for z in places]).astype(np.int16)


def physical_slices(path: Path, policy: Policy) -> tuple[Plan, list[np.ndarray]]:
    source = find(path, policy).sources[0]
    reader = open_reader(source, policy)
    plan = reader.plan()
    slices = [reader._stack.slice(k)[0] for k in range(plan.depth)]  # type: ignore[attr-defined]
    reader.close()
    return plan, slices


def test_each_frame_has_its_own_rescale_and_its_place(tmp_path: Path) -> None:
    places = [20.0, 0.0, 10.0, 5.0, 15.0]
    slopes = [1.0, 2.0, 0.5, 3.0, 1.5]
    frames = [frame(z, slope=slope) for z, slope in zip(places, slopes, strict=True)]
    path = enhanced(tmp_path, frames, stored(places))
    plan, slices = physical_slices(tmp_path, AS_STORED)
    assert plan.regions["position"] == pytest.approx([0, 5, 10, 15, 20])
    for values, z in zip(slices, (0, 5, 10, 15, 20), strict=True):
        k = places.index(z)
        assert np.allclose(values, stored(places)[k] * slopes[k] - 10)
    dataset = pydicom.dcmread(path)
    assert "RescaleSlope" not in dataset


def test_a_shared_rescale_counts_for_every_frame(tmp_path: Path) -> None:
    path = enhanced(tmp_path, [frame(z) for z in (0.0, 5.0)], stored([0, 5]))
    dataset = pydicom.dcmread(path)
    transform = item(RescaleSlope=2, RescaleIntercept=-100, RescaleType="US")
    dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = transform
    dataset.save_as(path)
    _, slices = physical_slices(tmp_path, AS_STORED)
    assert np.allclose(slices[1], stored([0, 5])[1] * 2.0 - 100)


def test_a_slope_of_zero_in_one_frame_is_an_error(tmp_path: Path) -> None:
    enhanced(tmp_path, [frame(0.0, slope=1), frame(5.0, slope=0)], stored([0, 5]))
    plan, slices = None, None
    with pytest.raises(Exception, match="slope 0"):
        plan, slices = physical_slices(tmp_path, AS_STORED)
    assert plan is slices is None


def test_the_order_of_frames_changes_nothing(tmp_path: Path) -> None:
    places = [0.0, 5.0, 10.0, 15.0]
    enhanced(tmp_path / "a", [frame(z, slope=z + 1) for z in places], stored(places))
    shuffled = random.Random(3).sample(places, 4)
    enhanced(tmp_path / "b", [frame(z, slope=z + 1) for z in shuffled], stored(shuffled))
    (one, ours), (other, theirs) = (physical_slices(tmp_path / name, AS_STORED) for name in "ab")
    assert np.array_equal(one.regions, other.regions)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_missing_frame_is_recorded(tmp_path: Path) -> None:
    enhanced(tmp_path, [frame(z) for z in (0.0, 5.0, 10.0, 20.0)], stored([0, 5, 10, 20]))
    plan, _ = physical_slices(tmp_path, AS_STORED)
    assert plan.detail["missing_slices"] == 1


def two_times(path: Path) -> None:
    """Two times of three slices, interleaved and the second one first."""
    frames = [frame(z, time=time) for time in (2, 1) for z in (10.0, 0.0, 5.0)]
    pixels = np.stack([body(z) + (1000 if time == 2 else 0) for time in (2, 1) for z in (10.0, 0.0, 5.0)])
    enhanced(path, frames, pixels.astype(np.int16))


def test_several_times_in_one_file_are_asked_for_by_name(tmp_path: Path) -> None:
    two_times(tmp_path)
    with pytest.raises(UnsupportedInput, match="2 volumes") as caught:
        physical_slices(tmp_path, AS_STORED)
    assert "--volume-index" in caught.value.remedy
    first, second = (physical_slices(tmp_path, how(volume_index=index)) for index in "01")
    assert np.allclose(second[1][1] - first[1][1], 1000)
    assert first[0].detail["volumes"] == 2 and len(first[1]) == 3
    _, mean = physical_slices(tmp_path, how(volume_index="mean"))
    assert np.allclose(mean[2], first[1][2] + 500)
    with pytest.raises(UnsupportedInput, match="no volume 2 among 2"):
        physical_slices(tmp_path, how(volume_index="2"))


def test_all_volumes_of_one_file_become_items(tmp_path: Path) -> None:
    two_times(tmp_path)
    policy = how(volume_index="all")
    sources = find(tmp_path, policy).sources
    assert [source.id for source in sources] == ["enhanced/volume-0", "enhanced/volume-1"]
    plans = [read(source, policy)[0] for source in sources]
    assert len({plan.part for plan in plans}) == 2
    assert [plan.detail["volume"] for plan in plans] == ["0", "1"]


def test_three_planes_in_one_file_are_no_volume(tmp_path: Path) -> None:
    frames = [frame(z, axes=axes) for axes in (AXIAL, CORONAL, SAGITTAL) for z in (0.0, 5.0)]
    enhanced(tmp_path, frames, stored([0, 5] * 3))
    with pytest.raises(UnsupportedInput, match="3 volumes"):
        physical_slices(tmp_path, AS_STORED)
    with pytest.raises(UnsupportedInput, match="different places"):
        physical_slices(tmp_path, how(volume_index="mean"))
    policy = how(volume_index="all")
    planes = [read(source, policy)[0].detail["plane"] for source in find(tmp_path, policy).sources]
    assert sorted(map(str, planes)) == ["axial", "coronal", "sagittal"]


def test_a_real_enhanced_ct_agrees_with_highdicom(data_dir: Path) -> None:
    path = data_dir / "dicom" / "pydicom" / "eCT_Supplemental.dcm"
    policy = how(include_derived=True)
    source = next(s for s in discover([path], policy, find_key()).sources)
    reader = open_reader(source, policy)
    plan = reader.plan()
    opened = highdicom.imread(path)
    volume = opened.get_volume(apply_voi_transform=False, apply_real_world_transform=False)
    ours = np.stack([reader._stack.slice(k)[0] for k in range(plan.depth)])  # type: ignore[attr-defined]
    reader.close()
    theirs = volume.array if np.abs(volume.array - ours).max() < 1e-3 else volume.array[::-1]
    assert np.abs(theirs - ours).max() < 1e-3
    assert abs(plan.regions["position"][1] - plan.regions["position"][0]) == pytest.approx(volume.spacing[0], rel=1e-4)


def find_key() -> Any:
    from umedfeat.naming import Pseudonyms

    return Pseudonyms(b"key of the frames")


def test_a_cine_keeps_its_time_and_gives_as_many_frames_as_asked_for() -> None:
    path = Path(DATA_ROOT, "test_files", "examples_ybr_color.dcm")
    for frames, expected in (("all", 30), ("5", 5), ("every-10", 3)):
        policy = how(frames=frames)
        plan, images = read(discover([path], policy, find_key()).sources[0], policy)
        assert len(images) == expected and plan.depth == 30
        assert np.isnan(plan.regions["position"]).all()
        assert (np.diff(plan.regions["slice"]) > 0).all()
    assert plan.regions["slice"].tolist() == [0, 10, 20]
    stored_frame = pydicom.dcmread(path)
    from pydicom.pixels import pixel_array

    policy = Policy(image=ImagePolicy(size=320, fit="squash"))
    reader = open_reader(discover([path], policy, find_key()).sources[0], policy)
    shown = reader._stack.slice(20)[0]  # type: ignore[attr-defined]
    reader.close()
    assert np.array_equal(shown, pixel_array(stored_frame, index=20))


def test_slices_do_not_choose_frames_nor_frames_slices(tmp_path: Path) -> None:
    path = Path(DATA_ROOT, "test_files", "examples_ybr_color.dcm")
    policy = how(slices="2")
    assert len(read(discover([path], policy, find_key()).sources[0], policy)[1]) == 30
    enhanced(tmp_path, [frame(z) for z in (0.0, 5.0, 10.0)], stored([0, 5, 10]))
    policy = how(frames="1")
    assert len(read(find(tmp_path, policy).sources[0], policy)[1]) == 3


def test_more_frames_than_the_file_holds_are_damage(tmp_path: Path) -> None:
    path = enhanced(tmp_path, [frame(z) for z in (0.0, 5.0)], stored([0, 5]))
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = 500
    dataset.save_as(path)
    policy = Policy(limits=Limits())
    with pytest.raises(UnreadableInput):
        for source in find(tmp_path, policy).sources:
            for outcome in read(source, policy)[1]:
                if isinstance(outcome, Exception):
                    raise UnreadableInput(str(outcome))


def test_every_frame_has_its_own_stored_window(tmp_path: Path) -> None:
    """FrameVOILUTSequence (PS3.3 C.7.6.16.2.10): per frame, before the shared and the file's own."""
    places, frames = [0.0, 5.0], []
    for z, centre in zip(places, (1064.0, 2064.0), strict=True):
        frames.append(frame(z))
        frames[-1].FrameVOILUTSequence = item(WindowCenter=centre, WindowWidth=200.0, VOILUTFunction="LINEAR_EXACT")
    path = enhanced(tmp_path, frames, np.stack([body(0)] * 2).astype(np.int16))
    policy = Policy(image=ImagePolicy(size=32), intensity=IntensityPolicy(window="file"))
    _, (first, second) = read(find(tmp_path, policy).sources[0], policy)
    assert first[16, 8, 0] == pytest.approx(0.5) and second.max() == 0
    dataset = pydicom.dcmread(path)
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        del groups.FrameVOILUTSequence
    shared = item(WindowCenter=1114.0, WindowWidth=200.0, VOILUTFunction="LINEAR_EXACT")
    dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence = shared
    dataset.save_as(path)
    _, (first, second) = read(find(tmp_path, policy).sources[0], policy)
    assert first[16, 8, 0] == second[16, 8, 0] == pytest.approx(0.25)


def test_a_part_of_a_concatenation_says_so(tmp_path: Path) -> None:
    path = enhanced(tmp_path, [frame(z) for z in (0.0, 5.0)], stored([0, 5]))
    dataset = pydicom.dcmread(path)
    dataset.ConcatenationUID, dataset.InConcatenationNumber, dataset.InConcatenationTotalNumber = "1.2.3", 2, 5
    dataset.save_as(path)
    assert read(find(tmp_path).sources[0])[0].detail["part"] == "2 of 5"
    del dataset.InConcatenationTotalNumber  # it is optional
    dataset.save_as(path)
    assert read(find(tmp_path).sources[0])[0].detail["part"] == "2 of ?"
