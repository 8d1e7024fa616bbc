"""Colours, judged by scikit-image, by the corners of the cube, by the CIE's other formula for dark colours, and by round trips."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chisquare
from skimage.color import lab2rgb, rgb2lab, rgb2xyz

from minivae import Stream
from minivae.data import colour
from minivae.data.colour import coloured, into_gamut, lab_of_rgb, lightness_and_chroma, lightness_of_gray, rgb_of_lab
from minivae.data.coloured_digits import colour_table, coloured_digits, palette
from minivae.errors import DataError, ShapeError, UsageError

RGB = np.random.default_rng(0).uniform(size=(20_000, 3))
DARK = RGB * 0.1  # where L* is a line


def test_lab_is_that_of_scikit_image():
    """Where no channel is in the dark: there scikit-image has the CIE's constants of 1986, 0.008856 and 7.787, which are rounded."""
    light = (rgb2xyz(RGB) / colour.WHITE > 0.00886).all(axis=1)
    assert light.mean() > 0.9
    assert abs(lab_of_rgb(RGB) - rgb2lab(RGB))[light].max() < 1e-9
    assert abs(rgb_of_lab(lab_of_rgb(RGB)) - lab2rgb(rgb2lab(RGB))).max() < 1e-6


def test_in_the_dark_it_differs_from_scikit_image_by_its_rounding_alone(monkeypatch):
    """|(6/29)^-2 / 3 - 7.787| t, t < 0.00886, is 3.3e-7 at most of each f, and b* is 200 (f - f), a* 500 (f - f)."""
    assert abs(lab_of_rgb(DARK) - rgb2lab(DARK)).max() < 500 * 2 * 3.4e-7
    rounded = math.sqrt(1 / (3 * 7.787))  # 7.787 in the place of (29/6)^2 / 3; the joint is then at 0.00886 too
    monkeypatch.setattr(colour, "JOINT", rounded)
    assert abs(lab_of_rgb(DARK) - rgb2lab(DARK)).max() < 1e-9


def test_dark_lightness_by_the_other_formula():
    """L* = (29/3)^3 Y, CIE 15:2004, for Y up to (6/29)^3; and there both branches meet, in value and in slope."""
    y = np.linspace(0, (6 / 29) ** 3, 50)
    xyz = y[:, None] * colour.WHITE
    assert_allclose(colour.lab_of_xyz(xyz)[:, 0], (29 / 3) ** 3 * y, atol=1e-12)
    h = 1e-7
    around = colour.lab_of_xyz(((6 / 29) ** 3 + np.array([-h, 0, h]))[:, None] * colour.WHITE)[:, 0]
    assert_allclose((around[2] - around[1]) / (around[1] - around[0]), 1, rtol=1e-4)


@pytest.mark.parametrize("rgb", [RGB, DARK, np.eye(3), 1 - np.eye(3), np.array([[0.0, 0, 0], [1, 1, 1]])])
def test_there_and_back(rgb):
    assert_allclose(rgb_of_lab(lab_of_rgb(rgb)), rgb, atol=1e-7)  # the standard's 0.04045 and 0.0031308 are rounded: 2e-8 at the joint
    shown = into_gamut(lab_of_rgb(rgb))
    assert shown.outside == 0
    assert_allclose(shown.rgb, rgb, atol=1e-7)


def test_bytes_come_back():
    every = np.random.default_rng(1).integers(0, 256, (50, 50, 3), np.uint8)
    assert_array_equal(np.rint(255 * into_gamut(lab_of_rgb(every)).rgb), every)
    assert lab_of_rgb(every).dtype == np.float64


LOST = np.array([[50.0, 100, 0], [97, -20, 90], [30, 0, -120], [5, 40, 40], [60, -110, 60]])


def test_what_srgb_lacks_keeps_its_lightness_and_hue_and_loses_chroma():
    found = into_gamut(np.concatenate([LOST, lab_of_rgb(RGB[:5])]))
    assert found.outside == 0.5
    assert found.rgb.min() >= 0
    assert found.rgb.max() <= 1
    lab = rgb2lab(found.rgb[:5])
    assert_allclose(lab[:, 0], LOST[:, 0], atol=0.02)  # what the tolerance of 1e-4 of a channel is worth
    hues = np.arctan2(LOST[:, 2], LOST[:, 1]), np.arctan2(lab[:, 2], lab[:, 1])
    assert_allclose(*hues, atol=0.01)
    chroma = np.hypot(lab[:, 1], lab[:, 2]), np.hypot(LOST[:, 1], LOST[:, 2])
    assert (chroma[0] < chroma[1]).all()
    more = lab * [1, 1.01, 1.01]  # it is the edge: one per cent more chroma is outside
    assert (abs(rgb_of_lab(more) - 0.5).max(axis=1) > 0.5 + colour.TOLERANCE).all()
    clipped = np.clip(rgb_of_lab(LOST), 0, 1)  # the usual way, which moves lightness
    assert abs(rgb2lab(clipped)[:, 0] - LOST[:, 0]).max() > 3


def test_no_lightness_beyond_white():
    with pytest.raises(UsageError, match=r"L\* runs from 50 to 120; need 0 to 100"):
        into_gamut([[50.0, 0, 0], [120, 0, 0]])
    with pytest.raises(ShapeError, match="three numbers"):
        lab_of_rgb(np.zeros((4, 2)))


def test_lightness_of_gray_is_that_of_the_gray_colour():
    gray = np.arange(256, dtype=np.uint8)
    assert_allclose(100 * lightness_of_gray(gray), rgb2lab(np.stack([gray] * 3, axis=-1))[:, 0], atol=2e-4)


def test_an_image_is_its_lightness_and_its_chroma():
    """Of one colour each, so that the middles of blocks and all between have it."""
    images = np.broadcast_to(RGB[:6, None, None], (6, 8, 12, 3))
    lightness, chroma = lightness_and_chroma(images, 4)
    assert (lightness.shape, chroma.shape) == ((6, 8, 12, 1), (6, 2, 3, 2))
    assert_allclose(coloured(lightness, chroma).rgb, images, atol=1e-5)
    assert coloured(lightness, chroma[None, ::-1]).rgb.shape == (1, 6, 8, 12, 3)
    with pytest.raises(ShapeError, match="multiples of 5"):
        lightness_and_chroma(images, 5)


def test_chroma_is_a_mean_over_blocks_and_a_ramp_stays_one():
    lab = np.zeros((1, 4, 4, 3))
    lab[..., 0], lab[..., 1] = 50, [0, 10, 20, 30]
    _, chroma = lightness_and_chroma(rgb_of_lab(lab))
    assert_allclose(chroma[0, :, :, 0] * colour.CHROMA, [[5, 25], [5, 25]], atol=1e-4)
    back = lab_of_rgb(coloured(lab[..., :1] / 100, chroma).rgb)
    assert_allclose(back[0, 0, :, 1], [5, 10, 20, 25], atol=1e-3)  # straight between 5 at 0.5 and 25 at 2.5


# digits


IMAGES = np.random.default_rng(2).integers(0, 256, (5000, 4, 4, 1), np.uint8)
LABELS = np.arange(5000) % 10


def test_a_digit_tells_nothing_of_its_colour():
    digits = coloured_digits(IMAGES, LABELS, Stream(0))
    other = coloured_digits(IMAGES, LABELS, Stream(1))
    assert (digits.colour != other.colour).mean() > 0.5
    assert_array_equal(digits.lightness, other.lightness)
    shown = coloured(np.ones((6, 2, 2, 1)) * 0.7, np.broadcast_to(palette()[:, None, None] / colour.CHROMA, (6, 1, 1, 2)))
    assert shown.outside == 0
    assert_allclose(rgb2lab(shown.rgb)[..., 0], 70, atol=1e-6)


def test_the_chroma_is_that_of_the_colour_times_the_lightness():
    digits = coloured_digits(IMAGES[:20], LABELS[:20], Stream(0))
    lab = rgb2lab(np.repeat(IMAGES[:20], 3, axis=-1))
    s = lab[..., 0].reshape(20, 2, 2, 2, 2).mean(axis=(2, 4)) / 100
    wanted = s[..., None] * palette()[digits.colour][:, None, None] / 110
    assert_allclose(digits.chroma, wanted, atol=1e-6)
    assert_allclose(digits.lightness[..., 0], 0.7 * lab[..., 0] / 100, atol=1e-5)


def test_colours_come_as_the_table_says():
    table = colour_table()
    assert_allclose(table.sum(axis=1), 1)
    assert_allclose(-(table * np.log(table)).sum(axis=1), 1.3069, atol=5e-5)
    assert_array_equal(table.argmax(axis=1), np.arange(10) % 6)
    colours = coloured_digits(IMAGES, LABELS, Stream(3)).colour
    for c in range(10):
        assert chisquare(np.bincount(colours[c == LABELS], minlength=6), 500 * table[c]).pvalue > 1e-4


def test_errors_of_digits():
    with pytest.raises(UsageError, match="take less chroma"):
        palette(6, 70, 60)
    with pytest.raises(DataError, match="labels run from 0 to 9, the table has 3 classes"):
        coloured_digits(IMAGES, LABELS, Stream(0), colour_table(3))
    with pytest.raises(UsageError, match="rows of sum 1"):
        coloured_digits(IMAGES, LABELS, Stream(0), np.ones((10, 6)))
    with pytest.raises(ShapeError, match="H and W even"):
        coloured_digits(IMAGES[:, 1:], LABELS, Stream(0))
