"""The area under the ROC curve, judged by all pairs, by scikit-learn, and by how often its interval holds the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from minivae.errors import ShapeError, UsageError
from minivae.evaluate import auroc

few = st.lists(st.integers(-3, 3), min_size=2, max_size=12)  # so that most scores tie


def by_pairs(normal, strange):
    return np.mean([(s > r) + 0.5 * (s == r) for s in strange for r in normal])


@given(few, few)
def test_it_counts_the_pairs_and_ties_by_half(normal, strange):
    found = auroc(normal, strange)
    assert_allclose(found.value, by_pairs(normal, strange), rtol=0, atol=1e-14)
    assert_allclose(found.value + auroc(strange, normal).value, 1, atol=1e-14)
    assert found.low <= found.value <= found.high
    # DeLong's structural components, as the definition has them
    beaten = [by_pairs(normal, [s]) for s in strange]
    beating = [by_pairs([r], strange) for r in normal]
    wanted = np.sqrt(np.var(beaten, ddof=1) / len(strange) + np.var(beating, ddof=1) / len(normal))
    assert_allclose(found.error, wanted, atol=1e-14)


def test_it_agrees_with_another_library():
    rng = np.random.default_rng(0)
    normal, strange = rng.normal(size=700).round(1), rng.normal(0.5, 2, 300).round(1)
    wanted = roc_auc_score(np.repeat([0, 1], [700, 300]), np.concatenate([normal, strange]))
    assert_allclose(auroc(normal, strange).value, wanted, rtol=1e-12)


def test_only_the_order_counts():
    rng = np.random.default_rng(1)
    normal, strange = rng.normal(size=50), rng.normal(1, 1, 40)
    assert auroc(np.exp(normal), np.exp(strange)) == auroc(normal, strange)


@pytest.mark.parametrize(("shift", "N", "M"), [(0.0, 60, 60), (1.0, 40, 200), (2.0, 150, 50)])
def test_the_error_and_the_interval_are_right(shift, N, M):
    """Of 2,000 pairs of samples: N(0, 1) against N(shift, 1), whose area is Phi(shift / sqrt 2)."""
    rng, truth = np.random.default_rng(int(10 * shift)), norm.cdf(shift / np.sqrt(2))
    found = [auroc(rng.normal(size=N), rng.normal(shift, 1, M)) for _ in range(2000)]
    values = np.array([f.value for f in found])
    spread = values.std()
    assert abs(values.mean() - truth) < 5 * spread / np.sqrt(2000)
    # the standard error of a standard deviation of nearly normal values is 1 / sqrt(2 n): 1.6%; that of the mean DeLong error is less
    assert abs(np.sqrt(np.mean([f.error**2 for f in found])) / spread - 1) < 5 * 0.016
    covered = np.mean([f.low <= truth <= f.high for f in found])
    assert 0.935 < covered < 0.98  # 95%, five standard errors of it below; the interval's model is wider than two Gaussians


def test_samples_that_do_not_overlap_do_not_prove_a_one():
    found = auroc([1, 2, 3], [4, 5, 6, 7])
    assert (found.value, found.error, found.high) == (1, 0, 1)
    assert 0.3 < found.low < 0.9
    assert auroc(np.arange(300), np.arange(300, 700)).low > 0.985
    assert (auroc([4, 5, 6, 7], [1, 2, 3]).low, auroc([4, 5], [1, 2]).value) == (0, 0)
    assert str(found).startswith("1.000 (95%: 0.")


@pytest.mark.parametrize(
    ("normal", "strange", "error", "words"),
    [
        ([1], [1, 2], ShapeError, r"normal scores are \(1,\); need \(N,\) with N at least 2"),
        ([1, 2], [[1, 2]], ShapeError, r"strange scores are \(1, 2\)"),
        ([1, 2], [1, np.nan], UsageError, "1 of 2 strange scores are NaN"),
    ],
)
def test_bad_input_is_told_with_its_numbers(normal, strange, error, words):
    with pytest.raises(error, match=words):
        auroc(normal, strange)
