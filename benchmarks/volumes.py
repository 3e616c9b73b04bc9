"""Peak memory and time of large volumes, one child process each, as a worker plans and reads them.

    python benchmarks/volumes.py --folder /somewhere/with/10GB

Cases: a NIfTI of about 1 GB compressed (512 x 512 x 2700 int16), read as acquired and resliced; a 2 GB float32 NIfTI; a
DICOM series of 2,000 slices of 512 x 512; as many frames in one enhanced DICOM file. Voxels are noise: nothing
compresses them below what real scans need.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SIDE = 512
CASES = {
    "1 GB int16 .nii.gz, acquired": ("big.nii.gz", "acquired"),
    "1 GB int16 .nii.gz, coronal": ("big.nii.gz", "coronal"),
    "2 GB float32 .nii, acquired": ("float.nii", "acquired"),
    "2 GB float32 .nii, sagittal": ("float.nii", "sagittal"),
    "2,000 DICOM slices, acquired": ("series", "acquired"),
    "2,000 DICOM slices, coronal": ("series", "coronal"),
    "2,000 frames of one DICOM file": ("enhanced.dcm", "acquired"),
}


def noise(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-1024, 3072, (SIDE, SIDE), dtype=np.int16)


def header(slices: int, dtype: str) -> bytes:
    import nibabel

    made = nibabel.Nifti1Header()
    made.set_data_dtype(dtype)
    made.set_data_shape((SIDE, SIDE, slices))
    made.set_sform(np.diag([-0.7, -0.7, 1.0, 1.0]), 1)
    made["magic"], made["vox_offset"] = b"n+1", 352
    return made.binaryblock + bytes(4)


def write_nifti(path: Path, slices: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    with gzip.open(path, "wb", 1) if path.suffix == ".gz" else path.open("wb") as stream:
        stream.write(header(slices, dtype))
        for _ in range(slices):
            values = noise(rng)
            stream.write((values * np.float32(1.0001)).tobytes() if dtype == "float32" else values.tobytes())


def write_series(folder: Path, slices: int) -> None:
    import pydicom.data

    folder.mkdir()
    dataset = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm", download=False))
    rng = np.random.default_rng(0)
    for k in range(slices):
        dataset.Rows = dataset.Columns = SIDE
        dataset.PixelData = (noise(rng) & 0x7FFF).tobytes()
        dataset.ImagePositionPatient = [0, 0, k]
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k + 1}"
        dataset.save_as(folder / f"{k}.dcm")


def write_enhanced(path: Path, frames: int) -> None:
    import pydicom.data
    from pydicom.dataset import Dataset

    dataset = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm", download=False))
    rng, groups = np.random.default_rng(0), []
    for k in range(frames):
        place, turn, group = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient, turn.ImageOrientationPatient = [0, 0, k], [1, 0, 0, 0, 1, 0]
        group.PlanePositionSequence, group.PlaneOrientationSequence = [place], [turn]
        groups.append(group)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    dataset.PerFrameFunctionalGroupsSequence, dataset.NumberOfFrames = groups, frames
    dataset.Rows = dataset.Columns = SIDE
    dataset.PixelData = b"".join((noise(rng) & 0x7FFF).tobytes() for _ in range(frames))
    dataset.save_as(path)


def make(folder: Path) -> None:
    for name, writer in {
        "big.nii.gz": lambda path: write_nifti(path, 2700, "int16"),
        "float.nii": lambda path: write_nifti(path, 2048, "float32"),
        "series": lambda path: write_series(path, 2000),
        "enhanced.dcm": lambda path: write_enhanced(path, 2000),
    }.items():
        if not (folder / name).exists():
            writer(folder / name)


def measure(path: Path, plane: str) -> None:
    """In the child: collect, plan, read 32 regions in batches of 8; print peak memory and seconds as JSON."""
    from umedfeat.contract import Found
    from umedfeat.naming import Pseudonyms
    from umedfeat.policy import Policy, VolumePolicy
    from umedfeat.readers import reader_format

    policy = Policy(volume=VolumePolicy(plane=plane, slices="32", modality="MR"))
    paths = sorted(path.iterdir()) if path.is_dir() else [path]
    module = reader_format("dicom" if path.is_dir() or path.suffix == ".dcm" else "nifti")
    begin = time.perf_counter()
    (source,) = module.collect([Found(p, p.name, {}) for p in paths], policy, Pseudonyms(b"key")).sources
    reader = module.open_source(source, policy)
    plan = reader.plan()
    planned = time.perf_counter()
    for first in range(0, len(plan.regions), 8):
        reader.read(plan.regions[first : first + 8])
    reader.close()
    status = Path("/proc/self/status").read_text()  # ru_maxrss would hold the peak of the parent, too
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps({"peak_mib": peak, "plan_s": planned - begin, "read_s": time.perf_counter() - planned}))


def report(folder: Path, cases: Sequence[str]) -> None:
    print(f"{'case':32} {'file':>9} {'peak':>9} {'plan':>7} {'read 32':>8}")
    for case in cases:
        name, plane = CASES[case]
        path = folder / name
        size = sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size
        command = [sys.executable, __file__, "--measure", str(path), plane]
        said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        figures = f"{size / 2**20:5.0f} MiB {said['peak_mib']:5.0f} MiB {said['plan_s']:5.1f} s {said['read_s']:6.1f} s"
        print(f"{case:32} {figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=None, help="where the files are made (default: a temporary one)")
    parser.add_argument("--measure", nargs=2, metavar=("PATH", "PLANE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(Path(options.measure[0]), options.measure[1])
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)
        report(folder, list(CASES))


if __name__ == "__main__":
    main()
