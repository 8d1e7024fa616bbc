"""Pearson's test held against SciPy's, row by row, and against simulation: how often it rejects what is right, and what is wrong."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from minivae import UsageError
from minivae.data.coloured_digits import colour_table
from minivae.evaluate.frequencies import chi_square, draws_needed, moments

TABLE = colour_table()
SHARES = np.array([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])  # test digits of each class in MNIST
TESTS = 2000


def warmer(temperature):
    q = TABLE ** (1 / temperature)
    return q / q.sum(axis=1, keepdims=True)


def swapped():
    """Of the class 0, whose two likeliest colours trade places; all others are right."""
    table = TABLE.copy()
    table[0, [0, 3]] = table[0, [3, 0]]
    return table


def rejected(answer, draws, seed):
    """The share of tests at 1% that reject `draws` draws of an answer."""
    rng = np.random.default_rng(seed)
    rows = np.round(draws * SHARES / SHARES.sum()).astype(int)
    return np.mean([chi_square(rng.multinomial(rows, answer), TABLE).p < 0.01 for _ in range(TESTS)])


def test_rows_add_up_to_what_scipy_says_of_each():
    counts = np.random.default_rng(0).multinomial([200, 300, 250], TABLE[:3])
    found = chi_square(counts, TABLE[:3])
    each = [stats.chisquare(n, n.sum() * p) for n, p in zip(counts, TABLE, strict=False)]
    assert_allclose(found.statistic, sum(one.statistic for one in each), rtol=1e-12)
    assert found.freedom == 3 * 5
    assert_allclose(chi_square(counts[:1], TABLE[:1]).p, each[0].pvalue, rtol=1e-12)


def test_right_draws_are_rejected_as_often_as_the_level_says():
    """20 of 2,000 on average, and 5 standard deviations of that; the statistic of a few draws a colour is discrete, which costs less."""
    draws = draws_needed(TABLE, warmer(1.3), SHARES)
    assert abs(rejected(TABLE, draws, 1) - 0.01) < 5 * np.sqrt(0.01 * 0.99 / TESTS)


@pytest.mark.parametrize(
    "answer", [warmer(1.3), warmer(0.8), swapped()], ids=["too undecided", "too sure", "two colours of one class swapped"]
)
def test_so_many_draws_find_a_wrong_answer_out(answer):
    draws = draws_needed(TABLE, answer, SHARES)
    assert rejected(answer, draws, 2) > 0.99 - 5 * np.sqrt(0.01 * 0.99 / TESTS)
    fewer = draws_needed(TABLE, answer, SHARES, power=0.6)
    assert fewer < draws
    expected = fewer * SHARES.min() / SHARES.sum() * TABLE.min()
    if expected > 5.5:  # enough for the statistic to be chi-square; rows are rounded
        assert rejected(answer, fewer, 3) < 0.8


def test_mean_and_variance_are_those_of_all_outcomes():
    """Seven draws of three colours: 36 outcomes, each with its multinomial probability."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    counts = np.array([(a, b, 7 - a - b) for a in range(8) for b in range(8 - a)])
    chance, statistic = stats.multinomial(7, q).pmf(counts), ((counts - 7 * p) ** 2 / (7 * p)).sum(axis=1)
    mean = chance @ statistic
    assert_allclose(moments(p, q, 7), (mean, chance @ (statistic - mean) ** 2), rtol=1e-10)
    assert_allclose(moments(p, p, 7)[0], 2, rtol=1e-12)  # the degrees of freedom


def test_an_answer_far_from_right_takes_as_many_draws_as_the_statistic_does():
    one = np.eye(6)[TABLE.argmax(axis=1)]
    draws = draws_needed(TABLE, one, SHARES)
    assert draws == np.ceil(5 / (SHARES / SHARES.sum()).min() / 0.05)
    assert rejected(one, draws + 30, 4) == 1


def test_what_would_be_a_wrong_number_is_refused():
    with pytest.raises(UsageError, match=r"row 1 expects 3 draws of 0, and below 5 p is wrong"):
        chi_square(np.array([[50, 50], [30, 0]]), np.array([[0.5, 0.5], [0.1, 0.9]]))
    with pytest.raises(UsageError, match="need whole numbers"):
        chi_square(np.array([[50.5, 49.5]]), np.array([[0.5, 0.5]]))
    with pytest.raises(UsageError, match=r"need \(C, K\), positive, rows of sum 1"):
        chi_square(np.array([[50, 50]]), np.array([[1.0, 0.0]]))
    with pytest.raises(UsageError, match="rows of sum 1"):
        draws_needed(TABLE, TABLE * 1.1, SHARES)
    with pytest.raises(UsageError, match="two of one shape"):
        draws_needed(TABLE, TABLE[:5], SHARES)
    with pytest.raises(UsageError, match="no number of draws tells them apart"):
        draws_needed(TABLE, TABLE, SHARES)
