"""Neighbours, judged by a tree that knows them, by hand, and by balls whose volumes are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial import cKDTree

from minivae.errors import ShapeError, UsageError
from minivae.evaluate import nearest, precision_recall


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


def test_precision_and_recall_by_hand():
    """k = 1, on a line: the real ones at 0, 1, 3 reach 1, 1 and 2 far; the made ones at 0.5, 4.9, 5.2 reach 4.4, 0.3, 0.3."""
    real, made = np.array([[0.0], [1], [3]]), np.array([[0.5], [4.9], [5.2]])
    assert precision_recall(made, real, 1) == (2 / 3, 1)  # 5.2 is out of reach of 3; all of 0, 1, 3 are within 4.4 of 0.5
    assert precision_recall(real, made, 1) == (1, 2 / 3)
    assert precision_recall(made[1:], real, 1) == (1 / 2, 0)


def test_half_of_the_kinds_made_well_is_precise_and_half_recalled():
    rng = np.random.default_rng(0)
    kinds = np.repeat([0.0, 100.0], 200)[:, None] * np.ones(2)
    real, made = kinds + rng.normal(size=(400, 2)), rng.normal(size=(300, 2))
    precision, recall = precision_recall(made, real)
    assert precision > 0.9
    assert 0.45 < recall <= 0.5
    assert precision_recall(made + 50, real) == (0, 0)


def test_shares_are_those_of_the_balls_that_a_tree_finds(monkeypatch):
    monkeypatch.setattr("minivae.evaluate.neighbours.PART", 1000)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(500, 2)), rng.uniform(size=(400, 2))
    for k in (1, 3):
        reach = cKDTree(y).query(y, [k + 1])[0][:, 0]
        back = cKDTree(x).query(x, [k + 1])[0][:, 0]
        apart = np.linalg.norm(x[:, None] - y, axis=2)
        assert precision_recall(x, y, k) == ((apart <= reach).any(axis=1).mean(), (apart <= back[:, None]).any(axis=0).mean())


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: nearest(x, x[:, :2]), ShapeError, "3 numbers, those to compare with 2"),
        (lambda x: nearest(x, x, 6), UsageError, "k is 6, of 5 and 5 images; need 1 <= k <= 5"),
        (lambda x: nearest(x, x, 0), UsageError, "k is 0"),
        (lambda x: precision_recall(x, x[:3]), UsageError, "1 <= k <= 2"),
        (lambda x: nearest(x.astype(np.uint8), x), ShapeError, "uint8.*to_float"),
        (lambda x: nearest(x[:0], x), ShapeError, r"\(0, 3\)"),
    ],
)
def test_bad_input_is_told_with_its_numbers(call, error, words):
    with pytest.raises(error, match=words):
        call(np.zeros((5, 3)))
