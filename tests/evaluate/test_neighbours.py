"""Neighbours, judged by a tree that knows them, by hand, and by balls whose volumes are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial import cKDTree

from minivae.errors import ShapeError, UsageError
from minivae.evaluate import nearest, precision_coverage


@pytest.mark.parametrize("k", [1, 2, 7])
def test_distances_are_those_of_a_tree(k, monkeypatch):
    monkeypatch.setattr("minivae.evaluate.neighbours.PART", 50)  # several parts, the last one smaller
    rng = np.random.default_rng(k)
    x, y = rng.uniform(size=(23, 4, 3, 1)), rng.uniform(size=(17, 4, 3, 1))
    found, _ = cKDTree(y.reshape(17, 12)).query(x.reshape(23, 12), [k])
    assert_allclose(nearest(x, y, k), found[:, 0], rtol=1e-12)


def test_an_image_is_its_own_nearest():
    x = np.random.default_rng(0).uniform(size=(5, 28, 28, 1)).astype(np.float32)
    assert_allclose(nearest(x, x), 0, atol=1e-6)  # sqrt(the rounding of |x|^2, about 784 2^-53)


def test_precision_and_coverage_by_hand():
    """On a line the real ones at 0, 1, 3, 10 reach 1, 1, 2, 7 far to their first neighbour, and 3, 2, 3, 9 to their second."""
    real, made = np.array([[0.0], [1], [3], [10]]), np.array([[1.5], [-2], [2.5], [-1.5]])
    assert precision_coverage(made, real, 1) == (2 / 4, 2 / 4)  # 1.5 and 2.5 are near 3, 1.5 is near 1; from 10 they are 7.5 and more
    assert precision_coverage(made, real, 2) == (4 / 4, 4 / 4)
    assert precision_coverage(made[:1], real, 1) == (1, 2 / 4)
    assert precision_coverage(made[1:2], real, 2) == (1, 1 / 4)


@pytest.mark.parametrize(("N", "M", "k"), [(60, 60, 1), (60, 60, 3), (30, 90, 2), (40, 100, 5)])
def test_images_of_the_same_density_cover_what_chance_says(N, M, k):
    """A real image is left uncovered where its k nearest of all others are real: prod_i (M - i) / (M + N - i), whatever the density."""
    rng = np.random.default_rng(N + k)
    found = [precision_coverage(rng.normal(size=(N, 3)), rng.normal(size=(M, 3)), k)[1] for _ in range(200)]
    i = np.arange(1, k + 1)
    expected = 1 - np.prod((M - i) / (M + N - i))
    assert abs(np.mean(found) - expected) < 5 * np.std(found) / np.sqrt(len(found))


def test_one_of_two_kinds_made_well_is_precise_and_covers_its_half():
    rng = np.random.default_rng(0)
    kinds = np.repeat([0.0, 100.0], 200)[:, None] * np.ones(2)
    real, made = kinds + rng.normal(size=(400, 2)), rng.normal(size=(2000, 2))
    precision, coverage = precision_coverage(made, real)
    assert precision > 0.95
    assert 0.45 < coverage <= 0.5
    assert precision_coverage(made + 50, real) == (0, 0)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: nearest(x, x[:, :2]), ShapeError, "3 numbers, those to compare with 2"),
        (lambda x: nearest(x, x, 6), UsageError, "k is 6, of 5 and 5 images; need 1 <= k <= 5"),
        (lambda x: nearest(x, x, 0), UsageError, "k is 0"),
        (lambda x: precision_coverage(x, x[:3], 3), UsageError, "1 <= k <= 2"),
        (lambda x: nearest(x.astype(np.uint8), x), ShapeError, "uint8.*to_float"),
        (lambda x: nearest(x[:0], x), ShapeError, r"\(0, 3\)"),
    ],
)
def test_bad_input_is_told_with_its_numbers(call, error, words):
    with pytest.raises(error, match=words):
        call(np.zeros((5, 3)))
