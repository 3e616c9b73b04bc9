"""The demo's cohort on disk: real images that installed packages carry, generated ones where there are none.

::

    <folder>/real/       a CT slice and an ultrasound frame (pydicom's samples), an MR volume (nibabel's sample)
    <folder>/generated/  a pyramidal slide with known scale, a CT series, 96 radiographs of 48 patients with a label
    <folder>/cohort.csv  the manifest: path, patient, label, centre
    <folder>/new/        radiographs of 6 further patients and a slide, with the manifest <folder>/new.csv
    <folder>/README.txt  what is real and what is not
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import tifffile
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from umedfeat.demo.phantoms import ct_volume, radiograph, tissue_section
from umedfeat.naming import write_csv

__all__ = ["NEW_PATIENTS", "PATIENTS", "build_cohort", "build_new_patients"]

#: Patients with two radiographs each; every second one has an opacity.
PATIENTS = 48
#: Further patients, for whom the saved probe predicts.
NEW_PATIENTS = 6
_SLIDE_SIDE = 3072
_SLIDE_MPP = 0.5

_README = """This folder was written by `umedfeat demo`.

real/        real images, copied from installed packages: CT_small.dcm and examples_overlay.dcm (pydicom's test files),
             anatomical.nii (nibabel's test data).
generated/   not patients: a drawn slide (0.5 micrometres per pixel), a drawn CT series, drawn radiographs whose label
             says whether an opacity was drawn into a lung. Results on them say that the program works, nothing more.
new/         more of the same: radiographs of patients whom the study has not seen, and another drawn slide.
cohort.csv   the manifest that was given to `umedfeat extract --input cohort.csv`.
"""


def build_cohort(folder: Path, *, seed: int = 7) -> Path:
    """Write the cohort and return the path of its manifest. Same seed, same bytes of pixels."""
    rng = np.random.default_rng(seed)
    rows = [*_real(folder / "real"), *_slide(folder / "generated", rng), *_ct(folder / "generated" / "ct", rng)]
    rows += _radiographs(folder / "generated" / "radiographs", rng)
    (folder / "README.txt").write_text(_README, encoding="utf-8")
    return _write_manifest(folder / "cohort.csv", rows)


def build_new_patients(folder: Path, *, seed: int = 8) -> Path:
    """Radiographs of patients whom no study has seen, and a slide, which is unlike them; returns the manifest."""
    rng = np.random.default_rng(seed)
    rows = [*_radiographs(folder / "new" / "radiographs", rng, NEW_PATIENTS), *_slide(folder / "new", rng)]
    return _write_manifest(folder / "new.csv", rows)


def _write_manifest(manifest: Path, rows: Sequence[dict[str, str]]) -> Path:
    folder = manifest.parent
    with manifest.open("w", newline="", encoding="utf-8") as stream:
        columns = ["path", "patient", "label", "centre"]
        placed = [{**row, "path": Path(row["path"]).relative_to(folder).as_posix()} for row in rows]
        write_csv(stream, [columns, *([row[column] for column in columns] for row in placed)])
    return manifest


def _row(path: Path, patient: str = "", label: str = "", centre: str = "") -> dict[str, str]:
    return {"path": str(path), "patient": patient, "label": label, "centre": centre}


def _real(folder: Path) -> list[dict[str, str]]:
    """Samples that pydicom and nibabel install with themselves; those that a slimmed package lacks are left out."""
    import nibabel

    folder.mkdir(parents=True, exist_ok=True)
    names = ["CT_small.dcm", "examples_overlay.dcm"]
    places = [Path(str(found)) for name in names if (found := get_testdata_file(name, download=False)) is not None]
    places.append(Path(nibabel.__file__).parent / "tests" / "data" / "anatomical.nii")
    rows = []
    for place in (place for place in places if place.is_file()):
        shutil.copy(place, folder / place.name)
        rows.append(_row(folder / place.name))
    return rows


def _slide(folder: Path, rng: np.random.Generator, side: int = _SLIDE_SIDE) -> list[dict[str, str]]:
    """A tiled pyramid, JPEG inside, scale in the resolution tags: what a scanner's generic TIFF export looks like."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "slide.tiff"
    level = tissue_section(rng, side=side)
    with tifffile.TiffWriter(path) as writer:
        for number in range(3):
            pixels_per_cm = 1e4 / (_SLIDE_MPP * 2**number)
            writer.write(
                level,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 90},
                resolution=(pixels_per_cm, pixels_per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=1 if number else 0,
                metadata=None,
            )
            level = np.asarray(Image.fromarray(level).reduce(2))
    return [_row(path, patient="slide-patient")]


def _ct(folder: Path, rng: np.random.Generator) -> list[dict[str, str]]:
    folder.mkdir(parents=True, exist_ok=True)
    volume = ct_volume(rng)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for number, values in enumerate(volume):
        file = _dicom(folder / f"slice{number:03d}.dcm", CTImageStorage, "CT", "ct-patient", values + 1024)
        file.StudyInstanceUID, file.SeriesInstanceUID, file.FrameOfReferenceUID = study, series, frame
        file.ImagePositionPatient = [-160.0, -160.0, 2.5 * number]
        file.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        file.PixelSpacing, file.SliceThickness = [1.25, 1.25], 2.5
        file.RescaleSlope, file.RescaleIntercept, file.RescaleType = 1, -1024, "HU"
        file.ImageType, file.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], number + 1
        file.save_as(folder / f"slice{number:03d}.dcm", enforce_file_format=True)
    return [_row(folder, patient="ct-patient")]


def _radiographs(folder: Path, rng: np.random.Generator, patients: int = 0) -> list[dict[str, str]]:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    patients = patients or PATIENTS
    for patient in range(patients):
        opacity = patient % 2 == 1
        centre = "A" if patient < patients * 2 // 3 else "B"
        for view in range(2):
            name = f"p{patient:02d}-{view + 1}.dcm"
            pixels = radiograph(rng, opacity=opacity)
            _save_radiograph(folder / name, pixels, f"demo-{patient:02d}", inverted=centre == "B")
            rows.append(_row(folder / name, f"demo-{patient:02d}", "opacity" if opacity else "clear", centre))
    return rows


def _save_radiograph(path: Path, pixels: npt.NDArray[np.uint16], patient: str, *, inverted: bool) -> None:
    """Centre B stores MONOCHROME1, as real centres do; a correct reader sees the same chest."""
    stored = 4095 - pixels if inverted else pixels
    file = _dicom(path, DigitalXRayImageStorageForPresentation, "DX", patient, stored)
    file.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    file.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    file.BitsStored, file.HighBit = 12, 11
    file.ImageType, file.ImagerPixelSpacing = ["ORIGINAL", "PRIMARY"], [0.7, 0.7]
    file.save_as(path, enforce_file_format=True)


def _dicom(path: Path, sop_class: str, modality: str, patient: str, pixels: npt.NDArray[np.generic]) -> pydicom.Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.UID(sop_class)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    file.StudyInstanceUID, file.SeriesInstanceUID = generate_uid(), generate_uid()
    file.Modality, file.PatientID, file.PatientName = modality, patient, "Demo^Phantom"
    file.Rows, file.Columns = pixels.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    file.PixelData = pixels.astype("<u2").tobytes()
    return file
