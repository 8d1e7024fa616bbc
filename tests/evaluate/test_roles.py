"""What latents stand for: shares of variance judged by SciPy's analysis of variance, looks by pictures whose looks are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from minivae import ShapeError
from minivae.evaluate import appearance, correlation_ratio, readings, roles


@pytest.mark.parametrize("groups", [2, 3, 7])
def test_the_share_is_that_of_an_analysis_of_variance(groups):
    """eta^2 = F (G - 1) / (F (G - 1) + N - G)"""
    rng = np.random.default_rng(groups)
    index = rng.integers(0, groups, 200)
    z = rng.normal(size=200) + 0.5 * index
    f = stats.f_oneway(*(z[index == g] for g in range(groups))).statistic
    assert_allclose(correlation_ratio(z, index), f * (groups - 1) / (f * (groups - 1) + 200 - groups), rtol=1e-12)


def test_what_has_nothing_to_do_with_it_explains_its_chance():
    rng = np.random.default_rng(0)
    found = [correlation_ratio(rng.normal(size=50), rng.permutation(50) % 5) for _ in range(2000)]
    # a beta distribution with these parameters, of which the mean is 4 / 49
    a, b = 4 / 2, 45 / 2
    assert abs(np.mean(found) - 4 / 49) < 5 * np.sqrt(a * b / (a + b) ** 2 / (a + b + 1) / 2000)
    assert correlation_ratio(np.ones(5), np.arange(5)) == 0


def test_roles_name_the_attribute_that_a_latent_follows():
    rng = np.random.default_rng(1)
    kind, angle = rng.integers(0, 3, 3000), rng.uniform(-1, 1, 3000)
    codes = np.stack([kind == 1, np.cos(3 * angle), rng.normal(size=3000)], axis=1)  # neither is monotone
    by_class, by_angle, nothing = roles(codes, {"class": kind, "angle": angle})
    assert by_class == ("class", 1.0)
    assert by_angle.name == "angle"
    assert by_angle.share > 0.9
    assert nothing is None
    assert roles(codes, {}) == [None, None, None]
    with pytest.raises(ShapeError, match=r"codes are \(3000, 3\), attributes \{'a': \(7,\)\}"):
        roles(codes, {"a": np.zeros(7)})


def test_what_is_read_from_a_gaussian_latent_is_its_squared_correlation():
    """E[v | z] = rho z, so that R^2 = rho^2; 30 cells of equal weight lose 1.5% of it (the variance of a normal within them)."""
    rng = np.random.default_rng(2)
    v = rng.normal(size=40_000)
    for rho in (0.0, 0.5, 0.9):
        z = rho * v + np.sqrt(1 - rho**2) * rng.normal(size=len(v))
        found = readings(z[:, None], {"v": v})
        edges = stats.norm.ppf(np.arange(31) / 30)
        kept = (np.diff(-stats.norm.pdf(edges)) ** 2 * 30).sum()  # the variance of E[z | cell]
        # the error of R^2 is that of a mean of 20,000 products of squares, whose standard deviation is below 2
        assert abs(found.r2[0, 0] - rho**2 * kept) < 5 * 2 / np.sqrt(20_000)


def test_any_form_is_read_and_the_others_are_not():
    rng = np.random.default_rng(3)
    level, glasses, other = rng.integers(0, 8, 4000), rng.integers(0, 2, 4000), rng.uniform(size=4000)
    z = np.stack([(level - 3.2) ** 2, 5 - 2 * glasses, rng.normal(size=4000)], axis=1)  # eight different squares, not monotone
    found = readings(z, {"level": level, "glasses": glasses, "other": other})
    assert found.names == ("level", "glasses", "other")
    assert_allclose([found.r2[0, 0], found.r2[1, 1]], 1, atol=1e-12)
    assert_allclose([found.purity[0, 0], found.purity[1, 1]], 1, atol=1e-12)
    rest = found.r2[[0, 0, 1, 1, 2, 2, 2], [1, 2, 0, 2, 0, 1, 2]]
    # learned from nothing: 30 means of 2,000 cost (1 + 30/2000) - 1 of the variance on average
    assert -0.06 < rest.min() <= rest.max() < 0.03
    assert found.best()[:2].tolist() == [0, 1]


def test_a_mixture_of_two_factors_is_half_of_each():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 20_000))
    found = readings(np.stack([a + b, a], axis=1), {"a": a, "b": b})
    assert_allclose(found.r2[0], [0.5, 0.5], atol=0.04)
    assert found.purity[0].sum() <= 1.02
    assert found.r2[1, 1] < 0.01
    constant = readings(np.zeros((100, 1)), {"a": a[:100], "still": np.ones(100)})
    assert constant.r2[0, 0] <= 0
    assert constant.r2[0, 1] == 0
    assert (constant.purity == 0).all()


def test_what_cannot_be_read_is_a_sentence():
    with pytest.raises(ShapeError, match=r"codes are \(9, 2\), factors \{'a': \(7,\)\}"):
        readings(np.zeros((9, 2)), {"a": np.zeros(7)})
    with pytest.raises(ShapeError, match="8 of the codes of 9 images are finite"):
        readings(np.array([[0.0]] * 8 + [[np.inf]]), {"a": np.arange(9)})


def test_how_pictures_look():
    images = np.zeros((2, 9, 9, 3))
    images[0, 2, 5] = (1.0, 0.0, 0.0)
    images[1, 6:8, 1] = (0.0, 0.0, 0.5)
    found = appearance(images)
    assert_allclose(found["brightness"], [1 / 243, 1 / 243])
    assert_allclose(found["position across"], [5, 1])
    assert_allclose(found["position down"], [2, 6.5])
    assert_allclose(found["warmth"], [1 / 81, -1 / 81])
    assert_allclose(found["saturation"], [1 / 81, 1 / 81])
    assert {"slant", "thickness"} <= appearance(np.ones((2, 9, 9, 1))).keys()
