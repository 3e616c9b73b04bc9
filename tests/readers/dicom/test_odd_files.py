"""Raw beside presented radiographs, exploded volumes, NM geometry, odd numbers and odd bits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_factory import body, image, save, series
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from test_dicom import SMALL, find, one, read
from test_dicom_series import reasons

from umedfeat.extraction.oddities import mixed_intents
from umedfeat.policy import ImagePolicy, Policy, VolumePolicy
from umedfeat.readers import open_reader

STEPS = [0.0, 3.0, 6.0, 9.0, 12.0]
RAW, SHOWN = "1.2.840.10008.5.1.4.1.1.1.2.1", "1.2.840.10008.5.1.4.1.1.1.2"


def how(**volume: Any) -> Policy:
    return Policy(image=ImagePolicy(size=32), volume=VolumePolicy(**volume))


def mammogram(folder: Path, view: str, side: str, *, raw: bool, **tags: Any) -> None:
    intent = {"SOPClassUID": RAW if raw else SHOWN, "ViewPosition": view, "ImageLaterality": side}
    intent |= {} if raw else {"PresentationIntentType": "FOR PRESENTATION"}
    uids = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": generate_uid()}
    pixels = body(3).astype(np.uint16)
    save(image("MG", pixels, **{**intent, **uids, **tags}), folder / f"{view}{side}{'raw' * raw}{len(tags)}.dcm")


def test_a_raw_view_beside_its_presentation_is_skipped(tmp_path: Path) -> None:
    for view in ("CC", "MLO"):
        mammogram(tmp_path, view, "L", raw=False)
        mammogram(tmp_path, view, "L", raw=True)
    mammogram(tmp_path, "CC", "R", raw=True)  # no other image shows this view
    found = find(tmp_path)
    assert sorted(source.id for source in found.sources) == ["CCL0", "CCRraw0", "MLOL0"]
    assert reasons(found).count("--for-processing reads it") == 2
    told = sorted(str(read(source)[0].detail.get("presentation_intent")) for source in found.sources)
    assert told == ["for presentation", "for presentation", "for processing"]
    assert len(find(tmp_path, how(for_processing=True)).sources) == 5


def test_a_cohort_of_both_kinds_is_told() -> None:
    assert "2 for presentation and 1 for processing" in mixed_intents({"for presentation": 2, "for processing": 1})
    assert mixed_intents({"for presentation": 2, "": 7}) == ""


def test_slices_with_a_series_each_are_pointed_out_and_joined_on_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for z in STEPS:
        series(tmp_path, [z], "MR", StudyInstanceUID="1.2.3")
        (tmp_path / "im000.dcm").rename(tmp_path / f"z{z:g}.dcm")
    with caplog.at_level(logging.WARNING):
        assert len(find(tmp_path).sources) == 5
    assert "5 items of one slice look like one volume: --join-slices" in caplog.text
    sources = find(tmp_path, how(join_slices=True)).sources
    assert [len(source.files) for source in sources] == [5]
    plan, _ = read(sources[0], how(join_slices=True))
    assert plan.regions["position"].tolist() == STEPS and "joined" in str(plan.detail["note"])


def test_unevenly_spaced_slices_are_not_joined(tmp_path: Path) -> None:
    for z in (0.0, 3.0, 10.0):
        series(tmp_path / f"{z:g}", [z], "MR")
        (tmp_path / f"{z:g}" / "im000.dcm").rename(tmp_path / f"z{z:g}.dcm")
    assert len(find(tmp_path, how(join_slices=True)).sources) == 3


def test_slices_without_a_place_are_joined_by_number(tmp_path: Path) -> None:
    uid, order = generate_uid(), [3, 1, 4, 2]
    for k, number in enumerate(order):
        tags = {"SeriesInstanceUID": uid, "StudyInstanceUID": "1.2.3", "InstanceNumber": number}
        save(image("CT", body(10 * number), **tags), tmp_path / f"{k}.dcm")
    (source,) = find(tmp_path, how(join_slices=True)).sources
    means = [float(pydicom.dcmread(path).pixel_array.mean()) for path in source.files]
    plan, _ = read(source, how(join_slices=True))
    assert means == sorted(means) and "InstanceNumber" in str(plan.detail["orientation"])


def tomogram(folder: Path, step: float | None, **tags: Any) -> Path:
    """NM RECON TOMO: frame k lies k steps along the normal of the first."""
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = [100.0, 100.0, 0.0], [-1, 0, 0, 0, -1, 0]
    frames = np.stack([body(10 * k) for k in range(4)]).astype(np.uint16)
    told = {"NumberOfFrames": 4, "PixelData": frames.tobytes(), "ImageType": ["ORIGINAL", "PRIMARY", "RECON TOMO"]}
    told |= {"SliceThickness": 4.0, "PixelSpacing": [4.0, 4.0], "SpacingBetweenSlices": step}
    told |= {"DetectorInformationSequence": [detector], "SOPClassUID": "1.2.840.10008.5.1.4.1.1.20"}
    return save(image("NM", frames[0], **{**told, **tags}), folder / "nm.dcm")


@pytest.mark.parametrize("step", [4.0, -4.0])
def test_a_reconstructed_nm_volume_lies_where_its_detector_says(tmp_path: Path, step: float) -> None:
    tomogram(tmp_path, step)
    policy = how(plane="acquired")
    reader = open_reader(find(tmp_path).sources[0], policy)
    plan = reader.plan()
    assert plan.detail["plane"] == "axial"
    assert plan.regions["position"].tolist() == ([0, 4, 8, 12] if step > 0 else [-12, -8, -4, 0])
    first = reader._stack.slice(0)[0].mean()  # type: ignore[attr-defined]
    last = reader._stack.slice(3)[0].mean()  # type: ignore[attr-defined]
    assert (first < last) == (step > 0)
    assert read(find(tmp_path).sources[0], how(plane="coronal"))[0].detail["plane"] == "coronal"


def test_nm_frames_without_a_place_say_so(tmp_path: Path) -> None:
    tomogram(tmp_path, None)
    assert "orientation unknown" in str(read(find(tmp_path).sources[0])[0].detail["orientation"])


def test_drawn_nm_volumes_lie_where_their_headers_say(shared_dir: Path) -> None:
    folder = shared_dir / "cases" / "radiology" / "03_nm"
    if not folder.is_dir():
        pytest.skip("no drawn cases")
    for source in find(folder).sources:
        plan, _ = read(source)
        step = float(pydicom.dcmread(source.path).SpacingBetweenSlices)
        assert plan.detail["plane"] == "axial"
        assert np.diff(plan.regions["position"]).tolist() == [abs(step)] * 7
        assert (plan.regions["position"][0] < 0) == (step < 0)


def with_raw(path: Path, tag: str, text: str) -> Path:
    """An element holds text that no library would write."""
    raw = path.read_bytes()
    group, element = int(tag[:4], 16), int(tag[4:], 16)
    mark = group.to_bytes(2, "little") + element.to_bytes(2, "little") + b"DS"
    begin = raw.index(mark) + 6
    length = int.from_bytes(raw[begin : begin + 2], "little")
    value = text.encode() + b" " * (len(text) % 2)
    path.write_bytes(raw[:begin] + len(value).to_bytes(2, "little") + value + raw[begin + 2 + length :])
    return path


def film(folder: Path, **tags: Any) -> Path:
    return save(image("DX", body(3).astype(np.uint16), **tags), folder / "dx.dcm")


@pytest.mark.parametrize("text", ["NaN", "wide", "inf"])
def test_a_window_that_is_no_number_is_no_window(tmp_path: Path, text: str) -> None:
    path = with_raw(film(tmp_path, WindowCenter="100", WindowWidth="200"), "00281051", text)
    plan, images = read(find(tmp_path).sources[0])
    assert np.isfinite(images[0]).all() and path.is_file()
    assert plan.detail["odd_numbers"] == ["WindowWidth: no number, taken as absent"]


def test_commas_and_single_values_are_read_and_recorded(tmp_path: Path) -> None:
    with_raw(film(tmp_path, PixelSpacing=[0.5, 0.5]), "00280030", "0,25")
    plan, _ = read(find(tmp_path).sources[0])
    assert plan.spacing == "0\\0.25\\0.25"
    assert len(plan.detail["odd_numbers"]) == 2  # type: ignore[arg-type]


def test_a_slope_or_a_place_that_is_no_number_is_named(tmp_path: Path) -> None:
    (path,) = series(tmp_path, [0.0])
    with_raw(path, "00281053", "steep")
    with pytest.raises(Exception, match="RescaleSlope is no finite number"):
        outcome = read(find(tmp_path).sources[0])[1][0]
        raise outcome
    (path,) = series(tmp_path, [0.0])
    with_raw(path, "00200032", "1\\2\\up")
    assert "ImagePositionPatient is not 3 finite numbers" in find(tmp_path).failures[0].message


def test_an_intercept_alone_counts(tmp_path: Path) -> None:
    dataset = image("CT", body(0))
    del dataset.RescaleSlope
    plan, _ = one(tmp_path, dataset)
    assert plan.detail["intensity"]["window"] == "soft-tissue"  # type: ignore[index,call-overload]


def test_bits_above_those_stored_are_masked(tmp_path: Path) -> None:
    """Old devices keep overlays there: 12 bits of CT, and one bit of something else."""
    pixels = body(0).astype(np.uint16)
    dirty = pixels.copy()
    dirty[4:9, 4:9] |= 1 << 14
    tags = {"BitsStored": 12, "HighBit": 11}
    clean, images = one(tmp_path / "a", image("CT", pixels, **tags))
    plan, masked = one(tmp_path / "b", image("CT", dirty, **tags))
    assert plan.detail["bits_above_stored"] == "masked" and "bits_above_stored" not in clean.detail
    assert np.array_equal(images, masked)


def test_greys_that_are_stored_as_colours_are_grey(tmp_path: Path) -> None:
    grey = np.linspace(40, 90, 32 * 32).reshape(32, 32).astype(np.uint8)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsAllocated": 8}
    tags |= {"BitsStored": 8, "HighBit": 7, "PixelData": np.repeat(grey[..., None], 3, axis=2).tobytes()}
    plan, shown = one(tmp_path, image("US", grey, **tags))
    assert plan.detail["grey_as_colour"] is True
    assert shown.min() == 0 and shown.max() == 1  # percentiles, as for any grey image


def test_the_drawn_cases(shared_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = shared_dir / "cases" / "radiology"
    if not folder.is_dir():
        pytest.skip("no drawn cases")
    assert len(find(folder / "10_ownseries").sources) == 5 and "--join-slices" in caplog.text
    (joined,) = find(folder / "10_ownseries", how(join_slices=True)).sources
    assert read(joined)[0].regions["position"].tolist() == STEPS
    plan, images = read(find(folder / "14_nanwindow").sources[0], SMALL)
    assert np.isfinite(images[0]).all() and len(plan.detail["odd_numbers"]) == 2  # type: ignore[arg-type]
