"""Histograms of directions: ramps by hand, a quarter turn, contrast, and that no length is lost between cells."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minivae import ShapeError, UsageError
from minivae.data.oriented import PART, oriented_gradients, shares

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 1), np.uint8)


@pytest.mark.parametrize(("right", "down", "bin"), [(1, 0, 0), (1, 1, 1), (0, 1, 2), (-1, 0, 4), (0, -1, 6), (1, -1, 7)])
def test_a_ramp_has_one_direction(right, down, bin):
    down_by, right_by = np.mgrid[:16, :16]
    ramp = (120 + 3 * (right * right_by + down * down_by))[None, ..., None].astype(np.uint8)
    inner = oriented_gradients(ramp)[0, 1:3, 1:3]  # the outer cells see the zeros around the picture
    assert (inner[..., bin] > 0).all()
    assert_allclose(np.delete(inner, bin, axis=-1), 0, atol=2e-3)  # sqrt of rounding: 1e-6 of the length


def test_between_two_directions_both_have_a_part():
    """The direction 3/8 of a step from right by down: 5/8 and 3/8 of the length, of which the square roots are taken."""
    down_by, right_by = np.mgrid[:16, :16]
    angle = 2 * np.pi / 8 * 3 / 8
    ramp = (np.cos(angle) * right_by + np.sin(angle) * down_by)[None, ..., None] + 20
    inner = oriented_gradients(ramp)[0, 1, 1]
    assert_allclose(inner[1] ** 2 / inner[0] ** 2, 3 / 5, rtol=1e-4)


def test_a_quarter_turn_turns_cells_and_directions():
    found = oriented_gradients(np.rot90(IMAGES, axes=(1, 2)))  # what rose to the right rises up, two directions of eight on
    assert_allclose(found, np.roll(np.rot90(oriented_gradients(IMAGES), axes=(1, 2)), -2, axis=-1), atol=1e-3)


def test_contrast_does_not_count():
    found = oriented_gradients(IMAGES)
    assert found.shape == (5, 4, 4, 8)
    assert_allclose(oriented_gradients(IMAGES / 510), found, atol=1e-4)
    assert_allclose((found**4).mean(axis=(1, 2, 3)), 1, rtol=1e-4)
    assert_array_equal(oriented_gradients(np.zeros((1, 8, 8, 1), np.uint8)), 0)


def test_a_pixel_is_shared_among_the_nearest_cells():
    each = shares(12, 4)
    assert_allclose(each.sum(axis=0)[2:-2], 1)  # but before the first cell's middle and behind the last one's
    assert_allclose(each[1], [0, 0, 0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125, 0, 0])


def test_parts_are_as_the_whole():
    many = np.resize(IMAGES, (PART + 3, 16, 16, 1))
    assert_array_equal(oriented_gradients(many)[PART:], oriented_gradients(many[PART:]))


def test_other_shapes_are_refused():
    with pytest.raises(ShapeError, match="cell is 5; need"):
        oriented_gradients(IMAGES, cell=5)
    with pytest.raises(ShapeError, match=r"images are \(5, 16, 16\)"):
        oriented_gradients(IMAGES[..., 0])
    with pytest.raises(UsageError, match="bins is 1"):
        oriented_gradients(IMAGES, bins=1)
