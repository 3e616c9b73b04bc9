"""Display orientation from affines alone."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umedfeat.readers.stacks.geometry import (
    acquired_axis,
    orientation,
    select,
    shear_degrees,
    spacings,
    stored_view,
    view_of,
)

LPS = np.array([[0.8, 0, 0, -40], [0, 0.8, 0, -60], [0, 0, 3.0, 100], [0, 0, 0, 1.0]])
ORDERS = [(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]


def stored_as(volume: np.ndarray, affine: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]):
    """The same volume (x, y, z) with its axes stored in another order and sense, and the affine that says so."""
    moved, matrix = volume.transpose(order), np.eye(4)
    matrix[:3, :3] = np.eye(3)[:, order]
    for axis, flip in enumerate(flips):
        if flip:
            moved = np.flip(moved, axis)
            matrix[:, 3] += matrix[:, axis] * (moved.shape[axis] - 1)
            matrix[:, axis] *= -1
    return moved, affine @ matrix


def shown(volume: np.ndarray, affine: np.ndarray, plane: str, acquired: int = 2) -> tuple[np.ndarray, object]:
    view = view_of(affine, volume.shape, plane, acquired)
    slices = [np.take(volume, k, axis=view.axis).T for k in view.order]
    return np.stack([view.show(s) for s in slices]), view


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return np.random.default_rng(0).random((5, 6, 4)).astype(np.float32)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_every_storage_order_shows_the_same_slices(volume, plane):
    reference, first = shown(volume, LPS, plane)
    for order, flips in ORDERS:
        slices, view = shown(*stored_as(volume, LPS, order, flips), plane)
        np.testing.assert_array_equal(slices, reference)
        np.testing.assert_allclose(view.positions, first.positions)
        np.testing.assert_allclose(view.spacing, first.spacing)
        assert view.plane == plane


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ORDERS), st.tuples(*[st.floats(-40, 40)] * 3), st.sampled_from(["axial", "coronal", "sagittal"]))
def test_oblique_volumes_too(stored, angles, plane):
    volume = np.arange(60, dtype=np.float32).reshape(3, 5, 4)
    oblique = rotation(angles) @ LPS
    reference, first = shown(volume, oblique, plane)
    slices, view = shown(*stored_as(volume, oblique, *stored), plane)
    np.testing.assert_array_equal(slices, reference)
    np.testing.assert_allclose(view.positions, first.positions, atol=1e-9)


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(4)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def test_radiological_display():
    volume = np.zeros((5, 6, 4), np.float32)
    volume[0, :, :] = 1  # patient's right
    assert (shown(volume, LPS, "axial")[0][:, :, 0] == 1).all()  # on the image's left
    assert (shown(volume, LPS, "coronal")[0][:, :, 0] == 1).all()
    assert (shown(volume, LPS, "sagittal")[0][0] == 1).all()  # and first from right to left
    volume[:] = 0
    volume[:, 0, :] = 1  # front
    assert (shown(volume, LPS, "axial")[0][:, 0] == 1).all()  # up
    assert (shown(volume, LPS, "sagittal")[0][:, :, 0] == 1).all()  # left
    assert (shown(volume, LPS, "coronal")[0][0] == 1).all()  # first
    volume[:] = 0
    volume[:, :, -1] = 1  # head
    assert (shown(volume, LPS, "coronal")[0][:, 0] == 1).all()  # up
    assert (shown(volume, LPS, "sagittal")[0][:, 0] == 1).all()
    assert (shown(volume, LPS, "axial")[0][-1] == 1).all()  # last


def test_positions_are_millimetres_along_the_normal():
    view = view_of(LPS, (5, 6, 4), "axial", 2)
    np.testing.assert_allclose(view.positions, [100, 103, 106, 109])
    assert view.step == pytest.approx(3)
    assert view.spacing == pytest.approx((0.8, 0.8))


def test_positions_of_a_stack_with_a_gap():
    origins = np.array([[-40, -60, z] for z in (100.0, 103, 112)])
    view = view_of(LPS, (5, 6, 3), "acquired", 2, origins)
    np.testing.assert_allclose(view.positions, [100, 103, 112])


def test_slices_stored_from_head_to_feet_are_shown_from_feet_to_head():
    upside_down = LPS @ np.diag([1, 1, -1, 1.0])
    np.testing.assert_array_equal(view_of(upside_down, (5, 6, 4), "axial", 2).order, [3, 2, 1, 0])


def test_gantry_tilt_is_a_shear_of_the_slice_axis_alone():
    tilted = LPS.copy()
    tilted[1, 2] = 3 * np.tan(np.radians(15))
    assert shear_degrees(tilted, 2) == pytest.approx(15)
    assert shear_degrees(LPS, 2) == pytest.approx(0)
    view = view_of(tilted, (5, 6, 4), "acquired", 2)
    np.testing.assert_allclose(view.positions, [100, 103, 106, 109])


@pytest.mark.parametrize("broken", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1.0, 1, 0, 1])])
def test_singular_affines_are_refused(broken):
    with pytest.raises(ValueError, match="singular"):
        orientation(broken)


@pytest.mark.parametrize(
    ("spacing", "shape", "declared", "axis", "why"),
    [
        ((1, 1, 1), (9, 1, 7), None, 1, "single slice"),
        ((0.8, 3, 0.8), (9, 9, 9), None, 1, "spacing"),
        ((0.5, 0.7, 0.7), (9, 9, 9), 2, 0, "spacing"),
        ((1, 1, 1), (9, 9, 9), 0, 0, "declared"),
        ((1, 2, 3), (9, 9, 9), None, 2, "largest spacing"),
        ((1, 1, 1), (64, 40, 64), None, 1, "matrix"),
        ((1, 1, 1), (60, 50, 40), None, 2, "axial (isotropic)"),
    ],
)
def test_the_acquired_axis_follows_from_physical_properties(spacing, shape, declared, axis, why):
    affine = np.diag([*map(float, spacing), 1.0])
    assert acquired_axis(affine, shape, declared) == (axis, why)
    for order, flips in ORDERS:  # and not from the order of storage
        _, moved = stored_as(np.zeros(shape, np.int8), affine, order, flips)
        stored_declared = None if declared is None else order.index(declared)
        stored_shape = tuple(shape[i] for i in order)
        assert acquired_axis(moved, stored_shape, stored_declared) == (order.index(axis), why)


def test_spacings():
    np.testing.assert_allclose(spacings(rotation((10, 20, 30)) @ LPS), [0.8, 0.8, 3.0])


def test_without_geometry_frames_stay_as_stored():
    view = stored_view(3, (2.0, 1.0))
    image = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(view.show(image), image)
    assert np.isnan(view.positions).all() and list(view.order) == [0, 1, 2]


def test_selection():
    assert list(select(5, "all")) == [0, 1, 2, 3, 4]
    assert list(select(10, "2")) == [2, 7]
    assert list(select(3, "8")) == [0, 1, 2]
    assert list(select(7, "1")) == [3]
    assert list(select(7, "every-3")) == [0, 3, 6]
    for wrong in ("none", "0", "-1", "every-0", "every-x", "every-", "1.5"):
        with pytest.raises(ValueError, match="neither"):
            select(5, wrong)
