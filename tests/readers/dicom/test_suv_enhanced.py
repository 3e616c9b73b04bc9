"""Enhanced PET in SUV: real-world values of frames, and tags of their own for dose, time and corrections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from test_dicom_frames import enhanced, frame, item, stored
from test_suv import DOSE, HALF_LIFE, PLACES, POLICY, WEIGHT, find

from umedfeat.readers import open_reader

SLOPES = [2.0, 4.0, 1.0]
#: Of a stored unit, with the frames' own slopes, an hour after the injection.
SECONDS = 3600


def _mapping(units: str, slope: float, intercept: float = 0.0) -> Dataset:
    mapping = Dataset()
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, intercept
    mapping.MeasurementUnitsCodeSequence = item(CodeValue=units, CodingSchemeDesignator="UCUM", CodeMeaning=units)
    return mapping


def _written(folder: Path, mappings: list[list[Dataset]], **tags: Any) -> Path:
    """Three frames, each rescaled by its own slope."""
    frames = [frame(z, slope=slope) for z, slope in zip(PLACES, SLOPES, strict=True)]
    for one, own in zip(frames, mappings, strict=True):
        one.PixelValueTransformationSequence[0].RescaleIntercept = 0
        one.RealWorldValueMappingSequence = own
    tracer = Dataset()
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = tags.pop("dose", DOSE / 1e6), HALF_LIFE
    tracer.RadiopharmaceuticalStartDateTime = "20200101100000.00"
    usual = {
        "AttenuationCorrected": "YES", "DecayCorrected": "YES", "DecayCorrectionDateTime": "20200101110000",
        "PatientWeight": WEIGHT, "RadiopharmaceuticalInformationSequence": [tracer],
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.130",
    }  # fmt: skip
    return enhanced(folder, frames, stored(PLACES), "PT", **{**usual, **tags})


def _mapped(units: str, factor: float = 1.0) -> list[list[Dataset]]:
    return [[_mapping("{counts}/s", 7.0), _mapping(units, slope * factor)] for slope in SLOPES]


def _told(folder: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    reader = open_reader(find(folder, POLICY).sources[0], POLICY)
    plan = reader.plan()
    slices = [reader._stack.slice(k)[0] for k in range(plan.depth)]  # type: ignore[attr-defined]
    reader.close()
    told: Any = plan.detail["suv"]
    window: Any = plan.detail["intensity"]
    assert (window["window"] == "SUV") is ("missing" not in told)
    return told, slices


def _expected(scale: float) -> list[np.ndarray]:
    return [values * slope * scale for values, slope in zip(stored(PLACES), SLOPES, strict=True)]


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_frames_that_are_mapped_to_suv(tmp_path: Path, factor: float) -> None:
    _written(tmp_path, _mapped("{SUVbw}g/ml", factor))
    told, slices = _told(tmp_path)
    assert told == {"units": "SUVbw", "factor": pytest.approx(factor)}
    np.testing.assert_allclose(slices, _expected(factor), rtol=1e-6)


@pytest.mark.parametrize("dose", [DOSE / 1e6, DOSE])
def test_the_dose_is_in_megabecquerel_and_becquerel_is_understood(tmp_path: Path, dose: float) -> None:
    _written(tmp_path, _mapped("Bq/ml"), dose=dose)
    told, slices = _told(tmp_path)
    factor = WEIGHT * 1000 / (DOSE * 2 ** (-SECONDS / HALF_LIFE))
    assert told["units"] == "Bq/ml" and told["decay_seconds"] == SECONDS
    assert told["corrected_to"] == "decay correction time" and told["factor"] == pytest.approx(factor)
    np.testing.assert_allclose(slices, _expected(factor), rtol=1e-6)


@pytest.mark.parametrize(
    ("mappings", "tags", "missing"),
    [
        (_mapped("{SUVlbm}g/ml"), {}, "neither SUVbw nor Bq/ml"),
        ([[], [], []], {}, "neither SUVbw nor Bq/ml"),
        ([*_mapped("Bq/ml")[:2], [_mapping("Bq/ml", 3.0)]], {}, "its frames are scaled differently"),
        ([*_mapped("Bq/ml")[:2], [_mapping("Bq/ml", 1.0, 50.0)]], {}, "neither SUVbw nor Bq/ml"),
        (_mapped("Bq/ml"), {"DecayCorrected": "NO"}, "DecayCorrected is not YES"),
        (_mapped("Bq/ml"), {"AttenuationCorrected": "NO"}, "AttenuationCorrected is not YES"),
        (_mapped("Bq/ml"), {"DecayCorrectionDateTime": None}, "no DecayCorrectionDateTime"),
        (_mapped("Bq/ml"), {"DecayCorrectionDateTime": "20200101090000"}, "the injection does not lie before the scan"),
        (_mapped("Bq/ml"), {"PatientWeight": None}, "no PatientWeight"),
        (_mapped("Bq/ml"), {"RadiopharmaceuticalInformationSequence": []}, "0 radiopharmaceuticals"),
    ],
)
def test_what_is_missing_is_told(
    tmp_path: Path, mappings: list[list[Dataset]], tags: dict[str, Any], missing: str
) -> None:
    _written(tmp_path, mappings, **tags)
    told, slices = _told(tmp_path)
    assert missing in told["missing"]
    np.testing.assert_allclose(slices, _expected(1), rtol=1e-6)
