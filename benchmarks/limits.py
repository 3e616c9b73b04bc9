"""How far reading is from what its bytes and its codec allow, and from other libraries, all in one run.

    python benchmarks/limits.py [--rounds 5]

Drawn files, processor milliseconds of one process, each way after the other, medians. "Limit" is what nobody can avoid:
the bytes read and hashed with SHA-256 (a file's content is its identity), and decoded once by the codec that umedfeat
uses. "umedfeat" finds the file, plans it (exact percentiles, identity) and reads what an encoder takes: one square of
224 pixels, of the volume 32 slices. The others give the pixels alone, not resized, not windowed, not hashed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from radiographs import draw

from umedfeat.discovery import discover
from umedfeat.naming import Pseudonyms, files_stat, identify
from umedfeat.policy import Policy
from umedfeat.readers import open_reader


class Case(NamedTuple):
    """A kind of file: its name, a file, what nobody can avoid, and what others make of it."""

    name: str
    path: Path
    limit: Callable[[Path], object]
    others: dict[str, Callable[[Path], object]]


def hashed(path: Path) -> bytes:
    content = path.read_bytes()
    hashlib.sha256(content).digest()
    return content


def umedfeat(path: Path) -> int:
    policy = Policy().sized()
    (source,) = discover([path], policy, Pseudonyms(b"key")).sources
    reader = open_reader(source, policy)
    plan = reader.plan()
    identify(source.content, plan.part, files_stat(source.content, source.cut), source.cut)
    regions = plan.regions[:: max(1, len(plan.regions) // 32)][:32]
    count = len(reader.read(regions))
    reader.close()
    return count


def png(folder: Path) -> Case:
    import imagecodecs
    from PIL import Image

    y, x = np.mgrid[-1:1:1024j, -1:1:1024j]
    noise = np.random.default_rng(0).normal(0, 4, (1024, 1024))
    Image.fromarray((128 + 90 * np.cos(3 * x) * np.cos(2 * y) + noise).clip(0, 255).astype(np.uint8)).save(
        path := folder / "film.png"
    )
    limit = lambda p: imagecodecs.png_decode(hashed(p))  # noqa: E731
    return Case("PNG, 1,024 × 1,024, 8 bits", path, limit, {"Pillow": lambda p: np.asarray(Image.open(p))})


def dicom(folder: Path, compressed: bool) -> Case:
    import imagecodecs
    import pydicom
    import SimpleITK

    draw(folder / str(compressed), 1, (2560, 3072), compressed)
    (path,) = (folder / str(compressed)).glob("*.dcm")
    stream = b"".join(pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData)) if compressed else b""

    def limit(p: Path) -> object:
        content = hashed(p)
        return imagecodecs.jpeg2k_decode(stream) if compressed else np.frombuffer(content[-15_728_640:], "<u2").max()

    others: dict[str, Callable[[Path], object]] = {
        "pydicom": lambda p: pydicom.dcmread(p).pixel_array,
        "SimpleITK": lambda p: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(p))),
    }
    return Case(f"DICOM, 2,560 × 3,072, {'JPEG 2000' if compressed else 'uncompressed'}", path, limit, others)


def nifti(folder: Path) -> Case:
    import nibabel
    import SimpleITK

    values = np.random.default_rng(0).normal(100, 30, (256, 256, 150)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path := folder / "volume.nii.gz")

    def limit(p: Path) -> object:
        with gzip.open(io.BytesIO(hashed(p))) as stream:
            return np.frombuffer(stream.read()[352:], "<i2").max()

    others: dict[str, Callable[[Path], object]] = {
        "nibabel": lambda p: np.asarray(nibabel.load(p).dataobj),
        "SimpleITK": lambda p: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(p))),
    }
    return Case("NIfTI .nii.gz, 256 × 256 × 150, int16", path, limit, others)


def measured(case: Case, rounds: int) -> dict[str, float]:
    """Processor milliseconds of every way, medians; the first call of each is not counted."""
    ways = {"limit": case.limit, "umedfeat": umedfeat, **case.others}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            begin = time.process_time()
            way(case.path)
            if number:
                seconds[name].append(time.process_time() - begin)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print("| file | limit, ms | umedfeat, ms | × the limit | others, ms |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in (png(folder), dicom(folder, False), dicom(folder, True), nifti(folder)):
            found = measured(case, rounds)
            others = ", ".join(f"{name} {found[name]:.1f}" for name in case.others)
            ratio = found["umedfeat"] / found["limit"]
            print(
                f"| {case.name} | {found['limit']:.1f} | {found['umedfeat']:.1f} | {ratio:.2f} | {others} |", flush=True
            )


if __name__ == "__main__":
    main()
