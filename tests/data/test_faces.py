"""Faces: what each factor may touch, what it must not, and the laws of light and colour, judge the drawings."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minivae import Stream
from minivae.data import Faces, faces_chosen, load
from minivae.data.faces import ENDS, FACTORS, LUMA, SIZES, draw
from minivae.errors import MinivaeError

FACES = Faces()
SKIN, HAIR, LENGTH, BROWS, EYES, NOSE, MOUTH, GLASSES, AGE, SHAPE, LIGHT, SATURATION = range(12)
ALL = (0, 64, 0, 32)
# Where a factor may change the picture: rows from, to, distance from the axis from, to, in 64ths, and a mixed pixel more on each side.
REGION = {
    SKIN: (15, 59, 0, 20),
    HAIR: (6, 59, 0, 20),
    LENGTH: (28, 58, 0, 20),
    BROWS: (21, 30, 1, 15),
    EYES: (21, 36, 1, 15),  # the brows go with the eyes
    NOSE: (36, 43, 0, 5),
    MOUTH: (42, 52, 0, 7),
    GLASSES: (26, 39, 0, 16.5),
    AGE: (19, 48, 0, 15),
    SHAPE: (20, 59, 0, 16),  # brows, lids, jaw and neck
    LIGHT: ALL,
    SATURATION: ALL,
}


def random_values(n, seed):
    values = np.random.default_rng(seed).uniform(size=(n, 12))
    values[:, GLASSES] = values[:, GLASSES] > 0.5
    return values


def luma(images):
    return images.astype(np.float64) @ LUMA


def test_the_numbers_of_the_data_set():
    assert len(FACES) == math.prod(SIZES) == 2 * 8**11
    assert len(FACTORS) == len(SIZES) == len(ENDS) == 12
    assert tuple(ENDS) == FACTORS
    images = FACES.images(FACES.choose(70, Stream(0)))
    assert (images.dtype, images.shape) == (np.uint8, (70, 64, 64, 3))
    assert FACES.images(np.array([], np.int64)).shape == (0, 64, 64, 3)


@given(st.lists(st.integers(0, 2 * 8**11 - 1), max_size=20))
def test_index_and_factors_are_one_number(indices):
    factors = FACES.factors(np.array(indices, np.int64))
    assert factors.shape == (len(indices), 12)
    assert ((factors >= 0) & (factors < SIZES)).all()
    assert FACES.index(factors).tolist() == indices


@settings(max_examples=5)
@given(st.integers(0, 2**32), st.sampled_from([64, 33, 20]))
def test_a_picture_does_not_depend_on_those_drawn_with_it(seed, size):
    """Neither on their order nor on their number: more than are drawn at a time, one by one, and the other way round."""
    indices = FACES.choose(70, Stream(seed))
    images = FACES.images(indices, size)
    assert_array_equal(FACES.images(indices[::-1], size)[::-1], images)
    for i in (0, 63, 64, 69):
        assert_array_equal(FACES.images(indices[i : i + 1], size)[0], images[i])


@pytest.mark.parametrize("factor", range(12), ids=FACTORS)
def test_a_factor_changes_the_picture_where_it_should_and_nowhere_else(factor):
    """Moved from one end to the other, and by one of its steps, in 40 faces of which all else is random."""
    low = random_values(40, factor)
    low[:, factor] = 0
    if factor in (BROWS, EYES):  # hidden under the frames they would seem to stand still
        low[:, GLASSES] = 0
    high = low.copy()
    high[:, factor] = 1
    changed = (draw(low) != draw(high)).any(axis=-1)  # (40, 64, 64)
    assert changed.any(axis=(1, 2)).all()
    top, bottom, inner, outer = REGION[factor]
    centres = np.arange(64) + 0.5
    u = abs(centres - 32)
    allowed = ((centres > top - 1) & (centres < bottom + 1))[:, None] & ((u > inner - 1) & (u < outer + 1))
    assert not changed[:, ~allowed].any()
    for k in range(SIZES[factor] - 1):
        low[:, factor], high[:, factor] = k / (SIZES[factor] - 1), (k + 1) / (SIZES[factor] - 1)
        assert (draw(low) != draw(high)).any(axis=(1, 2, 3)).all(), k


def test_the_eyes_leave_the_mouth_alone():
    values = random_values(30, 5)
    apart = values.copy()
    apart[:, EYES] = 1 - apart[:, EYES]
    assert_array_equal(draw(values)[:, 40:], draw(apart)[:, 40:])


def test_all_but_the_light_is_symmetric_and_light_from_the_other_side_is_the_mirror_image():
    values = random_values(30, 6)
    mirrored = values.copy()
    mirrored[:, LIGHT] = 1 - mirrored[:, LIGHT]
    for size in (64, 31):
        # 1 - light is rounded, so that a byte may fall to the other side of a half
        difference = draw(values, size)[:, :, ::-1].astype(int) - draw(mirrored, size)
        assert abs(difference).max() <= 1
    values[:, LIGHT] = 0.5
    images = draw(values)
    assert_array_equal(images, images[:, :, ::-1])


def test_light_falls_from_where_it_is_said_to():
    """On the background, which is the same everywhere: bytes fall from the one side to the other, or rise."""
    values = random_values(10, 7)
    for end, sign in ((0, -1), (1, 1)):
        values[:, LIGHT] = end
        row = luma(draw(values)[:, 2])
        assert (sign * (row[:, -1] - row[:, 0]) > 20).all()
        assert (sign * np.diff(row, axis=1) >= 0).all()


def test_lighter_skin_is_lighter():
    """On the chin's and the forehead's bare skin, for all other factors: never darker, and 40 steps apart by more than rounding."""
    for seed in range(3):
        values = np.repeat(random_values(1, seed), 41, axis=0)
        values[:, SKIN] = np.linspace(0, 1, 41)
        values[:, AGE] = 0
        for rows, columns in ((slice(50, 51), slice(30, 34)), (slice(22, 23), slice(31, 33))):
            light = luma(draw(values)[:, rows, columns]).mean(axis=(1, 2))
            assert (np.diff(light) > 0).all()


def test_without_saturation_all_is_gray_and_the_luma_stays():
    values = random_values(50, 8)
    coloured = draw(values)
    values[:, SATURATION] = 0
    gray = draw(values)
    assert np.ptp(gray.astype(int), axis=-1).max() <= 1
    # each of the three bytes is rounded by half a step
    assert abs(luma(gray) - luma(coloured)).max() <= 1.001
    spread = [np.ptp(draw(np.where(np.arange(12) == SATURATION, s, values)).astype(int), axis=-1).mean() for s in np.linspace(0, 1, 8)]
    assert (np.diff(spread) > 1).all()


def test_long_hair_covers_more_and_glasses_are_seen_on_every_skin():
    values = random_values(20, 9)
    values[:, [HAIR, SATURATION, LIGHT]] = 0, 1, 0.5
    lengths = []
    for length in np.linspace(0, 1, 8):
        values[:, LENGTH] = length
        lengths.append((luma(draw(values)[:, :, 12:16]) < 40).sum(axis=(1, 2)))  # black hair at the left of the face
    assert (np.diff(lengths, axis=0) >= 0).all()
    assert (np.diff(lengths[3:], axis=0) > 5).all()  # below the ears
    values[:, SKIN], values[:, GLASSES] = 1, 0
    bare = luma(draw(values))
    values[:, GLASSES] = 1
    worn = luma(draw(values))
    assert ((bare - worn) > 60).sum(axis=(1, 2)).min() > 60  # frames on light skin
    values[:, SKIN] = 0
    dark = luma(draw(values))
    values[:, GLASSES] = 0
    assert ((dark - luma(draw(values))) > 40).sum(axis=(1, 2)).min() > 60  # lenses on dark skin


def test_any_size_is_the_same_face():
    """A picture of 128 pixels a side, averaged over squares of 2x2, is that of 64 but for pixels that two outlines share."""
    values = random_values(20, 10)
    fine = draw(values, 128).reshape(20, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    error = abs(fine - draw(values))
    assert error.mean() < 1
    assert np.quantile(error, 0.99) < 16
    assert np.sqrt(((draw(values, 16) - fine.reshape(20, 16, 4, 16, 4, 3).mean(axis=(2, 4))) ** 2).mean()) < 12


def test_the_catalogue_knows_faces():
    train, test = faces_chosen()
    assert len(np.unique(np.concatenate([train, test]))) == 22_000
    factors = FACES.factors(train)
    for values, size in zip(factors.T, SIZES, strict=True):
        sigma = math.sqrt(20_000 / size * (1 - 1 / size))
        assert abs(np.bincount(values, minlength=size) - 20_000 / size).max() < 5 * sigma


@pytest.mark.slow
def test_the_data_set_is_what_its_indices_draw():
    data = load("faces")
    train, test = faces_chosen()
    assert (data.train_images.shape, data.test_images.shape) == ((20_000, 64, 64, 3), (2_000, 64, 64, 3))
    assert_array_equal(data.train_images[[0, 19_999]], FACES.images(train[[0, 19_999]]))
    assert_array_equal(data.test_images[7:9], FACES.images(test[7:9]))
    assert_array_equal(data.test_labels, FACES.factors(test)[:, GLASSES])
    assert tuple(data.test_factors) == FACTORS
    assert "20,000 + 2,000 of all 17,179,869,184" in data.note


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FACES.images([2 * 8**11]), "from 17179869184 to 17179869184; need 0 to 17179869183"),
        (lambda: FACES.images([-1]), "from -1 to -1"),
        (lambda: FACES.images([0.5]), r"float64 \(1,\); need integers"),
        (lambda: FACES.factors(np.zeros((2, 2), int)), r"int64 \(2, 2\); need integers \(N,\)"),
        (lambda: FACES.index([[8] + [0] * 11]), "need 0 to "),
        (lambda: FACES.index([[0] * 11]), r"\(1, 11\); need integers \(N, 12\)"),
        (lambda: draw(np.zeros((3, 5))), r"float64 \(3, 5\); need numbers \(N, 12\)"),
        (lambda: draw(np.full((1, 12), 1.5)), "skin runs from 1.5 to 1.5; need 0 to 1"),
        (lambda: draw(np.array([[0.0] * 11 + [math.nan]])), "saturation runs from nan to nan"),
        (lambda: draw(np.zeros((1, 12)), 4), "size is 4; need a whole number of pixels from 8 up"),
        (lambda: draw(np.zeros((1, 12)), 32.0), "size is 32.0"),
    ],
)
def test_a_wrong_factor_is_a_sentence(call, message):
    with pytest.raises(MinivaeError, match=message):
        call()
