"""Masks written by tests: structure sets, segmentations (by highdicom), NRRD, GeoJSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from dicom_factory import image, save
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid


def structure_set(path: Path, regions: Mapping[str, Sequence[np.ndarray]], kind: str = "CLOSED_PLANAR") -> Path:
    """An RTSTRUCT. ``regions``: name → (n, 3) corners of every contour in millimetres, LPS."""
    dataset = image("CT", np.zeros((2, 2), np.uint16), SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3", Modality="RTSTRUCT")
    del dataset.PixelData, dataset.Rows, dataset.Columns
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    told, drawn = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        region, holder = Dataset(), Dataset()
        region.ROINumber, region.ROIName, holder.ReferencedROINumber = number, name, number
        holder.ContourSequence = []
        for corners in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(corners)
            contour.ContourData = [f"{value:.6g}" for value in np.asarray(corners).ravel()]
            holder.ContourSequence.append(contour)
        told.append(region)
        drawn.append(holder)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = told, drawn
    return save(dataset, path)


def square(left: float, top: float, right: float, bottom: float, z: float) -> np.ndarray:
    """Corners of a rectangle in an axial plane."""
    return np.array([[left, top, z], [right, top, z], [right, bottom, z], [left, bottom, z]])


def segmentation(
    path: Path, images: Sequence[Path], masks: Mapping[str, np.ndarray], kind: str = "BINARY", **options: object
) -> Path:
    """A DICOM SEG by highdicom. ``masks``: label → (images, rows, columns) on the images, in their order."""
    sources = [pydicom.dcmread(one) for one in images]
    frame_of_reference = generate_uid()
    for source in sources:
        source.FrameOfReferenceUID = frame_of_reference
        source.PatientBirthDate = source.StudyDate = source.StudyTime = source.AccessionNumber = source.StudyID = ""
        source.PatientSex = source.ReferringPhysicianName = ""
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Kidney,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in enumerate(masks, start=1)
    ]
    written = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=np.stack(list(masks.values()), axis=-1),
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="tests",
        manufacturer_model_name="tests",
        software_versions="0",
        device_serial_number="0",
        **options,
    )
    written.save_as(path)
    return path


def geojson(path: Path, polygons: Mapping[str, Sequence[Sequence[tuple[float, float]]]]) -> Path:
    """QuPath's GeoJSON. ``polygons``: class → rings of every polygon in pixels."""
    features = [
        {
            "type": "Feature",
            "properties": {"objectType": "annotation", "classification": {"name": name}},
            "geometry": {"type": "Polygon", "coordinates": [[list(corner) for corner in ring]]},
        }
        for name, rings in polygons.items()
        for ring in rings
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path
