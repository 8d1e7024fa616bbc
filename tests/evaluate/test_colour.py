"""Colourfulness by hand, and the best of k by enumeration."""

from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from minivae import ShapeError, UsageError
from minivae.evaluate.colour import best_of, colourfulness


def test_colourfulness_by_hand():
    gray = np.full((4, 4, 3), 77, np.uint8)
    assert colourfulness(gray) == 0
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255  # rg = 255, yb = 127.5 everywhere: 0.3 sqrt(255^2 + 127.5^2)
    assert_allclose(colourfulness(red), 0.3 * 255 * np.sqrt(1.25))
    halves = red.copy()
    halves[:2] = [0, 255, 0]  # rg = 255 and -255, yb = 127.5: spread 255, mean (0, 127.5)
    assert_allclose(colourfulness(halves), 255 + 0.3 * 127.5)
    assert_allclose(colourfulness(np.stack([red, halves]) / 255.0), [colourfulness(red), colourfulness(halves)])
    with pytest.raises(ShapeError, match="need"):
        colourfulness(red[..., 0])


def test_the_best_of_k_is_the_mean_over_all_choices():
    errors = np.random.default_rng(0).exponential(size=(7, 3))
    wanted = [[min(errors[list(some), j]) for some in combinations(range(7), k)] for k in range(1, 8) for j in range(3)]
    assert_allclose(best_of(errors, range(1, 8)).ravel(), [np.mean(w) for w in wanted])
    with pytest.raises(UsageError, match="counts from 1 to S"):
        best_of(errors, [8])
