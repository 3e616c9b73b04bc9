"""DICOM pixels: what is stored becomes what a radiologist sees, checked by hand and against highdicom."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_factory import body, image
from pydicom.data.data_manager import DATA_ROOT
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from umedfeat.errors import UmedfeatError
from umedfeat.readers.dicom.decode import decode_frame
from umedfeat.readers.dicom.load import load
from umedfeat.readers.dicom.pixels import is_colour, is_inverted, physical, voi_of
from umedfeat.readers.stacks.intensity import through_voi

#: highdicom mistakes a modality LUT whose first stored value is negative; checked by hand below.
NOT_THE_ORACLES = {"mlut_18.dcm"}
AS_STORED: dict[str, Any] = {
    "apply_real_world_transform": False,
    "apply_modality_transform": None,
    "apply_voi_transform": False,
    "apply_presentation_lut": False,
    "apply_icc_profile": False,
}


def values_of(dataset: Dataset, frame: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    stored, _ = decode_frame(dataset, frame, "x")
    return physical(dataset, stored, frame, "x")


def real_files(data_dir: Path) -> list[Path]:
    """pydicom's own test files, and real ones; of long series every other slice."""
    own = [path for path in sorted(Path(DATA_ROOT, "test_files").rglob("*")) if path.is_file()]
    others = [path for path in sorted((data_dir / "dicom").rglob("*")) if path.is_file()]
    long = [path for path in others if "ibsi" in path.parts]
    return [*own, *(path for path in others if "ibsi" not in path.parts), *long[::2]]


def oracle(path: Path) -> tuple[Any, list[int]] | None:
    """highdicom's image and its first and last frame, or None where it does not open the file."""
    try:
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return None
        opened = highdicom.imread(path)
        opened.get_frame(1, **AS_STORED)
    except Exception:  # noqa: BLE001 - whatever damaged or unusual files lead to
        return None
    return opened, sorted({1, opened.number_of_frames})


def test_real_files_agree_with_highdicom(data_dir: Path) -> None:
    agree, windows, kinds, syntaxes = 0, 0, Counter[str](), set()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for path in real_files(data_dir):
                found = oracle(path)
                if found is None or path.name in NOT_THE_ORACLES:
                    continue
                dataset = load(path, path.name)
                for frame in found[1]:
                    assert_same(dataset, found[0], frame, path)
                windows += same_window(dataset, found[0], path)
                agree += 1
                kinds[str(dataset.PhotometricInterpretation)] += 1
                syntaxes.add(str(dataset.file_meta.TransferSyntaxUID))
    finally:
        logging.disable(logging.NOTSET)
    assert agree >= 240 and windows >= 30
    assert set(kinds) >= {"MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_RCT"}
    assert len(syntaxes) >= 10


def assert_same(dataset: Dataset, opened: Any, frame: int, path: Path) -> None:
    theirs = np.asarray(opened.get_frame(frame, **AS_STORED), np.float64)
    ours = values_of(dataset, frame - 1)[0].astype(np.float64)
    assert ours.shape == theirs.shape, path
    if is_colour(dataset) and theirs.max() > 1 >= ours.max():
        palette = dataset.PhotometricInterpretation == "PALETTE COLOR"
        theirs = theirs / ((65535 if theirs.max() > 255 else 255) if palette else (1 << dataset.BitsStored) - 1)
    assert np.abs(ours - theirs).max() <= 1e-6 * max(1.0, np.abs(theirs).max()), path


def same_window(dataset: Dataset, opened: Any, path: Path) -> bool:
    """The stored window with inversion, where there is one that highdicom applies."""
    voi = None if is_colour(dataset) else voi_of(dataset, 0)
    if voi is None:
        return False
    shown = {**AS_STORED, "apply_voi_transform": True, "apply_presentation_lut": True, "voi_output_range": (0.0, 1.0)}
    try:
        theirs = opened.get_frame(1, **shown)
    except Exception:  # noqa: BLE001 - a window that highdicom refuses
        return False
    ours = through_voi(values_of(dataset)[0], voi, invert=is_inverted(dataset))
    assert np.abs(ours - theirs).max() < 1e-4, path
    return True


def test_a_modality_lut_whose_first_value_is_negative(data_dir: Path) -> None:
    dataset = pydicom.dcmread(data_dir / "dicom" / "pydicom" / "mlut_18.dcm")
    lut = dataset.ModalityLUTSequence[0]
    stored = dataset.pixel_array
    assert stored.min() < -1000
    assert np.array_equal(
        values_of(dataset)[0], np.asarray(lut.LUTData)[stored.astype(int) - int(lut.LUTDescriptor[1])]
    )


def test_every_transfer_syntax_of_the_permissive_codecs_gives_the_same_mr(data_dir: Path) -> None:
    """One MR slice in seven encodings; all of them lossless."""
    folder = Path(DATA_ROOT, "test_files")
    names = ("", "_RLE", "_bigendian", "_expb", "_implicit", "_jp2klossless", "_jpeg_ls_lossless")
    expected = values_of(load(folder / "MR_small.dcm", "x"))[0]
    for name in names:
        assert np.array_equal(values_of(load(folder / f"MR_small{name}.dcm", "x"))[0], expected), name


@pytest.mark.parametrize("width", [8, 16])
def test_palette_colours_are_scaled_by_the_depth_of_their_tables(width: int) -> None:
    dataset = palette(width)
    values, padding = values_of(dataset)
    assert values.shape == (32, 32, 3) and values.dtype == np.float32 and padding is None
    assert values[0, 0] == pytest.approx([0, 1, 0], abs=1e-6)
    assert values[0, 3] == pytest.approx([1, 0, 2 / 3], abs=1e-2 if width == 8 else 1e-4)


def palette(width: int) -> Dataset:
    pixels = np.tile(np.arange(32) % 4, (32, 1)).astype(np.uint8)
    dataset = image("US", pixels.astype(np.uint16), PhotometricInterpretation="PALETTE COLOR")
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelData = 7, pixels.tobytes()
    full = 2**width - 1
    tables = {"Red": [0, 0, 0, full], "Green": [full, 0, 0, 0], "Blue": [0, 0, full, full * 2 // 3]}
    for colour, entries in tables.items():
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, width])
        packed = np.array(entries, np.uint8 if width == 8 else "<u2").tobytes()
        setattr(dataset, f"{colour}PaletteColorLookupTableData", packed)
    return dataset


def test_a_palette_of_16_bits_that_declares_8_is_scaled_alike_in_dark_frames() -> None:
    dataset = palette(16)
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", np.array([0, 200, 65535, 0], "<u2").tobytes())
    bright, _ = values_of(dataset)
    dataset.PixelData = bytes(len(dataset.PixelData) // 2) + b"\1" * (len(dataset.PixelData) // 2)
    dark, _ = values_of(dataset)
    assert bright[0, 1, 0] == dark[31, 0, 0] == pytest.approx(200 / 65535)


def test_segmented_palettes_are_expanded() -> None:
    """PS3.3 C.7.9.2: a discrete segment of two entries, then a line over six."""
    pixels = np.tile(np.arange(32) % 8, (32, 1)).astype(np.uint8)
    dataset = palette(16)
    dataset.PixelData = pixels.tobytes()
    for colour, end in (("Red", 60000), ("Green", 30000), ("Blue", 0)):
        delattr(dataset, f"{colour}PaletteColorLookupTableData")
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [8, 0, 16])
        packed = np.array([0, 2, 65535, 0, 1, 6, end], "<u2").tobytes()
        setattr(dataset, f"Segmented{colour}PaletteColorLookupTableData", packed)
    values, _ = values_of(dataset)
    assert values[0, 0] == pytest.approx([1, 1, 1]) and values[0, 1] == pytest.approx([0, 0, 0])
    assert values[0, 7] == pytest.approx([60000 / 65535, 30000 / 65535, 0], abs=1e-4)
    assert values[0, 4] == pytest.approx([30000 / 65535, 15000 / 65535, 0], abs=1e-4)


def coloured(pixels: np.ndarray, **tags: Any) -> Dataset:
    """8-bit colour, samples interleaved."""
    dataset = image("US", np.zeros(pixels.shape[:2], np.uint16))
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


#: Red, green, blue and grey in YCbCr of Rec. 601, full range (PS3.3 C.7.6.3.1.2).
YBR = np.array([[76, 85, 255], [150, 44, 21], [29, 255, 107], [128, 128, 128]], np.uint8)
RGB = np.array([[254, 0, 0], [0, 255, 1], [0, 0, 254], [128, 128, 128]], np.int16)


def test_ybr_full_becomes_rgb_exactly_once() -> None:
    pixels = np.repeat(np.repeat(YBR[None], 4, axis=0), 2, axis=1)
    values, _ = values_of(coloured(pixels, PhotometricInterpretation="YBR_FULL"))
    assert np.abs(values[0, ::2].astype(np.int16) - RGB).max() <= 2


def test_ybr_full_422_shares_chroma_between_neighbours() -> None:
    pairs = np.stack([YBR[:, 0], YBR[:, 0], YBR[:, 1], YBR[:, 2]], axis=1)  # Y Y Cb Cr
    raw = np.repeat(pairs.reshape(1, -1), 4, axis=0)
    dataset = coloured(np.zeros((4, 8, 3), np.uint8), PhotometricInterpretation="YBR_FULL_422", PixelData=raw.tobytes())
    values, _ = values_of(dataset)
    assert np.abs(values[0, ::2].astype(np.int16) - RGB).max() <= 2
    assert np.array_equal(values[:, ::2], values[:, 1::2])


def test_planar_colours_and_rle_colours_equal_interleaved_ones() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 6, 3), np.uint8)
    plain, planar = coloured(pixels, PhotometricInterpretation="RGB"), coloured(pixels, PhotometricInterpretation="RGB")
    planar.PlanarConfiguration, planar.PixelData = 1, np.moveaxis(pixels, 2, 0).tobytes()
    packed = coloured(pixels, PhotometricInterpretation="RGB")
    packed.compress(RLELossless, generate_instance_uid=False)
    for dataset in (plain, planar, packed):
        assert np.array_equal(values_of(dataset)[0], pixels)


def test_sixteen_bit_colours_keep_their_levels() -> None:
    pixels = np.linspace(0, 65535, 8 * 6 * 3).reshape(8, 6, 3).astype("<u2")
    deep = {"PhotometricInterpretation": "RGB", "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}
    values, _ = values_of(coloured(pixels, **deep, PixelData=pixels.tobytes()))
    assert values.dtype == np.float32 and len(np.unique(values)) == pixels.size
    assert (values.min(), values.max()) == (0, 1)


def test_sixteen_bit_greys_pass_no_eight_bit_step() -> None:
    ramp = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 17
    dataset = image("DX", ramp, WindowCenter=8704, WindowWidth=17409)
    voi = voi_of(dataset, 0)
    assert voi is not None
    assert len(np.unique(voi(values_of(dataset)[0]))) >= 1023


@pytest.mark.parametrize("stored", [12, 16])
def test_signed_pixels_keep_their_sign(stored: int) -> None:
    pixels = np.tile(np.arange(-16, 16, dtype=np.int16) * 100, (32, 1))
    raw = pixels if stored == 16 else (pixels & 0x0FFF).astype(np.int16)
    dataset = image("MR", raw, BitsStored=stored, HighBit=stored - 1)
    assert np.array_equal(values_of(dataset)[0], pixels)


def test_bits_above_the_stored_ones_are_no_part_of_the_value() -> None:
    """Overlays once lay there."""
    pixels = np.tile(np.arange(32, dtype=np.uint16) * 100, (32, 1))
    dataset = image("DX", pixels | np.uint16(0x8000), BitsStored=12, HighBit=11)
    assert np.array_equal(values_of(dataset)[0], pixels)


def test_signedness_of_the_codestream_overrules_the_header() -> None:
    dataset = load(Path(DATA_ROOT, "test_files", "J2K_pixelrep_mismatch.dcm"), "x")
    assert dataset.PixelRepresentation == 1
    assert values_of(dataset)[0].min() < -1000  # air around the patient, not 60,000 HU


def test_overlays_are_not_burned_in() -> None:
    pixels = np.tile(np.arange(32, dtype=np.uint16) * 10, (32, 1))
    dataset = image("DX", pixels)
    dataset.add_new(0x60000010, "US", 32)
    dataset.add_new(0x60000011, "US", 32)
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60003000, "OW", b"\xff" * 128)
    assert np.array_equal(values_of(dataset)[0], pixels)


@pytest.mark.parametrize("limits", [(-2000, None), (-2000, -1990), (-1990, -2000), (63536, None)])
def test_padding_is_a_value_or_a_range_of_either_order_and_signedness(limits: tuple[int, int | None]) -> None:
    value, limit = limits
    pixels = np.tile(np.arange(32, dtype=np.int16) * 10, (32, 1))
    pixels[0], pixels[1] = -2000, -1995
    dataset = image("MR", pixels)
    dataset.add_new("PixelPaddingValue", "US" if value > 0 else "SS", value)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", "SS", limit)
    _, padding = values_of(dataset)
    assert padding is not None
    assert padding[0].all() and padding[1].all() == (limit is not None) and not padding[2:].any()


def test_padding_is_found_before_the_rescale() -> None:
    pixels = body(0)
    pixels[:4] = 24
    dataset = image("CT", pixels, RescaleSlope=2, RescaleIntercept=-1024)
    dataset.add_new("PixelPaddingValue", "SS", 24)
    values, padding = values_of(dataset)
    assert padding is not None and np.array_equal(padding, pixels == 24)
    assert values[16, 8] == 2 * (1024 + 40) - 1024


def test_a_voi_table_maps_values_between_its_ends() -> None:
    dataset = image("DX", np.tile(np.arange(32, dtype=np.uint16), (32, 1)))
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [16, 8, 12])
    table.add_new("LUTData", "US", [0, *range(200, 3000, 200), 4095])
    dataset.VOILUTSequence = [table]
    voi = voi_of(dataset, 0)
    assert voi is not None
    shown = voi(values_of(dataset)[0])[0]
    assert shown[:9] == pytest.approx(0) and shown[23:] == pytest.approx(1)
    assert shown[10] == pytest.approx(400 / 4095, abs=1e-6)


WINDOWS = {
    "LINEAR": lambda x: np.clip((x - 99.5) / 199 + 0.5, 0, 1),
    "LINEAR_EXACT": lambda x: np.clip((x - 100) / 200 + 0.5, 0, 1),
    "SIGMOID": lambda x: 1 / (1 + np.exp(-4 * (x - 100) / 200)),
}


@pytest.mark.parametrize("function", WINDOWS)
def test_window_functions_are_those_of_the_standard(function: str) -> None:
    """PS3.3 C.11.2.1.2.1 to C.11.2.1.3.2."""
    pixels = np.tile(np.linspace(-200, 400, 32).astype(np.int16), (32, 1))
    dataset = image("MR", pixels, WindowCenter=[100, 7], WindowWidth=[200, 7], VOILUTFunction=function)
    voi = voi_of(dataset, 0)
    assert voi is not None
    assert voi(values_of(dataset)[0]) == pytest.approx(WINDOWS[function](pixels.astype(float)), abs=1e-5)


def test_a_window_of_no_width_is_none() -> None:
    assert voi_of(image("MR", body(0), WindowCenter=100, WindowWidth=0), 0) is None


def test_files_that_are_read_twice_give_the_same(data_dir: Path) -> None:
    """A dataset is not changed by reading it (YBR converted once, not once more)."""
    dataset = load(Path(DATA_ROOT, "test_files", "examples_ybr_color.dcm"), "x")
    assert np.array_equal(values_of(dataset, 3)[0], values_of(dataset, 3)[0])


def test_every_own_file_of_pydicom_is_read_or_refused_by_name() -> None:
    read, refused = 0, Counter[str]()
    for path in sorted(Path(DATA_ROOT, "test_files").glob("*.dcm")):
        try:
            values_of(load(path, path.name))
            read += 1
        except UmedfeatError as error:
            assert path.name in error.message or "x:" in error.message
            refused[type(error).__name__] += 1
        except AttributeError:  # a text in place of an image: discovery skips it
            assert "PixelData" not in pydicom.dcmread(path, force=True)
    assert read >= 55 and set(refused) <= {"UnreadableInput", "UnsupportedInput"}
