"""A tree against the analysis of variance, an exhaustive search, and functions that it must and must not learn."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from minivae import Stream
from minivae.evaluate.forest import BINS, Forest, bootstraps, cuts, grow

GRID = np.array(list(itertools.product(range(4), range(8), range(3))))


def test_an_additive_functions_importances_are_its_variances():
    """On a full grid a split on one variable says nothing about the others: each is credited with the squares that it contributes."""
    parts = [np.array([0.0, 3.0, 1.0, 7.0])[GRID[:, 0]], 0.5 * GRID[:, 1], 0 * GRID[:, 2]]
    tree = grow(GRID, sum(parts)[:, None], np.ones(len(GRID)), 10, 1)
    assert_allclose(tree.importance, [len(GRID) * part.var() for part in parts], rtol=1e-12, atol=1e-9)
    assert_allclose(tree.predict(GRID)[:, 0], sum(parts), rtol=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 4))
def test_one_split_is_the_best_of_all(seed, features, targets):
    """Weights are repetitions: the judge searches all features and thresholds over the repeated rows."""
    rng = np.random.default_rng(seed)
    bins, y, weight = rng.integers(0, 4, (12, features)), rng.normal(size=(12, targets)), rng.integers(0, 3, 12)
    weight[:2] = 1
    tree = grow(bins, y, weight * 1.0, 1, 2)
    repeated, values = np.repeat(bins, weight, axis=0), np.repeat(y, weight, axis=0)

    def squares(chosen):
        return ((values[chosen] - values[chosen].mean(axis=0)) ** 2).sum() if chosen.any() else 0.0

    whole = squares(np.ones(len(values), bool))
    best = 0.0
    for k, threshold in itertools.product(range(features), range(4)):
        left = repeated[:, k] <= threshold
        if min(left.sum(), (~left).sum()) >= 2:
            best = max(best, whole - squares(left) - squares(~left))
    assert_allclose(tree.importance.sum(), best, rtol=1e-9, atol=1e-8 * whole)
    if best:
        left = bins[:, tree.feature[0]] <= tree.threshold[0]
        for side in (left, ~left):
            mean = np.average(y[side], axis=0, weights=weight[side])
            assert_allclose(tree.predict(bins)[side], np.broadcast_to(mean, (side.sum(), targets)), rtol=1e-9, atol=1e-12)


def test_no_leaf_is_lighter_than_allowed():
    rng = np.random.default_rng(0)
    bins, y = rng.integers(0, 50, (300, 4)), rng.normal(size=(300, 1))
    for least in (1, 7, 40):
        tree = grow(bins, y, np.ones(300), 12, least)
        _, counts = np.unique(tree.predict(bins), return_counts=True)
        assert counts.min() >= least
        assert (counts.min() < 2 * least) or least == 1
    assert not grow(bins, y * 0 + 5, np.ones(300), 5, 1).importance.any()
    assert (grow(bins, y * 0 + 5, np.ones(300), 5, 1).predict(bins) == 5).all()


def test_cuts_are_between_values_or_quantiles():
    few = np.array([3.0, 1.0, 1.0, 2.0])
    assert cuts(few).tolist() == [1, 2]
    assert np.searchsorted(cuts(few), few).tolist() == [2, 0, 0, 1]
    many = np.random.default_rng(0).lognormal(size=6400)
    sizes = np.bincount(np.searchsorted(cuts(many), many))
    assert len(sizes) == BINS
    assert sizes.min() >= 99
    assert sizes.max() <= 101
    assert len(cuts(np.zeros(10))) == 0


def test_a_forest_learns_a_curve_that_no_line_follows():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4000, 3))
    y = np.stack([x[:, 0] ** 2, np.sign(x[:, 0] * x[:, 1])], axis=1)
    forest = Forest(x[:3000], y[:3000], bootstraps(Stream(0), 10, 3000))
    error = ((forest.predict(x[3000:]) - y[3000:]) ** 2).mean(axis=0) / y.var(axis=0)
    assert error.max() < 0.1
    assert forest.importance[2] < 0.02
    assert_allclose(forest.importance.sum(), 1)
    noisy = y[:3000] + rng.normal(size=(3000, 2))
    one_tree, many = (Forest(x[:3000], noisy, bootstraps(Stream(0), trees, 3000)) for trees in (1, 20))
    off = [((f.predict(x[3000:]) - y[3000:]) ** 2).mean() for f in (one_tree, many)]
    assert off[1] < off[0] / 2  # trees err differently: their mean errs less


def test_a_bootstrap_is_a_poisson_number_of_each_example():
    weights = bootstraps(Stream(0), 5, 10_000)
    assert (weights.sum(axis=1) == 10_000).all()
    shares = [(weights == k).mean() for k in range(3)]
    assert_allclose(shares, np.exp(-1) / np.array([1, 1, 2]), atol=5 / np.sqrt(50_000))
    assert (weights[0] != weights[1]).any()
