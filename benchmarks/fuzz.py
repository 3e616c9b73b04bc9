"""Damage real files and read them: no crash, no hang, no memory blow-up, every file embedded or failed by name.

    python benchmarks/fuzz.py --mutations 6000 --seed 20261124 > fuzz.txt

Every mutation is one file: bytes of a real DICOM, NIfTI, MGH, PNG, JPEG, TIFF, BMP or WebP file with one to four
damages (flipped bits, overwritten fields, cut, repeated, removed or swapped blocks). A child process with an
address-space limit sniffs it, collects it, plans it and reads up to four regions, as a run does. The parent kills it
after the time limit. A mutation is told by its seed file and number alone: ``--only NAME:NUMBER`` repeats one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fuzz_child import Child, Outcome, judged

FORMATS = ("dicom", "nifti", "raster")
#: Outcomes that are findings; the others are embedded, dropped, skipped, unclaimed and failed (by name).
BAD = ("crash", "hang", "memory", "unnamed")
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FC00000)

DICOM_SEEDS = (
    "CT_small.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "JPEG-lossy.dcm",
    "JPEG2000.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg.dcm",
    "SC_rgb_rle_16bit_2frame.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "examples_palette.dcm",
    "examples_ybr_color.dcm",
    "image_dfl.dcm",
    "rtdose.dcm",
)


def seeds() -> dict[str, bytes]:
    """Name → bytes: DICOM of pydicom, NIfTI and MGH of nibabel, flat images encoded from a real CT slice."""
    import imagecodecs
    import nibabel.testing
    import pydicom.data

    found = {name: Path(pydicom.data.get_testdata_file(name, download=False)).read_bytes() for name in DICOM_SEEDS}
    folder = Path(nibabel.testing.data_path)
    for name in ("anatomical.nii", "example_nifti2.nii.gz", "functional.nii", "standard.nii.gz", "test.mgz"):
        found[name] = (folder / name).read_bytes()
    small = pydicom.dcmread(io.BytesIO(found["CT_small.dcm"]))
    found["enhanced.dcm"] = _enhanced(small, compressed=False)
    if hasattr(imagecodecs, "htj2k_encode"):  # not in the last version for Python 3.10
        found["enhanced-ht.dcm"] = _enhanced(small, compressed=True)
    return found | _flat_images(small.pixel_array)


def _enhanced(small: Any, *, compressed: bool) -> bytes:
    """Two times of three slices in one file, uncompressed or as high-throughput JPEG 2000."""
    import imagecodecs
    import pydicom
    from pydicom.dataset import Dataset
    from pydicom.encaps import encapsulate

    dataset, groups = pydicom.dcmread(io.BytesIO(pydicom_bytes(small))), []
    frames = [np.ascontiguousarray(np.roll(small.pixel_array[::2, ::2], k, axis=1)) for k in range(6)]
    for k in range(6):
        place, turn, content, scale, group = (Dataset() for _ in range(5))
        place.ImagePositionPatient, turn.ImageOrientationPatient = [0, 0, 5.0 * (k % 3)], [1, 0, 0, 0, 1, 0]
        content.StackID, content.TemporalPositionIndex, content.DimensionIndexValues = "1", 1 + k // 3, [1, k]
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1, -1024, "HU"
        group.PlanePositionSequence, group.PlaneOrientationSequence = [place], [turn]
        group.FrameContentSequence, group.PixelValueTransformationSequence = [content], [scale]
        groups.append(group)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    dataset.PerFrameFunctionalGroupsSequence, dataset.NumberOfFrames = groups, 6
    dataset.Rows, dataset.Columns = frames[0].shape
    dataset.PixelData = np.stack(frames).astype("<i2").tobytes()
    if compressed:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.840.10008.1.2.4.201")
        dataset.PixelRepresentation = 0
        codestreams = [imagecodecs.htj2k_encode(frame.astype(np.uint16)) for frame in frames]
        dataset.add_new("PixelData", "OB", encapsulate(codestreams))
        dataset["PixelData"].is_undefined_length = True
    return pydicom_bytes(dataset)


def pydicom_bytes(dataset: Any) -> bytes:
    """A data set as its file would be."""
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _flat_images(grey: np.ndarray) -> dict[str, bytes]:
    import tifffile
    from PIL import Image

    small = (grey / grey.max() * 255).astype(np.uint8)
    colour = Image.fromarray(np.stack([small, small[::-1], small.T], -1))
    images: dict[str, bytes] = {}
    for name, image, options in (
        ("grey8.png", Image.fromarray(small), {}),
        ("grey16.png", Image.fromarray(grey.astype(np.uint16)), {}),
        ("palette.png", colour.quantize(32), {"transparency": 3}),
        ("colour.png", colour, {}),
        ("colour.jpg", colour, {"quality": 85}),
        ("colour.bmp", colour, {}),
        ("colour.webp", colour, {}),
        ("animated.webp", colour, {"save_all": True, "append_images": [colour.rotate(90)]}),
    ):
        stream = io.BytesIO()
        image.save(stream, name.rpartition(".")[2].replace("jpg", "jpeg"), **options)
        images[name] = stream.getvalue()
    multipage = {"byteorder": ">", "photometric": "minisblack"}
    for name, data, options in (
        ("float.tif", grey.astype(np.float32), {}),
        ("deflate.tif", np.stack([small, small.T]), {"compression": "deflate", "photometric": "minisblack"}),
        ("pages.tif", np.stack([grey, grey.T, grey[::-1]]).astype(">u2"), {"compression": "lzw", **multipage}),
        ("tiled.tif", np.asarray(colour), {"tile": (64, 64), "photometric": "rgb", "compression": "jpeg"}),
    ):
        stream = io.BytesIO()
        tifffile.imwrite(stream, data, **options)
        images[name] = stream.getvalue()
    return images


def mutate(raw: bytes, rng: np.random.Generator) -> bytes:
    """One to four damages; half of them in the first kilobyte, where the headers are."""
    damaged = bytearray(raw)
    for _ in range(int(rng.integers(1, 5))):
        if len(damaged) < 8:
            break
        near = min(len(damaged), 1024) if rng.random() < 0.5 else len(damaged)
        _damage(damaged, int(rng.integers(0, near)), rng)
    return bytes(damaged)


def _damage(damaged: bytearray, place: int, rng: np.random.Generator) -> None:
    length = int(rng.integers(1, 64))
    match int(rng.integers(0, 8)):
        case 0:
            damaged[place] ^= 1 << int(rng.integers(0, 8))
        case 1:
            damaged[place : place + length] = rng.bytes(min(length, len(damaged) - place))
        case 2:
            width = int(rng.choice([1, 2, 4]))
            value = int(rng.choice(_EXTREMES)) & (256**width - 1)
            order = "little" if rng.random() < 0.5 else "big"
            start = min(place - place % width, len(damaged) - width)
            damaged[start : start + width] = value.to_bytes(width, order)  # type: ignore[arg-type]
        case 3:
            del damaged[place:]
        case 4:
            del damaged[place : place + length]
        case 5:
            damaged[place:place] = damaged[place : place + length] * int(rng.integers(1, 4))
        case 6:
            other = int(rng.integers(0, len(damaged)))
            damaged[place : place + length] = damaged[other : other + length]
        case _:
            damaged[place : place + length] = bytes([int(rng.choice([0, 255]))]) * length


def mutation(raw: bytes, name: str, number: int, seed: int) -> bytes:
    """Mutation ``number`` of a seed file; the same in every process."""
    return mutate(raw, np.random.default_rng([seed, number, *name.encode()]))


def read_as_a_run_does(path: Path) -> Outcome:
    """Sniff, collect, plan, read the first and last regions."""
    from umedfeat.contract import Found, RegionUnreadable
    from umedfeat.errors import InputError
    from umedfeat.naming import Pseudonyms
    from umedfeat.policy import ImagePolicy, Policy, VolumePolicy
    from umedfeat.readers import reader_format

    policy = Policy(volume=VolumePolicy(volume_index="0", include_derived=True), image=ImagePolicy(size=64))
    head = path.read_bytes()[:4096]
    claimed = next((name for name in FORMATS if reader_format(name).sniff(path, head)), None)
    if claimed is None:
        return Outcome("unclaimed")
    collected = reader_format(claimed).collect([Found(path, path.name, {})], policy, Pseudonyms(b"key"))
    if collected.failures:
        return Outcome("failed", collected.failures[0].error)
    if not collected.sources:
        return Outcome("skipped")
    try:
        with contextlib.closing(reader_format(claimed).open_source(collected.sources[0], policy)) as reader:
            plan = reader.plan()
            ends = np.unique(np.r_[:2, -2:0] % max(1, len(plan.regions)))
            images = reader.read(plan.regions[ends] if len(plan.regions) else plan.regions)
    except InputError as error:
        return Outcome("failed", type(error).__name__)
    if any(isinstance(image, RegionUnreadable) for image in images):
        return Outcome("dropped")
    for image in images:
        if image.shape != (*plan.shape, 3) or not np.isfinite(image).all() or image.min() < 0:  # type: ignore[union-attr]
            return Outcome("unnamed", f"wrong pixels: {image.shape} {image.dtype}")  # type: ignore[union-attr]
    return Outcome("embedded")


def serve(link: Connection, seed: int) -> None:
    """The child: one mutation after another."""
    warnings.simplefilter("ignore")
    known = seeds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mutant.bin")
        while (task := link.recv()) is not None:
            name, number = task
            path.write_bytes(mutation(known[name], name, number, seed))
            link.send((name, judged(lambda: read_as_a_run_does(path))))


def campaign(
    mutations: int, seed: int, *, limit_bytes: int, seconds: float, only: str = ""
) -> Iterator[tuple[str, int, Outcome]]:
    """(seed file, number, outcome) of every mutation, the seed files in turn."""
    names = sorted(seeds())
    tasks: Iterable[tuple[str, int]] = ((names[i % len(names)], i // len(names)) for i in range(mutations))
    if only:
        name, _, number = only.rpartition(":")
        tasks = [(name, int(number))]
    child = Child(serve, seed, limit_bytes=limit_bytes, seconds=seconds)
    try:
        for name, number in tasks:
            yield name, number, child.run((name, number))[1]
    finally:
        child.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--seconds", type=float, default=10.0, help="a mutation that takes longer is a hang")
    parser.add_argument("--memory-mib", type=int, default=4096, help="address space of the child")
    parser.add_argument("--only", default="", help="repeat one mutation, NAME:NUMBER")
    options = parser.parse_args()
    kinds: Counter[str] = Counter()
    table: Counter[tuple[str, str]] = Counter()
    slowest, slow, peak = Outcome("none"), "", 0
    print(f"seed {options.seed}, {options.mutations} mutations of {len(seeds())} files")
    for name, number, outcome in campaign(
        options.mutations,
        options.seed,
        limit_bytes=options.memory_mib << 20,
        seconds=options.seconds,
        only=options.only,
    ):
        label = f"{outcome.kind} {outcome.what}" if outcome.kind == "failed" else outcome.kind
        kinds[outcome.kind] += 1
        table[name, label] += 1
        peak = max(peak, outcome.peak_mib)
        if outcome.seconds > slowest.seconds:
            slowest, slow = outcome, f"{name}:{number}"
        if outcome.kind in BAD or options.only:
            print(f"{outcome.kind.upper()} {name}:{number} {outcome.seconds:.1f} s\n{outcome.what}", flush=True)
        if sum(kinds.values()) % 500 == 0:
            print(f"… {sum(kinds.values())}: {dict(kinds)}", file=sys.stderr, flush=True)
    print(f"\noutcomes: {dict(kinds)}")
    print(f"slowest: {slow}, {slowest.seconds:.2f} s; peak memory of the child: {peak} MiB\n")
    for (name, label), count in sorted(table.items()):
        print(f"{name:36} {label:28} {count:6}")
    return 1 if any(kinds[kind] for kind in BAD) else 0


if __name__ == "__main__":
    sys.exit(main())
