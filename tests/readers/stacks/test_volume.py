"""The one reader of slice stacks: planes, selection, limits, faults."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from umedfeat.contract import RegionUnreadable
from umedfeat.errors import EmptyImage, NotPlanned, TooLarge, UnreadableInput, UnsupportedInput
from umedfeat.policy import ImagePolicy, IntensityPolicy, Limits, Policy, VolumePolicy
from umedfeat.readers.stacks import spool, volume
from umedfeat.readers.stacks.intensity import linear_voi
from umedfeat.readers.stacks.stack import StackFacts, volumes_of

AFFINE = np.array([[1, 0, 0, -10], [0, 1, 0, -20], [0, 0, 2.5, 50], [0, 0, 0, 1.0]])


class FakeStack:
    """(slices, rows, cols) in memory; ``bad`` slices raise."""

    def __init__(self, values, *, affine=AFFINE, bad=(), padding=None, voi=None, **facts):
        self.values, self.bad, self.padding, self.voi = values, frozenset(bad), padding, voi
        self.closed = self.asked = 0
        slices, rows, cols = values.shape[:3]
        fields = {"modality": "MR", "format": "fake", **facts}
        self.facts = StackFacts(name="fake.vol", cols=cols, rows=rows, slices=slices, affine=affine, **fields)

    def slice(self, k):
        self.asked += 1
        if k in self.bad:
            raise RegionUnreadable("broken codestream")
        return self.values[k], None if self.padding is None else self.padding[k]

    def stored_voi(self, k):
        return self.voi

    def close(self):
        self.closed += 1


OPEN: list[volume.VolumeReader] = []


def opened(*arguments) -> volume.VolumeReader:
    OPEN.append(volume.VolumeReader(*arguments))
    return OPEN[-1]


@pytest.fixture(autouse=True)
def _closed():
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(100, 20, (8, 30, 40)).astype(np.float32)


def policy(*, size=32, fit="pad", limits=None, intensity=None, **volume) -> Policy:
    return Policy(
        volume=VolumePolicy(**volume),
        image=ImagePolicy(size=size, fit=fit),
        limits=limits or Limits(),
        intensity=intensity or IntensityPolicy(),
    )


def test_a_plan_holds_every_slice_with_its_index_and_position(values):
    plan = opened(FakeStack(values), policy()).plan()
    np.testing.assert_array_equal(plan.regions["slice"], np.arange(8))
    np.testing.assert_allclose(plan.regions["position"], 50 + 2.5 * np.arange(8))
    assert (plan.width, plan.height, plan.depth) == (40, 30, 8)
    assert plan.spacing == "2.5\\1\\1"
    assert plan.dtype == "float32" and plan.shape == (32, 32)


def test_reading_gives_float_squares_without_an_eight_bit_step(values):
    reader = opened(FakeStack(values), policy(size=64))
    images = reader.read(reader.plan().regions)
    assert len(images) == 8
    for image in images:
        assert image.shape == (64, 64, 3) and image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 1
        assert len(np.unique(image)) > 1000


def test_limits_are_the_percentiles_of_the_whole_volume_whatever_is_selected(values):
    whole = opened(FakeStack(values), policy()).plan()
    one = opened(FakeStack(values), policy(slices="1")).plan()
    assert whole.prepared == one.prepared
    low, high = np.percentile(values, [2.5, 97.5])
    assert (one.prepared["low"], one.prepared["high"]) == pytest.approx((low, high), rel=1e-6)
    assert list(one.regions["slice"]) == [4]


def test_another_process_reads_the_same_without_planning(values):
    first = opened(FakeStack(values), policy())
    plan = pickle.loads(pickle.dumps(first.plan()))
    stack = FakeStack(values)
    second = opened(stack, policy(), plan.prepared)
    np.testing.assert_array_equal(second.read(plan.regions[3:4])[0], first.read(plan.regions)[3])
    assert stack.asked == 1


@pytest.mark.parametrize(("plane", "count", "spacing"), [("coronal", 30, "1\\2.5\\1"), ("sagittal", 40, "1\\2.5\\1")])
def test_reslicing_keeps_the_true_spacing(values, plane, count, spacing):
    reader = opened(FakeStack(values), policy(plane=plane))
    plan = reader.plan()
    assert len(plan.regions) == count
    assert plan.spacing == spacing
    image = reader.read(plan.regions[:1])[0]
    width = {"coronal": 40, "sagittal": 30}[plane]
    rows = np.flatnonzero(image[..., 0].any(axis=1))
    assert abs(len(rows) / 32 - 8 * 2.5 / width) < 0.1  # 20 mm high, letterboxed


def test_reslicing_shows_the_right_voxels(values):
    coronal = opened(FakeStack(values), policy(plane="coronal"))
    coronal.plan()
    np.testing.assert_array_equal(coronal.displayed(7) == 1, clipped(values, coronal)[::-1, 7, :] == 1)
    sagittal = opened(FakeStack(values), policy(plane="sagittal"))
    sagittal.plan()
    np.testing.assert_allclose(sagittal.displayed(5), clipped(values, sagittal)[::-1, :, 5], atol=1e-6)


def clipped(values, reader):
    limits = reader.plan().prepared
    return np.clip((values - np.float32(limits["low"])) / np.float32(limits["high"] - limits["low"]), 0, 1)


def test_reslicing_on_disk_in_blocks_equals_reslicing_in_memory(values, monkeypatch):
    padding = values > 150
    stack = FakeStack(values, padding=padding)
    reader = opened(stack, policy(plane="sagittal"))
    expected = reader.read(reader.plan().regions)
    monkeypatch.setattr(spool, "_IN_MEMORY", 0)
    monkeypatch.setattr(spool, "_BLOCK_BYTES", 3 * 30 * 40 * 4)
    again = opened(FakeStack(values, padding=padding), policy(plane="sagittal"))
    np.testing.assert_array_equal(again.read(again.plan().regions), expected)
    again.close()


def test_an_axis_order_where_the_acquired_axis_is_not_the_slowest(values):
    straight = opened(FakeStack(values), policy())
    rolled = AFFINE[:, [2, 0, 1, 3]]  # stored axes: slices fastest
    stack = FakeStack(np.ascontiguousarray(values.transpose(1, 2, 0)), affine=rolled, acquired_axis=0)
    moved = opened(stack, policy())
    np.testing.assert_array_equal(moved.plan().regions, straight.plan().regions)
    np.testing.assert_array_equal(moved.read(moved.plan().regions), straight.read(straight.plan().regions))


def test_tilted_and_gapped_stacks_are_read_as_acquired_but_not_resliced(values):
    tilted = AFFINE.copy()
    tilted[1, 2] = 0.5
    assert len(opened(FakeStack(values, affine=tilted), policy()).plan().regions) == 8
    with pytest.raises(UnsupportedInput, match=r"fake\.vol.*tilt"):
        opened(FakeStack(values, affine=tilted), policy(plane="coronal"))
    origins = np.array([[-10, -20, z] for z in (0, 2.5, 5, 7.5, 10, 15, 17.5, 20)])
    gapped = opened(FakeStack(values, origins=origins), policy()).plan()
    np.testing.assert_allclose(gapped.regions["position"], origins[:, 2])
    with pytest.raises(UnsupportedInput, match="evenly"):
        opened(FakeStack(values, origins=origins), policy(plane="sagittal"))
    with pytest.raises(UnsupportedInput, match="single slice"):
        opened(FakeStack(values[:1]), policy(plane="sagittal"))


def test_a_single_slice_is_a_volume(values):
    plan = opened(FakeStack(values[:1]), policy()).plan()
    assert len(plan.regions) == 1 and plan.depth == 1


def test_frames_without_geometry_keep_their_order_and_follow_the_frames_rule(values):
    reader = opened(FakeStack(values, affine=None), policy(frames="2", slices="all"))
    plan = reader.plan()
    assert list(plan.regions["slice"]) == [2, 6]
    assert np.isnan(plan.regions["position"]).all()
    assert plan.spacing == ""
    with pytest.raises(UnsupportedInput, match="orientation in the patient is unknown"):
        opened(FakeStack(values, affine=None), policy(plane="axial"))


def test_an_unreadable_slice_stands_in_its_place(values):
    reader = opened(FakeStack(values, bad=[2]), policy())
    images = reader.read(reader.plan().regions)
    assert [isinstance(image, RegionUnreadable) for image in images] == [k == 2 for k in range(8)]
    with pytest.raises(UnreadableInput, match="none of 8"):
        opened(FakeStack(values, bad=range(8)), policy()).plan()
    crossing = opened(FakeStack(values, bad=[2]), policy(plane="coronal"))
    with pytest.raises(UnreadableInput, match="slice 2"):
        crossing.read(crossing.plan().regions[:1])


def test_constant_empty_and_out_of_window_volumes_are_refused(values):
    with pytest.raises(EmptyImage, match="constant"):
        opened(FakeStack(np.zeros((3, 4, 5), np.float32)), policy()).plan()
    with pytest.raises(EmptyImage, match="padding"):
        opened(FakeStack(values, padding=np.ones(values.shape, bool)), policy()).plan()
    ct = policy(intensity=IntensityPolicy(ct_window="bone"))
    with pytest.raises(EmptyImage, match="bone"):
        opened(FakeStack(values - 5000, modality="CT"), ct).plan()


def test_one_varied_slice_is_enough_and_is_found():
    values = np.zeros((9, 4, 5), np.float32)
    values[8, 1, 1] = 80
    plan = opened(FakeStack(values, modality="CT"), policy()).plan()
    assert len(plan.regions) == 9


def test_a_constant_single_picture_is_refused_when_read():
    flat = np.full((1, 4, 5, 3), 200, np.uint8)
    with pytest.raises(EmptyImage, match="constant"):
        opened(FakeStack(flat, affine=None, colour=True), policy()).plan()


def test_nonfinite_voxels_are_background_and_counted(values):
    values[0, :3, 0] = np.nan
    values[1, 0, :2] = np.inf
    reader = opened(FakeStack(values, floating=True), policy(size=40))
    plan = reader.plan()
    assert plan.detail["intensity"]["nonfinite"] == 5
    assert (reader.displayed(0)[:3, 0] == 0).all() and (reader.displayed(1)[0, :2] == 0).all()
    windowed = opened(FakeStack(values, floating=True, modality="CT"), policy())
    assert windowed.plan().detail["intensity"]["nonfinite"] == 5


def test_ct_windows_and_a_ct_without_hounsfield_units(values):
    ct = opened(FakeStack(values, modality="CT"), policy()).plan()
    assert (ct.prepared["low"], ct.prepared["high"]) == (-160, 240)
    assert ct.detail["intensity"]["window"] == "soft-tissue"
    raw = opened(FakeStack(values, modality="CT", calibrated=False), policy()).plan()
    assert raw.detail["intensity"]["window"] == "p2.5-p97.5"


def test_the_stored_window(values):
    stored = policy(intensity=IntensityPolicy(window="file"))
    reader = opened(FakeStack(values, voi=linear_voi(90, 110)), stored)
    reader.plan()
    np.testing.assert_allclose(reader.displayed(0), np.clip((values[0] - 90) / 20, 0, 1), atol=1e-6)
    with pytest.raises(UnsupportedInput, match="no window"):
        opened(FakeStack(values), stored).plan()


def test_inverted_stacks_are_inverted_after_the_window(values):
    plain, inverted = (opened(FakeStack(values, invert=invert), policy()) for invert in (False, True))
    plain.plan(), inverted.plan()
    np.testing.assert_allclose(inverted.displayed(3), 1 - plain.displayed(3), atol=1e-6)


def test_undeclared_hounsfield_units_are_hinted_at_not_windowed(values):
    body = np.where(values > 100, -1000, 300).astype(np.float32)
    undeclared = opened(FakeStack(body, modality="unknown"), policy()).plan().detail["intensity"]
    assert "Hounsfield" in undeclared["hint"] and undeclared["window"] == "p2.5-p97.5"
    assert "hint" not in opened(FakeStack(body, modality="MR"), policy()).plan().detail["intensity"]


def test_colour_slices_keep_their_values():
    colours = np.random.default_rng(0).integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)
    reader = opened(FakeStack(colours, affine=None, colour=True), policy(size=20))
    image = reader.read(reader.plan().regions)[1]
    np.testing.assert_allclose(image, colours[1] / 255, atol=1e-6)


def test_limits_and_broken_geometry(values):
    with pytest.raises(TooLarge, match="1200 pixels"):
        opened(FakeStack(values), policy(limits=Limits(max_pixels=1000)))
    with pytest.raises(UnreadableInput, match="singular"):
        opened(FakeStack(values, affine=np.zeros((4, 4))), policy())


def test_closing_twice_is_safe(values):
    reader = opened(FakeStack(values), policy(plane="coronal"))
    reader.read(reader.plan().regions[:1])
    reader.close()
    reader.close()


def test_every_volume_of_a_four_dimensional_file_is_asked_for_by_name():
    assert list(volumes_of(1, "", "a")) == [0]
    assert list(volumes_of(1, "7", "a")) == [0]
    assert list(volumes_of(5, "3", "a")) == [3]
    assert list(volumes_of(3, "mean", "a")) == [0, 1, 2]
    for rule in ("", "all", "5", "-1", "x"):
        with pytest.raises(UnsupportedInput, match=r"a\.nii"):
            volumes_of(5, rule, "a.nii")


def test_facts_reach_the_plan(values):
    stack = FakeStack(values, detail={"vendor": "x"}, carry={"files": ["a"]}, part="ab")
    plan = opened(stack, policy()).plan()
    assert plan.detail["vendor"] == "x" and plan.prepared["stack"] == {"files": ["a"]} and plan.part == "ab"
    assert dataclasses.is_dataclass(stack.facts)


def test_pixels_before_the_plan_are_a_named_mistake(values):
    """Not a KeyError: the limits of a volume are found when it is planned, or come with ``prepared``."""
    plan = opened(FakeStack(values), policy()).plan()
    with pytest.raises(NotPlanned, match="before plan"):
        opened(FakeStack(values), policy()).read(plan.regions)
    assert len(opened(FakeStack(values), policy(), plan.prepared).read(plan.regions)) == 8
