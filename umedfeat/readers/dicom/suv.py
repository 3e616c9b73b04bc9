"""PET in standardised uptake values by body weight (g/mL), where the tags allow it.

The formula is the vendor-neutral one of the Quantitative Imaging Biomarkers Alliance (QIBA, "SUV computation"):
activity per millilitre times body weight, divided by the injected dose as it has decayed until the moment to which the
images are decay-corrected (DecayCorrection, PS3.3 C.8.9.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from math import exp, log
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom

from umedfeat.contract import Json
from umedfeat.readers.dicom.numbers import number_of, texts_of
from umedfeat.readers.stacks.intensity import StoredVoi

__all__ = ["Acquisition", "NotInSuv", "Suv", "first_acquisition", "suv_facts", "suv_of", "voi_in_suv"]

_LEAST_DOSE = 1e5  # becquerel: a smaller number was written in megabecquerel
_WEIGHTS = (0.3, 600.0)  # kilograms
_MOST_HALF_LIVES = 20
_SUV_TYPES = {"BSA", "LBM", "LBMJAMES128", "LBMJANMA", "IBW"}
_FIRST_TAGS = ["AcquisitionDate", "AcquisitionTime", "FrameReferenceTime", "ActualFrameDuration"]
_GE, _PHILIPS = (0x0009, "GEMS_PETD_01"), (0x7053, "Philips PET Private Group")


#: The defined term of PS3.3 C.8.9.1, and how QIBA's formula spells it.
_DECAY = {"DECY", "DECAY"}


class NotInSuv(Exception):
    """The values of a PET cannot be told in SUV; the message says what is missing."""


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


class Acquisition(NamedTuple):
    """The earliest of a series: when it began, its reference time and duration in milliseconds (None without)."""

    moment: datetime
    reference: float | None
    duration: float | None


def first_acquisition(files: Iterable[Path]) -> Acquisition | None:
    """The earliest acquisition of all files of a series (bed positions follow each other), None where none tells."""
    headers = (pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_FIRST_TAGS, force=True) for path in files)
    found = [acquisition for acquisition in map(_acquisition, headers) if acquisition is not None]
    return min(found, key=lambda one: one.moment) if found else None


def _acquisition(header: pydicom.Dataset) -> Acquisition | None:
    moment = _moment(header, "AcquisitionDate", "AcquisitionTime")
    if moment is None:
        return None
    return Acquisition(moment, number_of(header, "FrameReferenceTime"), number_of(header, "ActualFrameDuration"))


def suv_of(dataset: pydicom.Dataset, first: Acquisition | None) -> Suv:
    """How the values of a PET image become SUV.

    Args:
        dataset: any image of the series.
        first: the earliest acquisition of the series.

    Raises:
        NotInSuv: what is missing, without values of tags.
    """
    units = next(iter(texts_of(dataset, "Units")), "")
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
    tracers = dataset.get("RadiopharmaceuticalInformationSequence") or []
    if len(tracers) != 1:
        raise NotInSuv(f"{len(tracers)} radiopharmaceuticals")
    dose = _positive(tracers[0], "RadionuclideTotalDose", (_LEAST_DOSE, 1e12))
    weight = _positive(dataset, "PatientWeight", _WEIGHTS)
    half_life = _positive(tracers[0], "RadionuclideHalfLife", (1.0, 1e9))
    seconds, reference = _decay_seconds(dataset, tracers[0], first, half_life)
    left = dose * 2 ** (-seconds / half_life)
    factor = to_activity * weight * 1000 / left
    return Suv(factor, {"units": units, "decay_seconds": seconds, "corrected_to": reference})


def _positive(holder: pydicom.Dataset, keyword: str, limits: tuple[float, float]) -> float:
    number = number_of(holder, keyword)
    if number is None:
        raise NotInSuv(f"no {keyword}")
    if not limits[0] <= number <= limits[1]:
        raise NotInSuv(f"{keyword} {number:g} cannot be true")
    return number


def _decay_seconds(
    dataset: pydicom.Dataset, tracer: pydicom.Dataset, first: Acquisition | None, half_life: float
) -> tuple[float, str]:
    """Seconds from the injection to the moment to which the images are corrected, and which that is."""
    correction = next(iter(texts_of(dataset, "DecayCorrection")), "")
    if correction == "ADMIN":
        return 0.0, "administration"
    if correction != "START":
        raise NotInSuv("DecayCorrection is neither START nor ADMIN")
    scan, what = _scan_start(dataset, first, half_life)
    injected = _injection(tracer, scan)
    seconds = (scan - injected).total_seconds()
    if not 0 <= seconds <= _MOST_HALF_LIVES * half_life:
        raise NotInSuv("the injection does not lie before the scan")
    return seconds, what


def _scan_start(dataset: pydicom.Dataset, first: Acquisition | None, half_life: float) -> tuple[datetime, str]:
    """The series' time unless it lies behind the acquisition: then it tells when the series was made, not scanned."""
    series = _moment(dataset, "SeriesDate", "SeriesTime")
    if first is None:
        raise NotInSuv("no AcquisitionDate and AcquisitionTime")
    if series is not None and series <= first.moment:
        return series, "series time"
    private = _private_moment(dataset)
    if private is not None:
        return private, "scan time (GE)"
    if first.reference and first.duration and first.reference > 0 and first.duration > 0:
        rate = log(2) / half_life
        decayed = rate * first.duration / 1000
        average = log(decayed / (1 - exp(-decayed))) / rate  # seconds into the frame at which the mean rate occurs
        return first.moment - timedelta(seconds=first.reference / 1000 - average), "frame reference time"
    return first.moment, "earliest acquisition"


def _injection(tracer: pydicom.Dataset, scan: datetime) -> datetime:
    """By date and time where both are told and precede the scan; else the last such time of day before the scan.

    Anonymisers shift dates, and not always all of them alike.
    """
    full = _parsed("".join(texts_of(tracer, "RadiopharmaceuticalStartDateTime")))
    if full is not None and full <= scan:
        return full
    time = next(iter(texts_of(tracer, "RadiopharmaceuticalStartTime")), "")
    clock = _parsed("20000101" + time) if time else full
    if clock is None:
        raise NotInSuv("no RadiopharmaceuticalStartTime")
    injected = datetime.combine(scan.date(), clock.time())
    return injected if injected <= scan else injected - timedelta(days=1)


def _moment(dataset: pydicom.Dataset, date: str, time: str) -> datetime | None:
    day, clock = (next(iter(texts_of(dataset, keyword)), "") for keyword in (date, time))
    return _parsed(day + clock) if day and clock else None


def _parsed(text: str) -> datetime | None:
    """DICOM's YYYYMMDDHHMMSS.FFFFFF, whatever is left out of the time; a time zone is not looked at."""
    digits, _, fraction = text.replace(":", "").partition("&")[0].partition("+")[0].partition(".")
    try:
        moment = datetime.strptime(digits.strip().ljust(14, "0")[:14], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return moment + timedelta(seconds=float(f"0.{fraction}")) if fraction.isdecimal() else moment


def _private(dataset: pydicom.Dataset, group: int, creator: str, element: int) -> float | None:
    try:
        value = dataset.private_block(group, creator)[element].value
        number = float(value.decode() if isinstance(value, bytes) else value)
    except (KeyError, ValueError, TypeError):
        return None
    return number if number > 0 else None


def _private_moment(dataset: pydicom.Dataset) -> datetime | None:
    try:
        value = dataset.private_block(*_GE)[0x0D].value
    except KeyError:
        return None
    return _parsed(value.decode("latin-1") if isinstance(value, bytes) else str(value))
