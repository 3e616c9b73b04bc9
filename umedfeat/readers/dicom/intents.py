"""Raw radiographs (FOR PROCESSING) beside the same view FOR PRESENTATION: one of the two is the image."""

from __future__ import annotations

from collections.abc import Sequence

from umedfeat.readers.dicom.header import DicomHeader

__all__ = ["raw_beside_presentation"]

_REASON = "raw image (FOR PROCESSING) of a view that is there FOR PRESENTATION; --for-processing reads it"


def raw_beside_presentation(headers: Sequence[DicomHeader]) -> list[tuple[DicomHeader, str]]:
    """Raw images of views that are there for presentation, too, with the reason why they are left out."""
    presented = {_view(header) for header in headers if header.intent == "FOR PRESENTATION"}
    return [(header, _REASON) for header in headers if header.intent == "FOR PROCESSING" and _view(header) in presented]


def _view(header: DicomHeader) -> tuple[str, ...]:
    """What was X-rayed; where the header names no view, the moment tells which images are one exposure."""
    moment = "" if header.view else dict(header.order).get("AcquisitionTime", "")
    return header.patient, header.study, header.modality, header.view, header.laterality, moment
