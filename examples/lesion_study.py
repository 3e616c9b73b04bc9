"""A study of lesions that were contoured: contours → crops → features → report, patients kept together.

python examples/lesion_study.py STS/ study/
python examples/lesion_study.py STS/ study/ --encoder umedpt --field 80

STS/ holds a folder per patient, in it a folder per series with ``image/`` (DICOM slices) and ``mask/`` (one RTSTRUCT or
DICOM SEG), as in the soft-tissue sarcomas of IBSI's validation data (github.com/theibsi/data_sets, CC BY 3.0). The
question: is it tumour or other tissue of the same patient? Every series gives its tumour and, at the same level, tissue
beside it; all squares show the same millimetres, so that size tells nothing. Classifiers are tested on patients that
they were not fitted to. With two patients the answer proves that it runs, and no more.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import pydicom

import umedfeat
from umedfeat.fewshot import ProbeSettings, probe_file
from umedfeat.policy import Policy, RoiPolicy, VolumePolicy
from umedfeat.readers.regions.masks import open_mask
from umedfeat.report.files import write_study
from umedfeat.report.preview import preview
from umedfeat.report.study_page import write_report
from umedfeat.report.tables import render_study

AWAY = 60.0  # millimetres from the middle of the tumour
DIRECTIONS = [(np.cos(angle), np.sin(angle)) for angle in np.linspace(0, 2 * np.pi, 8, endpoint=False)]
TISSUE = -200.0  # Hounsfield units: above it there is tissue, below it air


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patients", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--field", type=float, default=60.0, help="side of every square in millimetres")
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    table = write_manifest(arguments.patients, arguments.out / "lesions.csv")
    # five slices of each; a PET is often stored as DERIVED
    volume = VolumePolicy(slices="5", include_derived=True)
    policy = Policy(volume=volume, roi=RoiPolicy(size=arguments.field))
    preview(table, arguments.out / "preview", policy=policy)
    summary = umedfeat.extract(table, arguments.out / "feats.h5", encoder=arguments.encoder, policy=policy)
    print(f"{summary.embedded} regions, {len(summary.failures)} failed")
    settings = ProbeSettings(label_of="item", cv=2, fractions=(1.0,))
    result = probe_file(summary.out, label="label", settings=settings)
    write_study(result, arguments.out)
    print(f"{render_study(result)}\n\nReport: {write_report(result, arguments.out)}")


def write_manifest(patients: Path, path: Path) -> Path:
    """A row per tumour, and rows for tissue beside it."""
    rows = [row for patient in sorted(patients.iterdir()) if patient.is_dir() for row in rows_of(patient)]
    columns = ("path", "id", "patient", "label", "mask", "box")
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(patient: Path) -> list[dict[str, str]]:
    """The tumour of every series, and of tissue beside it two boxes as high and wide as the tumour."""
    rows = []
    beside = tissue_beside(patient)
    for series in sorted(folder for folder in patient.iterdir() if (folder / "mask").is_dir()):
        mask = next((series / "mask").iterdir())
        common = {"path": str((series / "image").resolve()), "patient": patient.name}
        name = f"{patient.name}-{series.name}"
        rows.append(common | {"id": f"{name}-tumour", "label": "tumour", "mask": str(mask.resolve())})
        one_slice = middle_slice(series / "image", beside[0][0, 2])
        for number, box in enumerate([box for box in beside if shown(one_slice, box) is not None][:2]):
            numbers = ",".join(f"{value:.2f}" for value in box.ravel())
            rows.append(common | {"id": f"{name}-tissue-{number}", "label": "tissue", "box": numbers})
    return rows


def tissue_beside(patient: Path) -> list[np.ndarray]:
    """Boxes (2 corners, 3) around the tumour in LPS millimetres, as large as it, those with most tissue on CT first."""
    contours = open_mask(next((patient / "CT" / "mask").iterdir()), "contours of the CT")
    points = contours.points(contours.numbers())
    tumour = np.array([points.min(axis=0), points.max(axis=0)])
    ct = middle_slice(patient / "CT" / "image", tumour[:, 2].mean())
    boxes = [tumour + np.array([x, y, 0.0]) * AWAY for x, y in DIRECTIONS]
    return sorted(boxes, key=lambda box: -tissue_share(ct, box))


def middle_slice(folder: Path, place: float) -> pydicom.Dataset:
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.iterdir()]
    nearest = min(headers, key=lambda header: abs(float(header.ImagePositionPatient[2]) - place))
    return pydicom.dcmread(nearest.filename)


def shown(image: pydicom.Dataset, box: np.ndarray) -> np.ndarray | None:
    """The stored values of an axial slice in a box; None where the box reaches beyond the slice."""
    spacing = np.array([float(image.PixelSpacing[1]), float(image.PixelSpacing[0])])
    origin = np.array([float(value) for value in image.ImagePositionPatient[:2]])
    (left, top), (right, bottom) = np.rint((box[:, :2] - origin) / spacing).astype(int)
    if min(left, top) < 0 or right >= image.Columns or bottom >= image.Rows:
        return None
    return image.pixel_array[top:bottom, left:right]


def tissue_share(ct: pydicom.Dataset, box: np.ndarray) -> float:
    """Share of tissue in a box on an axial CT slice, 0 where it reaches beyond the slice."""
    values = shown(ct, box)
    if values is None:
        return 0.0
    return float((values * float(ct.RescaleSlope) + float(ct.RescaleIntercept) > TISSUE).mean())


if __name__ == "__main__":  # reading happens in processes of its own, which import this file
    main()
