"""Sprites: the laws of geometry, and matplotlib's point-in-polygon, judge the drawings."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path
from numpy.testing import assert_allclose, assert_array_equal

from minivae.data import Sprites, load
from minivae.data.sprites import ANGLES, ELLIPSE_AXES, HEART_RADII, POSITIONS, SCALES, SHAPES, SIZES, SQUARE_HALF_SIDE, draw
from minivae.errors import MinivaeError

SPRITES = Sprites()
SQUARE, ELLIPSE, HEART = range(3)
shapes = pytest.mark.parametrize("shape", range(3), ids=SHAPES)


def circle(n, *radii):
    t = 2 * math.pi * np.arange(n) / n
    return np.stack([radii[0] * np.cos(t), radii[1] * np.sin(t)], 1)


HALF_HEART = 64 * HEART_RADII[:, None] * np.stack([np.sin(np.linspace(0, math.pi, 61)), np.cos(np.linspace(0, math.pi, 61))], 1)
VERTICES = {  # (u, v) in pixels at scale 1
    SQUARE: SQUARE_HALF_SIDE * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]),
    ELLIPSE: circle(64, *ELLIPSE_AXES),
    HEART: np.concatenate([HALF_HEART, HALF_HEART[-2:0:-1] * [-1, 1]]),
}


def area(vertices):
    """The shoelace formula."""
    (x, y), (x1, y1) = vertices.T, np.roll(vertices, -1, 0).T
    return abs((x * y1 - x1 * y).sum()) / 2


def pixels(image):
    """(rows, columns) of the centres of the pixels that are set"""
    return np.argwhere(image[..., 0]).T + 0.5


def outline_length(image):
    on = image[..., 0] > 0
    return (on[1:] != on[:-1]).sum() + (on[:, 1:] != on[:, :-1]).sum()


def test_the_numbers_of_the_data_set():
    assert len(SPRITES) == 737_280
    assert [SPRITES.factors([0, 1, 32, 737_279])[i].tolist() for i in range(4)] == [
        [0] * 5,
        [0, 0, 0, 0, 1],
        [0, 0, 0, 1, 0],
        [2, 5, 39, 31, 31],
    ]
    assert_allclose(SCALES, [0.5, 0.6, 0.7, 0.8, 0.9, 1.0], rtol=1e-15)
    images = SPRITES.images(np.arange(0, 737_280, 4099))
    assert (images.dtype, images.shape[1:]) == (np.uint8, (64, 64, 1))
    assert np.unique(images).tolist() == [0, 255]


@given(st.lists(st.integers(0, 737_279), max_size=20))
def test_index_and_factors_are_one_number(indices):
    factors = SPRITES.factors(np.array(indices, np.int64))
    assert factors.shape == (len(indices), 5)
    assert ((factors >= 0) & (factors < SIZES)).all()
    assert SPRITES.index(factors).tolist() == indices


def test_one_image_does_not_depend_on_its_neighbours():
    indices = np.random.default_rng(0).integers(0, len(SPRITES), 3000)  # more than are drawn at a time
    images = SPRITES.images(indices)
    for i in range(0, 3000, 97):
        assert_array_equal(SPRITES.images(indices[i : i + 1])[0], images[i])
    assert SPRITES.images(np.array([], np.int64)).shape == (0, 64, 64, 1)


TIPS = [[SQUARE, 5, 5, x, y] for x, y in ((0, 7), (31, 7), (7, 30), (24, 0))]  # at 46 degrees, the farthest pixels that are ever set


def test_the_pixels_whose_centres_a_polygon_holds():
    indices = np.concatenate([SPRITES.index(TIPS), np.random.default_rng(2).integers(0, len(SPRITES), 300)])
    columns, rows = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    centres = np.stack([columns.ravel(), rows.ravel()], 1)
    for (shape, scale, orientation, x, y), image in zip(SPRITES.factors(indices), SPRITES.images(indices), strict=True):
        # the inverse of the rotation that takes the canvas to the frame of the shape
        cos, sin = math.cos(ANGLES[orientation]), math.sin(ANGLES[orientation])
        corners = SCALES[scale] * VERTICES[shape] @ np.array([[cos, -sin], [sin, cos]]) + 16 + 32 * np.array([POSITIONS[x], POSITIONS[y]])
        assert_array_equal(image[..., 0], 255 * Path(corners).contains_points(centres).reshape(64, 64))


def test_no_vertex_of_the_heart_sticks_out():
    """Between the tip and the dip, where it has corners, its radius bends by less than a third of a pixel from one vertex to the next."""
    assert abs(np.diff(HEART_RADII[1:-1], 2)).max() * 64 < 1 / 3


@shapes
def test_the_area_grows_with_the_square_of_the_scale(shape):
    """Each pixel that the outline crosses errs by less than one; over 200 places the errors of a uniform offset average out."""
    for scale in SCALES:
        place = np.random.default_rng(1).uniform(size=(3, 200))
        images = draw(shape, scale, 2 * math.pi * place[0], place[1], place[2])
        counts = (images > 0).sum(axis=(1, 2, 3))
        expected = scale**2 * area(VERTICES[shape])
        assert abs(counts - expected).max() < max(outline_length(image) for image in images) / 2
        assert abs(counts.mean() - expected) < 5 * counts.std() / math.sqrt(200)


@shapes
@pytest.mark.parametrize("axis", [3, 4])
def test_one_position_step_moves_the_centroid_by_32_31sts_of_a_pixel(shape, axis):
    """posX moves columns, posY rows.  A pixel lost or won at the edge moves the centroid by its distance over the area."""
    factors = np.tile([shape, 5, 7, 13, 9], (32, 1))
    factors[:, axis] = np.arange(32)
    rows, columns = np.array([pixels(image).mean(axis=1) for image in SPRITES.images(SPRITES.index(factors))]).T
    moved, still = (columns, rows) if axis == 3 else (rows, columns)
    assert abs(np.polyfit(np.arange(32), moved, 1)[0] - 32 / 31) < 0.005
    assert np.ptp(moved - 32 / 31 * np.arange(32)) < 0.5
    assert np.ptp(still) < 0.5
    if shape != HEART:  # whose centre is not its centroid
        assert abs(moved.mean() - 32) < 0.1


@shapes
def test_all_orientations_and_corners_lie_inside_the_canvas(shape):
    factors = np.array([[shape, 5, k, x, y] for k in range(40) for x in (0, 31) for y in (0, 31)])
    images = SPRITES.images(SPRITES.index(factors))[..., 0]
    border = np.ones((64, 64), bool)
    border[2:-2, 2:-2] = False
    assert not images[:, border].any()
    assert (images > 0).sum(axis=(1, 2)).min() > 0.9 * area(VERTICES[shape])


@given(st.sampled_from([SQUARE, ELLIPSE, HEART]), st.sampled_from([1, 2, 3]), st.floats(0, 6.28), st.floats(0.3, 1), st.data())
def test_quarter_turns(shape, quarters, angle, scale, data):
    """A turn of the shape by 90 degrees is a turn of the canvas about its centre; the square has 4 such symmetries, the ellipse 2.

    Both coordinates of a pixel's centre are rounded anew: where the outline passes through one it may fall to either side.
    """
    x, y = data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))
    turned = draw(shape, scale, angle + quarters * math.pi / 2, x, y)[0]
    for _ in range(quarters):  # the place before the turn
        x, y = 1 - y, x
    assert (np.rot90(draw(shape, scale, angle, x, y)[0], quarters) != turned).sum() <= 1
    still = (draw(shape, scale, angle, 0.5, 0.5)[0] != draw(shape, scale, angle + quarters * math.pi / 2, 0.5, 0.5)[0]).sum()
    assert (still <= 4) == (shape == SQUARE or (shape == ELLIPSE and quarters == 2))


def test_a_heart_stands_on_its_tip_and_is_its_own_mirror_image():
    image = draw(HEART, 1.0, 0.0, 0.5, 0.5)[0]
    assert_array_equal(image, image[:, ::-1])
    widths = (image[..., 0] > 0).sum(axis=1)
    widths = widths[widths > 0]
    assert widths[-1] <= 3 < widths[3]
    dip = image[..., 0].argmax(axis=0)  # the first row set in each column
    assert dip[32] > dip[27] + 2


def test_the_last_orientation_is_the_first():
    factors = np.array([[s, k, 0, x, y] for s in range(3) for k in range(6) for x in (0, 10, 31) for y in (3, 20)])
    first = SPRITES.images(SPRITES.index(factors))
    factors[:, 2] = 39
    assert_array_equal(SPRITES.images(SPRITES.index(factors)), first)


def test_the_catalogue_knows_sprites():
    data = load("sprites")
    assert data.train_images.shape == (50_000, 64, 64, 1)
    assert data.test_images.shape == (5_000, 64, 64, 1)
    assert "50,000 + 5,000 of all 737,280" in data.note
    # of 50,000 draws without replacement a third is each shape: sigma < sqrt(50,000 * 2 / 9) = 105
    assert abs(np.bincount(data.train_labels) - 50_000 / 3).max() < 5 * 105
    squares = data.test_images[data.test_labels == SQUARE]
    assert 4 * SQUARE_HALF_SIDE**2 < (squares > 0).sum(axis=(1, 2, 3)).max() < 4 * SQUARE_HALF_SIDE**2 + 40


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SPRITES.images([737_280]), "from 737280 to 737280; need 0 to 737279"),
        (lambda: SPRITES.images([-1]), "from -1 to -1"),
        (lambda: SPRITES.images([0.5]), r"float64 \(1,\); need integers"),
        (lambda: SPRITES.images(np.zeros((2, 2), int)), r"int64 \(2, 2\); need integers \(N,\)"),
        (lambda: SPRITES.index([[0, 0, 0, 0, 32]]), r"need 0 to \[2, 5, 39, 31, 31\]"),
        (lambda: SPRITES.index([[0, 0, 0, 0]]), r"\(1, 4\); need integers \(N, 5\)"),
        (lambda: draw(3, 1, 0, 0.5, 0.5), "shape runs from 3 to 3; need 0 to 2"),
        (lambda: draw(0, 1.5, 0, 0.5, 0.5), "scale runs from 1.5 to 1.5"),
        (lambda: draw(0, 1, 0, 0.5, [0.5, math.nan]), "y runs from nan to nan"),
        (lambda: draw(0.5, 1, 0, 0.5, 0.5), "need integers"),
    ],
)
def test_a_wrong_factor_is_a_sentence(call, message):
    with pytest.raises(MinivaeError, match=message):
        call()
