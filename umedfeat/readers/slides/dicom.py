"""DICOM whole-slide series: one slide per series; labels, overviews and thumbnails are not inputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

import pydicom
from pydicom.errors import InvalidDicomError

from umedfeat.contract import Collected, Failure, Found, Skipped, Source
from umedfeat.naming import Pseudonyms
from umedfeat.readers.dicom.names import IDENTIFYING, folders_without, identifiers_in, identifiers_of, without

__all__ = ["WSI_CLASS", "collect_dicom"]

#: SOP class "VL Whole Slide Microscopy Image Storage", as it stands in the file's bytes.
WSI_CLASS = b"1.2.840.10008.5.1.4.1.1.77.1.6"

_TAGS = ["ImageType", "TotalPixelMatrixColumns", *IDENTIFYING]
_NO_IMAGE = {"LABEL", "OVERVIEW", "THUMBNAIL"}


def collect_dicom(found: Sequence[Found], pseudonyms: Pseudonyms) -> Collected:
    """Group whole-slide DICOM files by series; the largest level stands for the slide, OpenSlide finds the others."""
    collected = Collected([], [], [])
    series: dict[str, list[tuple[Found, pydicom.Dataset]]] = defaultdict(list)
    folders: defaultdict[str, set[str]] = defaultdict(set)
    for file in found:
        identifiers = folders[file.name.rpartition("/")[0]]
        try:
            header = pydicom.dcmread(file.path, stop_before_pixels=True, specific_tags=_TAGS)
            kind = {str(part) for part in header.get("ImageType", [])}
            key = str(header.SeriesInstanceUID)
        except (InvalidDicomError, AttributeError, OSError, ValueError, KeyError, EOFError) as error:
            identifiers.update(identifiers_in(file.path))
            name = without(file.name, identifiers, pseudonyms)
            message = f"{name}: the DICOM header is damaged ({type(error).__name__})"
            collected.failures.append(Failure(name, "discover", "UnreadableInput", message, "copy it again"))
            continue
        identifiers.update(identifiers_of(header))
        if kind & _NO_IMAGE:
            name = without(file.name, identifiers_of(header), pseudonyms)
            collected.skipped.append(Skipped(name, f"slide {sorted(kind & _NO_IMAGE)[0].lower()}, not the tissue"))
            continue
        series[key].append((file, header))
    collected.sources.extend(_source(key, files, pseudonyms) for key, files in series.items())
    return collected._replace(folders=folders_without(folders, pseudonyms))


def _source(key: str, files: Sequence[tuple[Found, pydicom.Dataset]], pseudonyms: Pseudonyms) -> Source:
    files = sorted(files, key=lambda pair: (-int(pair[1].get("TotalPixelMatrixColumns", 0) or 0), pair[0].name))
    first, header = files[0]
    folder = PurePosixPath(first.name).parent
    name = str(folder / f"slide-{pseudonyms.of(key, kind='series')[:12]}")
    return Source(
        id=name,
        format="slide",
        path=first.path,
        files=tuple(file.path for file, _ in files),
        name=name,
        patient=pseudonyms.of(str(header.get("PatientID", "") or "")),
        study=pseudonyms.of(str(header.get("StudyInstanceUID", "") or ""), kind="study"),
        modality="WSI",
        selector='{"dicom": true}',
    )
