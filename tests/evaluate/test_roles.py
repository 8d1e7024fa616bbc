"""What latents stand for: shares of variance judged by SciPy's analysis of variance, looks by pictures whose looks are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from minivae import ShapeError
from minivae.evaluate import appearance, correlation_ratio, roles


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


def test_how_pictures_look():
    images = np.zeros((2, 9, 9, 3))
    images[0, 2, 5] = (1.0, 0.0, 0.0)
    images[1, 6:8, 1] = (0.0, 0.0, 0.5)
    found = appearance(images)
    assert_allclose(found["brightness"], [1 / 243, 1 / 243])
    assert_allclose(found["position across"], [5, 1])
    assert_allclose(found["position down"], [2, 6.5])
    assert_allclose(found["warmth"], [1 / 81, -1 / 81])
    assert {"slant", "thickness"} <= appearance(np.ones((2, 9, 9, 1))).keys()
