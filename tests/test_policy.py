"""Every setting that decides pixels is part of the policy's identity; limits are not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.errors import SetupError
from umedfeat.extraction.settings import RunSettings
from umedfeat.policy import (
    CT_WINDOWS,
    ImagePolicy,
    IntensityPolicy,
    Limits,
    Policy,
    RoiPolicy,
    SlidePolicy,
    TissuePolicy,
    VolumePolicy,
)

OTHER: dict[str, dict[str, Any]] = {
    "slide": {
        "mpp": 1.0, "tile_size": 256, "overlap": 8, "tissue": "none", "min_tissue": 0.5, "allow_upsample": True,
        "source_mpp": 0.25, "icc": "srgb", "masks_sha256": "ab", "focus": "2", "channel": "DAPI",
        "upsample_tolerance": 0.1, "level_tolerance": 0.0,
    },
    "intensity": {
        "ct_window": "lung", "window": "file", "suv": "0,20", "percentiles": (1.0, 99.0), "bright_tail": 0.5,
        "ct_air": -2000.0, "hu_offset": -1024.0, "rgb": "windows",
    },
    "volume": {
        "plane": "coronal", "slices": "every-2", "volume_index": "mean", "frames": "3", "include_derived": True,
        "modality": "CT", "max_shear": 1.0, "max_step_error": 0.1, "for_processing": True, "join_slices": True,
    },
    "tissue": {
        "thumbnail_mpp": 4.0, "block_mpp": 8.0, "closing": 32.0, "speck": 1.0, "hole": 1.0, "crumb": 1.0,
        "ink_texture": 0.1, "faint": 0.2,
    },
    "image": {"size": 256, "fit": "crop", "tile": True, "spacing": 1.0},
    "roi": {"margin": 5.0, "size": 60.0},
}  # fmt: skip
#: Versions of arithmetic: legal in one value only.
FIXED = {"tissue": {"rules"}}
SECTIONS = {
    "slide": SlidePolicy,
    "intensity": IntensityPolicy,
    "volume": VolumePolicy,
    "image": ImagePolicy,
    "tissue": TissuePolicy,
    "roi": RoiPolicy,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_no_setting_is_left_out_of_the_identity(section: str) -> None:
    assert {field.name for field in dataclasses.fields(SECTIONS[section])} == {*OTHER[section], *FIXED.get(section, ())}
    plain = Policy()
    for name, value in OTHER[section].items():
        changed = dataclasses.replace(plain, **{section: dataclasses.replace(getattr(plain, section), **{name: value})})
        assert changed.sha256() != plain.sha256() and changed != plain, name
        again = Policy.from_json(changed.to_json())
        assert again == changed and again.sha256() == changed.sha256(), name


def test_windows_with_the_same_numbers_but_other_names_are_other_settings() -> None:
    named = {Policy(intensity=IntensityPolicy(ct_window=name)).sha256() for name in (*CT_WINDOWS, "percentile", "file")}
    assert len(named) == len(CT_WINDOWS) + 2
    assert Policy(intensity=IntensityPolicy(ct_window="-160,240")).sha256() not in named


def test_limits_decide_whether_and_not_how() -> None:
    assert Policy(limits=Limits(max_pixels=5, force=True)).sha256() == Policy().sha256()


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises((TypeError, SetupError)):
        Policy.from_json(Policy().to_json().replace('"fit"', '"fitting"'))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: SlidePolicy(mpp=0.0), "mpp"),
        (lambda: SlidePolicy(mpp=float("nan")), "mpp"),
        (lambda: SlidePolicy(tile_size=-1), "tile_size"),
        (lambda: SlidePolicy(tile_size=224.5), "tile_size"),  # type: ignore[arg-type]
        (lambda: SlidePolicy(tile_size=64, overlap=64), "overlap"),
        (lambda: Policy(slide=SlidePolicy(overlap=300)).sized(224), "overlap"),
        (lambda: SlidePolicy(min_tissue=1.1), "min_tissue"),
        (lambda: SlidePolicy(source_mpp=0.0), "source_mpp"),
        (lambda: SlidePolicy(tissue="otsu"), "tissue"),
        (lambda: IntensityPolicy(window="lung"), "window"),
        (lambda: VolumePolicy(frames="every-0"), "frames"),
        (lambda: ImagePolicy(size=5000), "size"),
        (lambda: Limits(max_pixels=0), "max_pixels"),
        (lambda: Limits(max_unreadable=-0.1), "max_unreadable"),
        (lambda: EncoderChoice(precision="int8"), "precision"),
        (lambda: RunSettings(workers=0), "workers"),
        (lambda: RunSettings(shard=(4, 3)), "shard"),
        (lambda: RunSettings(dtype="float64"), "dtype"),
    ],
)
def test_wrong_settings_are_refused_where_they_are_made(make: Callable[[], object], named: str) -> None:
    with pytest.raises(SetupError, match=named) as caught:
        make()
    assert caught.value.remedy


def test_one_meaning_is_written_in_one_way() -> None:
    """What is the same setting has the same fingerprint, however it was typed."""
    assert IntensityPolicy(ct_window="-160.0, 240") == IntensityPolicy(ct_window="-160,2.4e2")
    assert VolumePolicy(modality="ct") == VolumePolicy(modality="CT")
    typed = Policy(slide=SlidePolicy(mpp=1))
    assert typed.sha256() == Policy(slide=SlidePolicy(mpp=1.0)).sha256()


def test_open_sizes_are_filled_in_once() -> None:
    policy = Policy(image=ImagePolicy(size=96)).sized(384)
    assert (policy.slide.tile_size, policy.image.size) == (384, 96)
    assert policy.sized(10) == policy


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.clear(),
        lambda told: told["image"].update(sizes=3),
        lambda told: told.update(image=[1]),
        lambda told: told.update(rooms={}),
    ],
)
def test_settings_that_this_version_does_not_know_are_refused_by_name(change: Callable[[Any], Any]) -> None:
    told = Policy().to_dict()
    change(told)
    with pytest.raises(SetupError, match="does not know"):
        Policy.from_json(json.dumps(told))
