"""PET in SUV by body weight: QIBA's vendor-neutral formula, its time rules, and what stands in its way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_factory import body, image, save
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import generate_uid
from test_dicom import find, read

from umedfeat.policy import ImagePolicy, IntensityPolicy, Policy, VolumePolicy
from umedfeat.readers import open_reader

DOSE, WEIGHT, HALF_LIFE = 370e6, 70.0, 6586.2
PLACES = [0.0, 3.0, 6.0]
POLICY = Policy(image=ImagePolicy(size=32))


def pet(z: float, **tags: Any) -> FileDataset:
    """An FDG slice corrected to the start of the series, injected an hour before."""
    tracer = Dataset()
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = DOSE, HALF_LIFE
    tracer.RadiopharmaceuticalStartTime = tags.pop("injected", "100000.00")
    for name in tags.pop("without", ()):
        delattr(tracer, name)
    usual = {
        "Units": "BQML", "CorrectedImage": ["DECY", "ATTN", "SCAT"], "DecayCorrection": "START",
        "PatientWeight": WEIGHT, "SeriesDate": "20200101", "SeriesTime": "110000", "AcquisitionDate": "20200101",
        "AcquisitionTime": "110000", "RescaleSlope": 10, "RescaleIntercept": 0,
        "RadiopharmaceuticalInformationSequence": [tracer],
        "ImagePositionPatient": [0.0, 0.0, z], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1.0, 1.0], "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128",
    }  # fmt: skip
    return image("PT", body(z), **{**usual, **tags})


def written(folder: Path, **tags: Any) -> Path:
    uid = generate_uid()
    for k, z in enumerate(PLACES):
        own = {name: value[k] if isinstance(value, tuple) else value for name, value in tags.items()}
        save(pet(z, SeriesInstanceUID=uid, StudyInstanceUID="1.2.3", **own), folder / f"{k}.dcm")
    return folder


def factor(folder: Path) -> float | str:
    """SUV of one stored unit (slope 10), or what is missing."""
    reader = open_reader(find(folder, POLICY).sources[0], POLICY)
    plan, stack = reader.plan(), reader._stack  # type: ignore[attr-defined]
    told: Any = plan.detail["suv"]
    if "missing" in told:
        assert told["missing"] in plan.hint and "99.9th" in plan.hint
        return str(told["missing"])
    assert plan.detail["intensity"] == {"window": "SUV", "low": 0, "high": 10, "setting": "suv"}
    values, stored = stack.slice(1)[0], body(PLACES[1])
    assert np.allclose(values * stored.max(), stored * values.max(), rtol=1e-5)
    return float(values.max() / stored.max())


def expected(seconds: float) -> float:
    return 10 * WEIGHT * 1000 / (DOSE * 2 ** (-seconds / HALF_LIFE))


def test_the_dose_decays_until_the_start_of_the_series(tmp_path: Path) -> None:
    assert factor(written(tmp_path)) == pytest.approx(expected(3600), rel=1e-5)


@pytest.mark.parametrize("term", ["DECY", "DECAY"])
def test_decay_as_the_standard_and_as_qiba_spell_it(tmp_path: Path, term: str) -> None:
    assert factor(written(tmp_path, CorrectedImage=["NORM", "ATTN", term])) == pytest.approx(expected(3600), rel=1e-5)


def test_images_corrected_to_administration_need_no_decay(tmp_path: Path) -> None:
    assert factor(written(tmp_path, DecayCorrection="ADMIN")) == pytest.approx(expected(0), rel=1e-5)


def test_the_first_bed_position_counts_where_the_series_was_made_later(tmp_path: Path) -> None:
    """SeriesTime behind the acquisition is when the series was made; the earliest acquisition of all files counts."""
    times = ("112000", "111000", "113000")
    folder = written(tmp_path, SeriesTime="180000", AcquisitionTime=times)
    assert factor(folder) == pytest.approx(expected(70 * 60), rel=1e-5)


def test_frame_reference_time_leads_back_to_the_start(tmp_path: Path) -> None:
    """QIBA: acquisition time less reference time, plus the moment of the mean count rate within the frame."""
    folder = written(
        tmp_path, SeriesTime="180000", AcquisitionTime="111000", FrameReferenceTime=660000.0, ActualFrameDuration=120000
    )
    rate = np.log(2) / HALF_LIFE
    average = np.log(rate * 120 / (1 - np.exp(-rate * 120))) / rate
    assert factor(folder) == pytest.approx(expected(70 * 60 - 660 + average), rel=1e-5)


def test_an_injection_before_midnight(tmp_path: Path) -> None:
    folder = written(tmp_path, injected="233000", SeriesTime="003000", AcquisitionTime="003000")
    assert factor(folder) == pytest.approx(expected(3600), rel=1e-5)


def test_gml_is_suv_already_and_other_suvs_are_not(tmp_path: Path) -> None:
    assert factor(written(tmp_path / "a", Units="GML")) == pytest.approx(10)
    assert "LBM" in str(factor(written(tmp_path / "b", Units="GML", SUVType="LBM")))


def test_philips_counts_have_factors_of_their_own(tmp_path: Path) -> None:
    for element, seconds in ((0x00, None), (0x09, 3600)):
        folder = tmp_path / str(element)
        for path in written(folder, Units="CNTS").iterdir():
            dataset = pydicom.dcmread(path)
            dataset.private_block(0x7053, "Philips PET Private Group", create=True).add_new(element, "DS", "0.25")
            dataset.save_as(path)
        assert factor(folder) == pytest.approx(2.5 if seconds is None else 0.25 * expected(seconds), rel=1e-5)


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"PatientWeight": None}, "no PatientWeight"),
        ({"PatientWeight": 0}, "PatientWeight 0 cannot be true"),
        ({"without": ["RadionuclideTotalDose"]}, "no RadionuclideTotalDose"),
        ({"without": ["RadiopharmaceuticalStartTime"]}, "no RadiopharmaceuticalStartTime"),
        ({"CorrectedImage": ["DECAY"]}, "attenuation"),
        ({"CorrectedImage": ["ATTN", "SCAT"]}, "correction for decay"),
        ({"DecayCorrection": "NONE"}, "DecayCorrection"),
        ({"Units": "PROPCPS"}, "Units"),
        ({"Units": "CNTS"}, "counts without a scale factor"),
        ({"RadiopharmaceuticalInformationSequence": []}, "0 radiopharmaceuticals"),
    ],
)
def test_what_is_missing_is_told(tmp_path: Path, tags: dict[str, Any], told: str) -> None:
    assert told in str(factor(written(tmp_path, **tags)))


def test_a_range_of_its_own_and_percentiles_stay_available(tmp_path: Path) -> None:
    folder = written(tmp_path)
    wide = Policy(image=ImagePolicy(size=32), intensity=IntensityPolicy(suv="0,40"))
    narrow = read(find(folder).sources[0])[1][1]
    assert np.allclose(read(find(folder).sources[0], wide)[1][1], np.minimum(narrow, 1) / 4, atol=1e-6)
    usual = Policy(image=ImagePolicy(size=32), intensity=IntensityPolicy(window="percentile"))
    plan, _ = read(find(folder).sources[0], usual)
    assert plan.detail["intensity"]["window"] == "p2.5-p97.5"  # type: ignore[index,call-overload]


def test_real_pet_in_suv_agrees_with_the_stored_values(data_dir: Path) -> None:
    """Two real PET series whose values are in g/mL already (DecayCorrection ADMIN)."""
    folder = data_dir / "dicom" / "ibsi"
    if not folder.is_dir():
        pytest.skip("no real PET")
    policy = Policy(image=ImagePolicy(size=64), volume=VolumePolicy(include_derived=True))
    for case in ("STS_008", "STS_025"):
        source = find(folder / case / "PET" / "image", policy).sources[0]
        plan, images = read(source, policy)
        told: Any = plan.detail["suv"]
        assert told == {"units": "GML", "factor": 1.0}
        ours = open_reader(source, policy)._stack.slice(20)[0]  # type: ignore[attr-defined]
        dataset = pydicom.dcmread(source.files[20])
        assert np.allclose(ours, dataset.pixel_array * float(dataset.RescaleSlope), rtol=1e-6)
        assert 0.2 < float(np.median(ours[ours > 0.1])) < 3 and images[0].max() <= 1


def test_lesions_of_different_uptake_differ(shared_dir: Path) -> None:
    folder = shared_dir / "cases" / "radiology"
    if not folder.is_dir():
        pytest.skip("no drawn cases")
    seen = [np.stack(read(find(folder / name, POLICY).sources[0], POLICY)[1]) for name in ("b7_les4", "b7_les30")]
    assert np.abs(seen[0] - seen[1]).max() > 0.1
