"""Draw the pictures of docs/intensity.md from files that pydicom and nibabel ship, and from a drawn PET.

python docs/intensity_pictures.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import nibabel.testing
import numpy as np
import pydicom.data
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

from umedfeat.contract import Found, Reader, Source
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, IntensityPolicy, Policy, VolumePolicy
from umedfeat.readers import reader_format

SIDE, GAP, CAPTION = 168, 8, 20
CT = Path(str(pydicom.data.get_testdata_file("CT_small.dcm", download=False)))
MR = Path(nibabel.testing.data_path) / "example4d.nii.gz"
IMAGES = Path(__file__).parent / "images"
SQUARE = ImagePolicy(size=SIDE)


WEIGHT, DOSE = 70.0, 370e6  # kilograms, becquerels
PET_SIDE, PET_STEP = 96, 4.0  # pixels, millimetres


def opened(path: Path, policy: Policy) -> Reader:
    """The reader of a single file, or of a folder's only series."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    module = reader_format("nifti" if path.name.endswith(".nii.gz") else "dicom")
    found = [Found(file, file.name, {}) for file in files]
    source: Source = module.collect(found, policy, Pseudonyms(b"pictures")).sources[0]
    return module.open_source(source, policy)


def activity(lesion: float, z: float) -> np.ndarray:
    """SUV of a drawn body at a height: tissue of 0.8, a liver of 2.2, a lesion 24 mm wide."""
    y, x = (np.mgrid[:PET_SIDE, :PET_SIDE] - PET_SIDE / 2) * PET_STEP
    suv = np.where(np.hypot(x / 150, y / 105) < 1, 0.8, 0.0)
    suv[np.hypot((x + 65) / 65, (y + 5) / 60) < 1] = 2.2
    suv[np.hypot(x - 70, np.hypot(y + 20, z)) < 12] = lesion
    noise = np.random.default_rng(round(z) + 1000).normal(1, 0.12, suv.shape)
    return suv * np.clip(noise, 0.5, 1.5)


def draw_pet(folder: Path, lesion: float) -> Path:
    """A PET series in Bq/ml with all that SUV needs; the dose is corrected to its administration."""
    folder.mkdir()
    ids = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID")}
    tracer = Dataset()
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = DOSE, 6586.2
    tracer.RadiopharmaceuticalStartTime = "100000"
    for number in range(15):
        z = (number - 7) * PET_STEP
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, generate_uid()
        meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
        image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        tags = {
            **ids, "SOPClassUID": meta.MediaStorageSOPClassUID, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
            "Modality": "PT", "ImageType": ["ORIGINAL", "PRIMARY"], "Units": "BQML", "DecayCorrection": "ADMIN",
            "CorrectedImage": ["ATTN", "DECY"], "PatientWeight": WEIGHT, "SeriesDate": "20260101",
            "SeriesTime": "110000", "AcquisitionDate": "20260101", "AcquisitionTime": "110000",
            "RadiopharmaceuticalInformationSequence": [tracer], "Rows": PET_SIDE, "Columns": PET_SIDE,
            "ImagePositionPatient": [-192.0, -192.0, z], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [PET_STEP, PET_STEP], "SliceThickness": PET_STEP, "BitsAllocated": 16, "BitsStored": 16,
            "HighBit": 15, "PixelRepresentation": 0, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
            "RescaleSlope": 4, "RescaleIntercept": 0,
        }  # fmt: skip
        for name, value in tags.items():
            setattr(image, name, value)
        becquerels = activity(lesion, z) * DOSE / (WEIGHT * 1000)
        image.PixelData = np.rint(becquerels / 4).astype("<u2").tobytes()
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def pet_tiles() -> list[tuple[str, np.ndarray]]:
    """Lesions of SUV 4 and 30: in SUV they differ, between percentiles both are white."""
    with tempfile.TemporaryDirectory() as place:
        scans = {lesion: draw_pet(Path(place) / str(lesion), lesion) for lesion in (4, 30)}
        wanted = (("auto", "SUV 0 to 10"), ("percentile", "p2.5 to p97.5"))
        return [
            (f"lesion {lesion}, {how}", seen(scan, Policy(intensity=IntensityPolicy(window=window), image=SQUARE)))
            for window, how in wanted
            for lesion, scan in scans.items()
        ]


def seen(path: Path, policy: Policy) -> np.ndarray:
    """What the encoder sees of the middle slice, as 8 bit for the page."""
    reader = opened(path, policy)
    plan = reader.plan()
    middle = plan.regions[len(plan.regions) // 2 :][:1]
    (image,) = reader.read(middle)
    reader.close()
    return np.rint(np.asarray(image) * 255).astype(np.uint8)


def row(name: str, tiles: Sequence[tuple[str, np.ndarray]]) -> None:
    """Tiles side by side with captions."""
    width = len(tiles) * (SIDE + GAP) - GAP
    sheet = Image.new("L", (width, SIDE + CAPTION), 255)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for k, (caption, tile) in enumerate(tiles):
        sheet.paste(Image.fromarray(tile[..., 0]), (k * (SIDE + GAP), 0))
        draw.text((k * (SIDE + GAP) + SIDE // 2, SIDE + 3), caption, fill=0, font=font, anchor="ma")
    sheet.quantize(64).save(IMAGES / name, optimize=True)


def policy(ct_window: str = "soft-tissue", fit: str = "pad", plane: str = "acquired") -> Policy:
    return Policy(
        intensity=IntensityPolicy(ct_window=ct_window),
        image=ImagePolicy(size=SIDE, fit=fit),
        volume=VolumePolicy(volume_index="0", plane=plane),
    )


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    windows = ("lung", "soft-tissue", "bone", "brain", "percentile")
    row("ct-windows.png", [(name, seen(CT, policy(name))) for name in windows])
    row("fit.png", [(fit, seen(MR, policy(fit=fit))) for fit in ("pad", "squash", "crop")])
    row("pet.png", pet_tiles())
    row("planes.png", [(plane, seen(MR, policy(plane=plane))) for plane in ("axial", "coronal", "sagittal")])


if __name__ == "__main__":
    main()
