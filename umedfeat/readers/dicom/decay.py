"""When a PET's tracer was injected, and to which moment its images are corrected for decay (PS3.3 C.8.9.1)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from math import exp, log
from pathlib import Path
from typing import NamedTuple

import pydicom

from umedfeat.readers.dicom.numbers import number_of, texts_of

__all__ = ["Acquisition", "NotInSuv", "decay_seconds", "first_acquisition", "moment_of", "seconds_since_injection"]

_MOST_HALF_LIVES = 8  # 0.4 % of the dose are left: nobody scans then, but the time of another day leads there
_FIRST_TAGS = ["AcquisitionDate", "AcquisitionTime", "FrameReferenceTime", "ActualFrameDuration"]
_GE = (0x0009, "GEMS_PETD_01")


class NotInSuv(Exception):
    """The values of a PET cannot be told in SUV; the message says what is missing."""


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


def decay_seconds(
    dataset: pydicom.Dataset, tracer: pydicom.Dataset, first: Acquisition | None, half_life: float
) -> tuple[float, str]:
    """Seconds from the injection to the moment to which the images are corrected, and which that is."""
    correction = next(iter(texts_of(dataset, "DecayCorrection")), "")
    if correction == "ADMIN":
        return 0.0, "administration"
    if correction != "START":
        raise NotInSuv("DecayCorrection is neither START nor ADMIN")
    scan, what = _scan_start(dataset, first, half_life)
    return seconds_since_injection(tracer, scan, half_life), what


def seconds_since_injection(tracer: pydicom.Dataset, moment: datetime, half_life: float) -> float:
    """Seconds from the injection to a moment of the scan.

    Args:
        tracer: item of RadiopharmaceuticalInformationSequence.
        moment: to which the images are corrected.
        half_life: seconds.

    Raises:
        NotInSuv: no time of injection, or one that cannot be true.
    """
    seconds = (moment - _injection(tracer, moment)).total_seconds()
    if not 0 <= seconds <= _MOST_HALF_LIVES * half_life:
        raise NotInSuv("the injection does not lie before the scan")
    return seconds


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
    full = moment_of("".join(texts_of(tracer, "RadiopharmaceuticalStartDateTime")))
    if full is not None and full <= scan:
        return full
    time = next(iter(texts_of(tracer, "RadiopharmaceuticalStartTime")), "")
    clock = moment_of("20000101" + time) if time else full
    if clock is None:
        raise NotInSuv("no RadiopharmaceuticalStartTime")
    injected = datetime.combine(scan.date(), clock.time())
    return injected if injected <= scan else injected - timedelta(days=1)


def _moment(dataset: pydicom.Dataset, date: str, time: str) -> datetime | None:
    day, clock = (next(iter(texts_of(dataset, keyword)), "") for keyword in (date, time))
    return moment_of(day + clock) if day and clock else None


def moment_of(text: str) -> datetime | None:
    """DICOM's YYYYMMDDHHMMSS.FFFFFF, whatever is left out of the time; a time zone is not looked at."""
    digits, _, fraction = text.replace(":", "").partition("&")[0].partition("+")[0].partition(".")
    try:
        moment = datetime.strptime(digits.strip().ljust(14, "0")[:14], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return moment + timedelta(seconds=float(f"0.{fraction}")) if fraction.isdecimal() else moment


def _private_moment(dataset: pydicom.Dataset) -> datetime | None:
    try:
        value = dataset.private_block(*_GE)[0x0D].value
    except KeyError:
        return None
    return moment_of(value.decode("latin-1") if isinstance(value, bytes) else str(value))
