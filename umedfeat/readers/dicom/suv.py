"""PET in standardised uptake values by body weight (g/mL), where the tags allow it.

The formula is the vendor-neutral one of the Quantitative Imaging Biomarkers Alliance (QIBA, "SUV computation"):
activity per millilitre times body weight, divided by the injected dose as it has decayed until the moment to which the
images are decay-corrected (DecayCorrection, PS3.3 C.8.9.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom

from umedfeat.contract import Json
from umedfeat.errors import UnreadableInput
from umedfeat.readers.dicom.decay import (
    Acquisition,
    NotInSuv,
    decay_seconds,
    first_acquisition,
    moment_of,
    seconds_since_injection,
)
from umedfeat.readers.dicom.frames import functional_groups
from umedfeat.readers.dicom.numbers import number_of, texts_of, whole_of
from umedfeat.readers.dicom.pixels import rescale_of
from umedfeat.readers.stacks.intensity import StoredVoi

__all__ = ["Suv", "suv_facts", "suv_of", "voi_in_suv"]

_LEAST_DOSE = 1e5  # becquerel: a smaller number was written in megabecquerel
_WEIGHTS = (0.3, 600.0)  # kilograms
_SUV_TYPES = {"BSA", "LBM", "LBMJAMES128", "LBMJANMA", "IBW"}
_PHILIPS = (0x7053, "Philips PET Private Group")
_IN_SUV, _IN_ACTIVITY = "{suvbw}g/ml", "bq/ml"  # units of CID 84, in small letters
_MEGA = 1e6
#: The defined term of PS3.3 C.8.9.1, and how QIBA's formula spells it.
_DECAY = {"DECY", "DECAY"}


class Suv(NamedTuple):
    """Rescaled value × factor is an SUV; ``facts`` say how it was found."""

    factor: float
    facts: dict[str, Json]


def suv_facts(dataset: pydicom.Dataset, files: Iterable[Path]) -> dict[str, Any]:
    """The factor from rescaled values to SUV and how it was found, or what is missing ("missing").

    Args:
        dataset: any image of the series.
        files: all of the series.
    """
    try:
        factor, facts = suv_of(dataset, first_acquisition(files))
    except NotInSuv as error:
        return {"missing": str(error)}
    return {**facts, "factor": factor}


def voi_in_suv(voi: StoredVoi | None, factor: float | None) -> StoredVoi | None:
    """A stored window, told in rescaled values, for values that became SUV by ``factor`` (None: they did not)."""
    if voi is None or factor is None:
        return voi
    return lambda values: voi(values / np.float32(factor))


def suv_of(dataset: pydicom.Dataset, first: Acquisition | None) -> Suv:
    """How the values of a PET image become SUV.

    Args:
        dataset: any image of the series.
        first: the earliest acquisition of the series.

    Raises:
        NotInSuv: what is missing, without values of tags.
    """
    units = next(iter(texts_of(dataset, "Units")), "")
    if not units and dataset.get("PerFrameFunctionalGroupsSequence"):
        return _enhanced(dataset)
    if units == "GML":
        kind = next(iter(texts_of(dataset, "SUVType")), "BW")
        if kind != "BW":
            raise NotInSuv(f"SUV by {kind if kind in _SUV_TYPES else 'another type'}, not by body weight")
        return Suv(1.0, {"units": units})
    if units == "CNTS":
        return _philips(dataset, first)
    if units != "BQML":
        raise NotInSuv("Units are neither BQML, GML nor CNTS")
    return _by_dose(dataset, first, 1.0, units)


def _philips(dataset: pydicom.Dataset, first: Acquisition | None) -> Suv:
    """Counts with Philips' own factors: to SUV, else to becquerel per millilitre."""
    to_suv, to_activity = (_private(dataset, *_PHILIPS, element) for element in (0x00, 0x09))
    if to_suv:
        return Suv(to_suv, {"units": "CNTS"})
    if to_activity:
        return _by_dose(dataset, first, to_activity, "CNTS")
    raise NotInSuv("counts without a scale factor")


def _by_dose(dataset: pydicom.Dataset, first: Acquisition | None, to_activity: float, units: str) -> Suv:
    corrections = {text.upper() for text in texts_of(dataset, "CorrectedImage")}
    for known, what in (({"ATTN"}, "attenuation"), (_DECAY, "decay")):
        if not corrections & known:
            raise NotInSuv(f"CorrectedImage does not name the correction for {what}")
    tracer = _only_tracer(dataset)
    dose = _positive(tracer, "RadionuclideTotalDose", (_LEAST_DOSE, 1e12))
    half_life = _positive(tracer, "RadionuclideHalfLife", (1.0, 1e9))
    weight = _positive(dataset, "PatientWeight", _WEIGHTS)
    seconds, reference = decay_seconds(dataset, tracer, first, half_life)
    factor = to_activity * _uptake(weight, dose, seconds / half_life)
    return Suv(factor, {"units": units, "decay_seconds": seconds, "corrected_to": reference})


def _only_tracer(dataset: pydicom.Dataset) -> pydicom.Dataset:
    tracers = dataset.get("RadiopharmaceuticalInformationSequence") or []
    if len(tracers) != 1:
        raise NotInSuv(f"{len(tracers)} radiopharmaceuticals")
    tracer: pydicom.Dataset = tracers[0]
    return tracer


def _uptake(weight: float, dose: float, half_lives: float) -> float:
    """SUV of one becquerel per millilitre; weight in kilograms, dose in becquerel."""
    return weight * 1000 / (dose * 2**-half_lives)


def _enhanced(dataset: pydicom.Dataset) -> Suv:
    """An enhanced PET tells the units of its frames as real-world values, and corrections by tags of their own (PS3.3
    C.8.22)."""
    frames = range(whole_of(dataset, "NumberOfFrames") or 1)
    for units in (_IN_SUV, _IN_ACTIVITY):
        scales = [next(_scales(dataset, frame, units), None) for frame in frames]
        told = [scale for scale in scales if scale is not None]
        if len(told) < len(frames):
            continue
        if not np.allclose(told, told[0], rtol=1e-6, atol=0):
            raise NotInSuv("its frames are scaled differently")
        return Suv(told[0], {"units": "SUVbw"}) if units == _IN_SUV else _enhanced_by_dose(dataset, told[0])
    raise NotInSuv("RealWorldValueMappingSequence tells neither SUVbw nor Bq/ml")


def _scales(dataset: pydicom.Dataset, frame: int, units: str) -> Iterator[float]:
    """Real-world value of one rescaled unit, of every mapping of a frame that is in these units."""
    try:
        rescale = rescale_of(dataset, frame, "")
    except UnreadableInput as error:  # reading the frame says it with the file's name
        raise NotInSuv("a rescale that cannot be true") from error
    for mapping in functional_groups(dataset, frame, "RealWorldValueMappingSequence"):
        codes = mapping.get("MeasurementUnitsCodeSequence") or []
        slope, intercept = number_of(mapping, "RealWorldValueSlope"), number_of(mapping, "RealWorldValueIntercept")
        if not slope or [str(code.get("CodeValue", "")).lower() for code in codes] != [units]:
            continue
        scale = slope / rescale.slope
        if scale > 0 and np.isclose(intercept or 0.0, scale * rescale.intercept, rtol=1e-6, atol=1e-6 * scale):
            yield scale


def _enhanced_by_dose(dataset: pydicom.Dataset, to_activity: float) -> Suv:
    for keyword in ("AttenuationCorrected", "DecayCorrected"):
        if texts_of(dataset, keyword) != ("YES",):
            raise NotInSuv(f"{keyword} is not YES")
    corrected_to = moment_of("".join(texts_of(dataset, "DecayCorrectionDateTime")))
    if corrected_to is None:
        raise NotInSuv("no DecayCorrectionDateTime")
    tracer = _only_tracer(dataset)
    dose = _positive(tracer, "RadionuclideTotalDose", (0.1, 1e12))
    half_life = _positive(tracer, "RadionuclideHalfLife", (1.0, 1e9))
    weight = _positive(dataset, "PatientWeight", _WEIGHTS)
    seconds = seconds_since_injection(tracer, corrected_to, half_life)
    # here the standard asks for megabecquerel, of the plain object for becquerel; both are found, none for the other
    becquerel = dose * _MEGA if dose < _LEAST_DOSE else dose
    factor = to_activity * _uptake(weight, becquerel, seconds / half_life)
    return Suv(factor, {"units": "Bq/ml", "decay_seconds": seconds, "corrected_to": "decay correction time"})


def _positive(holder: pydicom.Dataset, keyword: str, limits: tuple[float, float]) -> float:
    number = number_of(holder, keyword)
    if number is None:
        raise NotInSuv(f"no {keyword}")
    if not limits[0] <= number <= limits[1]:
        raise NotInSuv(f"{keyword} {number:g} cannot be true")
    return number


def _private(dataset: pydicom.Dataset, group: int, creator: str, element: int) -> float | None:
    try:
        value = dataset.private_block(group, creator)[element].value
        number = float(value.decode() if isinstance(value, bytes) else value)
    except (KeyError, ValueError, TypeError):
        return None
    return number if number > 0 else None
