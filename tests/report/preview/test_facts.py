"""A plan in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from umedfeat.contract import Plan, make_regions
from umedfeat.report.preview.facts import facts, flags, headline

SLIDE = Plan(
    regions=make_regions(np.arange(1200), 0),
    shape=(224, 224),
    dtype="uint8",
    format="aperio",
    modality="WSI",
    width=40000,
    height=20000,
    mpp=(0.25, 0.25),
    mpp_source="header:aperio.MPP",
    tile_extent=448.0,
    detail={"grid": {"step": 448.0, "columns": 89, "rows": 44}, "icc": "kept", "objective": "40"},
)
VOLUME = Plan(
    regions=make_regions(0, 0, np.arange(32)),
    shape=(224, 224),
    dtype="float32",
    format="dicom-ct",
    modality="CT",
    width=512,
    height=512,
    depth=96,
    spacing="5\\0.7031\\0.7031",
    detail={
        "plane": "axial",
        "fit": "pad",
        "intensity": {"window": "lung", "low": -1350.0, "high": 150.0, "nonfinite": 3},
        "missing_slices": 2,
        "lossy": True,
    },
)
RADIOGRAPH = replace(
    VOLUME, regions=make_regions(0, 0), modality="CR", depth=1, width=2140, height=1760, spacing="", detail={}
)


def test_headlines() -> None:
    assert headline(SLIDE) == "1,200 tiles · 0.25 µm/px"
    assert headline(replace(SLIDE, regions=make_regions(0, 0), mpp=None)) == "1 tile"
    assert headline(VOLUME) == "32 of 96 slices · axial"
    assert headline(RADIOGRAPH) == "2140 × 1760 px"
    cine = replace(RADIOGRAPH, depth=30, regions=make_regions(0, 0, np.arange(30)))
    assert headline(cine) == "30 frames"


def test_facts_of_a_slide() -> None:
    told = dict(facts(SLIDE))
    assert told["Size"] == "40,000 × 20,000 px (10 × 5 mm)"
    assert told["Scale"] == "0.25 µm/px, from header:aperio.MPP"
    assert told["Tiles"] == "1,200 of 3,916 on the grid, each 448 px at level 0, 112 µm"
    assert told["Encoder gets"] == "224 × 224 px uint8"
    assert told["ICC profile"] == "kept"
    assert dict(facts(replace(SLIDE, mpp=(0.25, 0.26))))["Scale"].startswith("0.25 × 0.26 µm/px")


def test_facts_of_a_volume() -> None:
    told = dict(facts(VOLUME))
    assert told["Slices"] == "32 of 96"
    assert told["Spacing"] == "5 × 0.7031 × 0.7031 mm (slices × rows × columns)"
    assert told["Plane"] == "axial, radiological display"
    assert told["Intensity"] == "lung: -1350 to 150 HU; 3 non-finite values as background"
    assert told["Missing slices"] == "2"
    assert told["Lossy"] == "yes"


@pytest.mark.parametrize(("window", "unit"), [("soft-tissue", True), ("-100,300", True), ("p2.5-p97.5", False)])
def test_hounsfield_units_are_claimed_for_windows_only(window: str, unit: bool) -> None:
    plan = replace(VOLUME, detail={"intensity": {"window": window, "low": 1.0, "high": 2.0}})
    assert dict(facts(plan))["Intensity"].endswith("HU") is unit


def test_long_lists_are_cut() -> None:
    told = dict(facts(replace(VOLUME, detail={"echo_times": list(range(40))})))
    assert told["Echo times"].endswith("11, … (40)")


def test_flags() -> None:
    assert flags(SLIDE) == []
    assert flags(replace(SLIDE, regions=make_regions([], []))) == ["0 tiles: no tissue"]
    assert flags(replace(SLIDE, regions=make_regions([], [])), tissue=True) == ["0 tiles: no tile has enough tissue"]
    small = replace(SLIDE, regions=make_regions([], []), detail={"note": "smaller than one tile"})
    assert flags(small) == ["smaller than one tile"]
    assert flags(replace(SLIDE, regions=make_regions([0, 1], 0), mpp_source="flag")) == [
        "only 2 tiles",
        "scale given by --source-mpp",
    ]
    assert flags(VOLUME, unreadable=2) == ["2 slices missing", "2 unreadable of those shown"]


@pytest.mark.parametrize(
    ("detail", "flag"),
    [
        ({"burned_in_annotation": True}, "burned-in annotation: text in the pixels"),
        ({"hounsfield": False}, "CT without Hounsfield units: percentiles instead of a window"),
        ({"hounsfield": True}, None),
        ({"missing_slices": 1}, "1 slice missing"),
        ({"gantry_tilt_degrees": 12.5}, "gantry tilt 12.5°"),
        ({"sform_qform_difference": 0.4}, "sform and qform disagree: sform taken"),
        ({"pages_left_out": 3}, "3 pages of another size left out"),
        ({"note": "smaller than one tile"}, "smaller than one tile"),
        (
            {"intensity": {"window": "p2.5-p97.5", "hint": "values look like Hounsfield units"}},
            "values look like Hounsfield units",
        ),
        ({"lossy": True, "derived": True}, None),
    ],
)
def test_what_a_reader_recorded_becomes_a_flag(detail: dict[str, object], flag: str | None) -> None:
    assert flags(replace(VOLUME, detail=detail)) == ([flag] if flag else [])  # type: ignore[arg-type]
