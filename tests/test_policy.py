"""Every setting that decides pixels is part of the policy's identity; limits are not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from umedfeat.errors import SetupError
from umedfeat.policy import CT_WINDOWS, ImagePolicy, IntensityPolicy, Limits, Policy, SlidePolicy, VolumePolicy

OTHER: dict[str, dict[str, Any]] = {
    "slide": {
        "mpp": 1.0, "tile_size": 256, "overlap": 8, "tissue": "none", "min_tissue": 0.5, "allow_upsample": True,
        "source_mpp": 0.25, "icc": "srgb", "masks_sha256": "ab",
    },
    "intensity": {"ct_window": "lung", "window": "file", "percentiles": (1.0, 99.0)},
    "volume": {
        "plane": "coronal", "slices": "every-2", "volume_index": "mean", "frames": "3", "include_derived": True,
        "modality": "CT",
    },
    "image": {"size": 256, "fit": "crop", "tile": True},
}  # fmt: skip
SECTIONS = {"slide": SlidePolicy, "intensity": IntensityPolicy, "volume": VolumePolicy, "image": ImagePolicy}


@pytest.mark.parametrize("section", SECTIONS)
def test_no_setting_is_left_out_of_the_identity(section: str) -> None:
    assert {field.name for field in dataclasses.fields(SECTIONS[section])} == set(OTHER[section])
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
