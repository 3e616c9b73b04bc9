"""Never idle: the encoder's share of the wall time for slides, volumes and radiographs, and what a run waits for.

    python benchmarks/pipeline.py --tissue CMU-1-Small-Region.svs --weights umedpt.pt.zip --folder /somewhere/with/8GB

Every line is a whole ``umedfeat extract`` in a process of its own, start to packed file; the figures are those of its
``.run.json``. "Encoder alone" embeds images that lie in memory, in the same minute: on a machine without a GPU the
reading processes take their time from the same cores, so the pipeline cannot reach it. ``--weights`` adds UMedPT.
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
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "factories")]

#: Inputs and the pixels of each: slides of so many pixels a side, volumes of 512 x 512, radiographs.
SLIDES, SLIDE_SIDE = 2, 4_480
SERIES_SLICES, VOLUME_SLICES = 80, 60
RADIOGRAPHS, SMALL_SIDE, LARGE, LARGE_SIDE = 2_000, 1_024, 100, 2_560


def make_slides(folder: Path, tissue: Path) -> None:
    from slides import write_slide

    for k in range(SLIDES):
        write_slide(folder / f"slide{k}.svs", SLIDE_SIDE + 448 * k, tissue)


def make_volumes(folder: Path, tissue: Path) -> None:
    """A CT series and two compressed NIfTI volumes: a phantom with the noise that keeps real scans from shrinking."""
    from dicom_factory import body, image, save
    from nifti_factory import phantom, write
    from pydicom.uid import generate_uid

    rng = np.random.default_rng(0)
    shared = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    for k in range(SERIES_SLICES):
        pixels = (body(k, 512) + rng.integers(0, 30, (512, 512))).astype(np.int16)
        place = {"ImagePositionPatient": [0.0, 0.0, float(k)], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        scale = {"PixelSpacing": [0.7, 0.7], "SliceThickness": 1.0, "InstanceNumber": k + 1}
        save(image("CT", pixels, **shared, **place, **scale), folder / "ct" / f"{k:03d}.dcm")
    for k in range(2):
        write(folder / f"mr{k}.nii.gz", phantom((512, 512, VOLUME_SLICES), seed=k))


def make_radiographs(folder: Path, count: int, side: int) -> None:
    from dicom_factory import image, save

    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    chest = 2000 + 1200 * (np.hypot(x * 1.1, y) < 0.9) - 900 * (np.hypot(np.abs(x) - 0.4, y) < 0.3)
    for k in range(count):
        pixels = (chest + rng.integers(0, 200, (side, side))).astype(np.uint16)
        save(image("DX", pixels, BitsStored=12, HighBit=11), folder / f"{k:04d}.dcm")


def inputs(folder: Path, tissue: Path, only: str) -> dict[str, Path]:
    """Name → folder of the inputs whose name begins with ``only``; those that stand from an earlier run are kept."""
    makers = {
        "slides": lambda place: make_slides(place, tissue),
        "volumes": lambda place: make_volumes(place, tissue),
        f"{RADIOGRAPHS:,} radiographs of {SMALL_SIDE} px": lambda place: make_radiographs(
            place, RADIOGRAPHS, SMALL_SIDE
        ),
        f"{LARGE:,} radiographs of {LARGE_SIDE} px": lambda place: make_radiographs(place, LARGE, LARGE_SIDE),
    }
    made = {}
    for name, maker in makers.items():
        if not name.startswith(only):
            continue
        made[name] = folder / name.replace(" ", "-").replace(",", "")
        if not (made[name] / "done").exists():
            made[name].mkdir(parents=True, exist_ok=True)
            maker(made[name])
            (made[name] / "done").touch()
    return made


def extract(source: Path, encoder: list[str], options: list[str]) -> dict[str, Any]:
    """Run the command; its ``.run.json``."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "feats.h5"
        command = [sys.executable, "-m", "umedfeat", "extract", "--input", str(source), "--out", str(out), *encoder]
        done = subprocess.run([*command, *options, "--progress", "none"], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{source.name}: {done.stdout}{done.stderr}")
        found: dict[str, Any] = json.loads(out.with_name("feats.h5.run.json").read_text())
        return found


def alone(encoder: list[str]) -> float:
    """Images per second of the encoder on images that lie in memory."""
    code = (
        "import json, sys, time, torch; from umedfeat import load_encoder\n"
        "options = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        "encoder = load_encoder(options['--encoder'], **{k[2:]: v for k, v in options.items() if k != '--encoder'})\n"
        "count = 256 if encoder.device.startswith('cuda') else 32\n"
        "images = torch.rand(count, 3, encoder.image_size, encoder.image_size); encoder(images)\n"
        "times = []\n"
        "for _ in range(3): begin = time.perf_counter(); encoder(images); times.append(time.perf_counter() - begin)\n"
        "print(count / sorted(times)[1])"
    )
    said = subprocess.run([sys.executable, "-c", code, *encoder], check=True, capture_output=True, text=True)
    return float(said.stdout.split()[-1])


def report(name: str, source: Path, encoder: list[str], options: list[str]) -> None:
    """One line of the table."""
    rate = alone(encoder)
    found = extract(source, encoder, options)
    seconds, waits = found["seconds"], found["waited_for"]
    reading = (seconds["plan"] + seconds["read"]) / found["workers"] / seconds["wall"]
    encoding = seconds["encode"] / seconds["wall"] / found["devices"]
    waited = ", ".join(f"{stage} {share:.0%}" for stage, share in waits.items())
    cells = (name, encoder[1], found["workers"], found["regions"], f"{seconds['wall']:.0f}")
    cells += (f"{found['regions_per_second']:.1f}", f"{found['regions_per_second'] / rate:.0%}")
    cells += (f"{encoding:.0%}", f"{found['device_busy']:.0%}", f"{reading:.0%}", waited)
    print("|", *(f"{cell} |" for cell in cells), flush=True)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tissue", type=Path, required=True, help="a real slide whose tissue the slides show")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--folder", type=Path, help="where inputs are made and kept (default: a temporary one)")
    parser.add_argument("--only", default="", help="inputs whose name begins so")
    parser.add_argument("--encoder", choices=["efficientnet-lite0", "umedpt"], action="append")
    parser.add_argument("--workers", type=int, action="append", help="repeatable; default: as the command chooses")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print(f"No GPU here: how busy one would be is not measured. {os.cpu_count()} cores.\n")
    encoders = [["--encoder", "efficientnet-lite0"]]
    if options.weights:
        encoders.append(["--encoder", "umedpt", "--weights", str(options.weights)])
    if options.encoder:
        encoders = [one for one in encoders if one[1] in options.encoder]
    heads = ("inputs", "encoder", "workers", "images", "s", "images/s", "of encoder alone")
    heads += ("encoding / wall", "busy", "reading / wall", "waited for")
    print("|", *(f"{head} |" for head in heads))
    print("|" + "---|" * len(heads), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for name, source in inputs(options.folder or Path(temporary), options.tissue, options.only).items():
            for encoder in encoders:
                for workers in options.workers or [0]:
                    report(name, source, encoder, ["--workers", str(workers)] if workers else [])


if __name__ == "__main__":
    begin = time.perf_counter()
    main()
    print(f"\n{time.perf_counter() - begin:.0f} s")
