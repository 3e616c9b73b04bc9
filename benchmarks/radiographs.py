"""What reading radiographs costs, beside another checkout: finding, planning and reading, without an encoder.

python benchmarks/radiographs.py --count 2000 --large 100
python benchmarks/radiographs.py --count 200 --large 20 --other ../umedfeat-before --rounds 5

Radiographs are drawn: ``count`` of 1,024 x 1,024 and ``large`` of 2,560 x 3,072 pixels, 12 bits, uncompressed and as
lossless JPEG 2000. Both checkouts read the same files in turn, one process each, one thread; processor seconds count,
and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

STEPS = ("find", "plan", "read")


def draw(folder: Path, count: int, shape: tuple[int, int], compressed: bool) -> None:
    """Radiographs with the texture of noise and a few large shapes."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import (
        DigitalXRayImageStorageForPresentation,
        ExplicitVRLittleEndian,
        JPEG2000Lossless,
        generate_uid,
    )

    folder.mkdir(parents=True)
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    shapes = 2000 + 900 * np.cos(3 * x) * np.cos(2 * y) + 500 * (np.hypot(x - 0.3, y) < 0.3)
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 20, shape)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
        image.Modality, image.PatientID, image.Rows, image.Columns = "DX", str(number), *shape
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
        image.PixelData = np.clip(shapes + noise, 0, 4095).astype("<u2").tobytes()
        if compressed:
            image.compress(JPEG2000Lossless, generate_instance_uid=False)
        image.save_as(folder / f"{number:05d}.dcm", enforce_file_format=True)


def work(folder: Path) -> dict[str, float]:
    """Processor seconds of each step in this process, of the umedfeat that it imports."""
    try:
        from umedfeat.discovery import discover
        from umedfeat.naming import Pseudonyms
    except ImportError:  # before the package was rearranged
        from umedfeat.privacy import Pseudonyms
        from umedfeat.sources import discover
    from umedfeat.policy import Policy
    from umedfeat.readers import open_reader

    policy, seconds, begin = Policy(), dict.fromkeys(STEPS, 0.0), time.process_time()
    found = discover([folder], policy, Pseudonyms(b"key"))
    seconds["find"] = time.process_time() - begin
    assert not found.failures
    for source in found.sources:
        begin = time.process_time()
        reader = open_reader(source, policy)
        plan = reader.plan()
        planned = time.process_time()
        assert reader.read(plan.regions)[0].shape == (224, 224, 3)
        reader.close()
        seconds["plan"] += planned - begin
        seconds["read"] += time.process_time() - planned
    return {step: value / len(found.sources) for step, value in seconds.items()}


def measured(tree: Path, folder: Path) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__, "--work", str(folder)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return {step: float(value) for step, value in json.loads(done.stdout).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--large", type=int, default=100)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        print(json.dumps(work(arguments.work)))
        return
    trees = {"here": Path(__file__).resolve().parents[1]}
    if arguments.other:
        trees["other"] = arguments.other.resolve()
    with tempfile.TemporaryDirectory() as place:
        sets = {
            "1024 px": (arguments.count, (1024, 1024), False),
            "2560 px": (arguments.large, (3072, 2560), False),
            "2560 px, JPEG 2000": (max(1, arguments.large // 5), (3072, 2560), True),
        }
        for name, (count, shape, compressed) in sets.items():
            folder = Path(place) / name
            draw(folder, count, shape, compressed)
            runs: dict[str, list[dict[str, float]]] = {tree: [] for tree in trees}
            for _ in range(arguments.rounds):
                for tree, path in trees.items():
                    runs[tree].append(measured(path, folder))
            tell(name, count, runs)


def tell(name: str, count: int, runs: dict[str, list[dict[str, float]]]) -> None:
    middle = {tree: {step: median(run[step] for run in told) for step in STEPS} for tree, told in runs.items()}
    for tree, told in middle.items():
        steps = ", ".join(f"{step} {1000 * told[step]:.2f}" for step in STEPS)
        print(f"{name} x {count}, {tree}: {1000 * sum(told.values()):.2f} ms of processor each ({steps})", flush=True)
    if "other" in middle:
        ratio = sum(middle["here"].values()) / sum(middle["other"].values())
        print(f"{name}: {ratio:.3f} of the other's processor time", flush=True)


if __name__ == "__main__":
    main()
