"""Dynamic series without telling tags: phases by InstanceNumber, in blocks or in turn; UIDs decide nothing."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_factory import body, image, save
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid
from test_dicom import find, read

from umedfeat.contract import Source
from umedfeat.discovery import Discovery

PLACES = [0.0, 3.0, 6.0, 9.0]
PHASES = (0, 300, 700)


def dynamic(folder: Path, order: list[tuple[int, float]], names: list[str] | None = None, **tags: Any) -> None:
    """One image per (phase, place), numbered in the given order; the phase is added to the pixels."""
    uid = generate_uid()
    for number, (phase, z) in enumerate(order, start=1):
        place = {"ImagePositionPatient": [-16.0, -16.0, z], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        own = {"SeriesInstanceUID": uid, "StudyInstanceUID": "1.2.3", "PixelSpacing": [1.0, 1.0]}
        pixels = body(z) + np.int16(PHASES[phase])
        dataset = image("MR", pixels, **{**place, **own, "InstanceNumber": number, **tags})
        save(dataset, folder / (names[number - 1] if names else f"im{number:03d}"))


def blocks() -> list[tuple[int, float]]:
    return [(phase, z) for phase in range(3) for z in PLACES]


def interleaved() -> list[tuple[int, float]]:
    return [(phase, z) for z in PLACES for phase in range(3)]


def means(source: Source) -> list[float]:
    return [float(pydicom.dcmread(path).pixel_array.mean()) for path in source.files]


def levels(found: Discovery) -> list[list[int]]:
    """The phase of every image of every item: the disc's brightness, less its place."""
    return [[round(mean) // 100 * 100 for mean in means(source)] for source in found.sources]


@pytest.mark.parametrize("order", [blocks(), interleaved()])
@pytest.mark.parametrize("backwards", [False, True])
def test_phases_are_parted_by_instance_number(tmp_path: Path, order: list[tuple[int, float]], backwards: bool) -> None:
    dynamic(tmp_path, order[::-1] if backwards else order)
    found = find(tmp_path)
    assert [len(source.files) for source in found.sources] == [4, 4, 4]
    spread = [max(means(source)) - min(means(source)) for source in found.sources]
    assert max(spread) < 50, "an item mixes phases"
    assert {read(source)[0].detail["parted_by"] for source in found.sources} == {"InstanceNumber in turn"}


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**16), stepwise=st.booleans())
def test_new_uids_and_names_change_no_volume(
    tmp_path_factory: pytest.TempPathFactory, seed: int, stepwise: bool
) -> None:
    """An anonymiser gives new UIDs and names: items hold the same pixels in the same order."""
    order = interleaved() if stepwise else blocks()
    generator = random.Random(seed)
    seen = []
    for _ in range(2):
        folder = tmp_path_factory.mktemp("dynamic")
        dynamic(folder, order, [f"{generator.random()}" for _ in order])
        seen.append([np.stack(read(source)[1]) for source in find(folder).sources])
    assert len(seen[0]) == 3
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))


def test_a_missing_image_is_refused_by_name(tmp_path: Path) -> None:
    dynamic(tmp_path, [entry for entry in blocks() if entry != (1, 3.0)])
    found = find(tmp_path)
    assert not found.sources
    assert "11 images lie at 4 places" in found.failures[0].message


def test_numbers_in_no_order_are_refused(tmp_path: Path) -> None:
    dynamic(tmp_path, random.Random(4).sample(blocks(), 12))
    found = find(tmp_path)
    assert not found.sources and len(found.failures) == 1


def test_images_without_numbers_are_refused(tmp_path: Path) -> None:
    dynamic(tmp_path, blocks(), InstanceNumber=None)
    assert len(find(tmp_path).failures) == 1


def test_a_tag_and_numbers_together(tmp_path: Path) -> None:
    """Two echoes, which a tag tells, in two phases each, which only the number tells."""
    number = 0
    for phase in (0, 300):
        for z in PLACES:
            for echo in (10, 80):
                number += 1
                tags = {"ImagePositionPatient": [0.0, 0.0, z], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
                tags |= {"SeriesInstanceUID": "1.2.3.4", "PixelSpacing": [1.0, 1.0], "StudyInstanceUID": "1.2.3"}
                pixels = body(z) + np.int16(phase)
                save(image("MR", pixels, **tags, InstanceNumber=number, EchoTime=echo), tmp_path / f"{number}")
    sources = find(tmp_path).sources
    assert [len(source.files) for source in sources] == [4] * 4
    assert max(max(means(source)) - min(means(source)) for source in sources) < 50
    assert {read(source)[0].detail["parted_by"] for source in sources} == {"EchoTime+InstanceNumber in turn"}


def test_the_drawn_dce_series(shared_dir: Path) -> None:
    folder = shared_dir / "cases" / "radiology" / "b10_dce"
    if not folder.is_dir():
        pytest.skip("no drawn cases")
    found = find(folder)
    volumes = [np.mean(means(source)) for source in found.sources]
    assert volumes == pytest.approx([318, 537, 756], abs=1)


#: What tells volumes of a series apart by a tag: diffusion, cardiac phases, dual energy, perfusion, inversion.
TAGGED = {
    "DiffusionBValue": (0.0, 500.0, 1000.0),
    "TriggerTime": (10.0, 210.0, 410.0),
    "NominalPercentageOfCardiacPhase": (0.0, 30.0, 60.0),
    "KVP": ("80", "100", "140"),
    "TemporalPositionIdentifier": (1, 2, 3),
    "InversionTime": (100.0, 400.0, 900.0),
}


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**16))
@pytest.mark.parametrize("tag", TAGGED)
def test_where_a_tag_tells_names_uids_and_numbers_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, tag: str, seed: int
) -> None:
    """Files, SOP and series UIDs and InstanceNumbers in any order: the same squares, item by item."""
    generator = random.Random(seed)
    seen = []
    for _ in range(2):
        folder, uid = tmp_path_factory.mktemp("tagged"), generate_uid()
        numbers = generator.sample(range(1, 13), 12)
        for (phase, z), number in zip(blocks(), numbers, strict=True):
            place = {"ImagePositionPatient": [-16.0, -16.0, z], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
            own = {"SeriesInstanceUID": uid, "StudyInstanceUID": "1.2.3", "PixelSpacing": [1.0, 1.0]}
            pixels = body(z) + np.int16(PHASES[phase])
            told = {**place, **own, "InstanceNumber": number, tag: TAGGED[tag][phase]}
            save(image("MR", pixels, **told), folder / f"{generator.random()}")
        found = find(folder)
        assert [len(source.files) for source in found.sources] == [4, 4, 4]
        seen.append([np.stack(read(source)[1]) for source in found.sources])
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))
