"""Slant and thickness, judged by strokes of which they are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from minivae import ShapeError
from minivae.evaluate import slant, thickness


def stroke(shear, width, size=64, length=48, middle=None):
    """A bar of the given width that moves `shear` columns to the right, a row up; gray edges, exact by area.     -> (size, size, 1)"""
    rows = np.arange(size) + 0.5
    at = (size / 2 if middle is None else middle) + shear * (size / 2 - rows)
    left, right = at - width / 2, at + width / 2
    columns = np.arange(size)
    covered = np.clip(np.minimum(right[:, None], columns + 1) - np.maximum(left[:, None], columns), 0, 1)
    return (covered * (abs(rows - size / 2) < length / 2)[:, None])[..., None]


def test_the_slant_of_a_sheared_bar_is_its_shear():
    """Exact but for the gray pixels: the mean column of a row is that of the bar to half a pixel over a length of 48."""
    shears = np.array([-0.5, -0.25, 0.0, 0.25, 0.5])
    found = slant(np.stack([stroke(s, 3.0) for s in shears]))
    assert_allclose(found, shears, atol=0.01)
    assert_allclose(slant(stroke(0.25, 3.0, middle=20)[None]), found[3], atol=1e-9)  # wherever it stands
    assert_allclose(slant(0.3 * stroke(0.25, 3.0)[None]), found[3], atol=1e-12)  # however faint it is
    assert_allclose(slant(stroke(0.25, 3.0)[None, :, ::-1]), -found[3], atol=1e-12)


@pytest.mark.parametrize(("width", "middle"), [(1.0, 32.5), (2.0, 32.0), (3.5, 32.0), (6.0, 32.3)])
def test_the_thickness_of_an_upright_bar(width, middle):
    """The area is w L and the outline 2 L + 2 w, of which the four corners can hide a pixel each at most."""
    found = thickness(stroke(0.0, width, middle=middle)[None])[0]
    exact = 2 * width * 48 / (2 * 48 + 2 * width)
    assert exact * (1 - 1e-9) <= found <= exact * (96 + 2 * width) / (96 + 2 * width - 4)
    assert_allclose(thickness(0.2 * stroke(0.0, width, middle=middle)[None]), found, rtol=1e-9)


def test_the_thickness_of_a_leaning_bar_is_measured_across_it():
    """A horizontal cut of width w is w cos(angle) across; its two ends, and the gray pixels, make the outline longer by a tenth at most."""
    for shear in (-0.4, 0.4, 1.0):
        across = 4 / np.hypot(1, shear)
        assert_allclose(thickness(stroke(shear, 4.0, length=40)[None]), across, rtol=0.12)


def test_ink_at_the_border_has_an_outline_there():
    for side in (slice(0, 4), slice(60, 64)):
        image = np.zeros((1, 64, 64, 1))
        image[:, :, side] = 1
        assert_allclose(thickness(image), 2 * 4 * 64 / (2 * 64 + 2 * 4), rtol=0.02)


def test_no_ink_and_channels():
    assert_allclose([slant(np.zeros((1, 4, 4, 1))), thickness(np.zeros((1, 4, 4, 1)))], 0)
    gray = stroke(0.3, 3.0)[None]
    assert_allclose(slant(np.repeat(gray, 3, axis=3)), slant(gray))
    with pytest.raises(ShapeError, match=r"images are \(4, 4\); need \(N, H, W, C\)"):
        slant(np.zeros((4, 4)))
