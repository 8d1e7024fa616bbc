"""A diffusion that starts from what each pixel tells by itself: that posterior by enumeration, its bound on independent pixels, which is
their entropy, and the bound's terms."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minivae as mv
from minivae import Stream, UsageError
from minivae.distributions import level_moments
from minivae.evaluate import layer_costs
from minivae.models import Diffusion, level_frequencies
from minivae.models.diffusion import LEAST, by_itself, scales

from .test_diffusion import VARIANCE, Exact, exact_terms


def enumerated(z, a, s, frequency):
    """E and Var of y given z, one number, by Bayes' rule."""
    values = [2 * k / (len(frequency) - 1) - 1 for k in range(len(frequency))]
    log_joint = np.array([math.log(p) - 0.5 * ((z - a * y) / s) ** 2 for p, y in zip(frequency, values, strict=True)])
    p = np.exp(log_joint - np.logaddexp.reduce(log_joint))
    mean = sum(w * y for w, y in zip(p, values, strict=True))
    return mean, sum(w * (y - mean) ** 2 for w, y in zip(p, values, strict=True))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("levels", [2, 7, 256])
def test_what_a_pixel_tells_by_itself_is_bayes_rule(levels, dtype):
    """float32 runs in a kernel that looks at the levels near z alone.  A level far from z / a is known to 1e-7 / s of its sd."""
    rng = np.random.default_rng(levels)
    frequency = rng.dirichlet(np.full(levels, 0.3)) + 1e-4
    frequency /= frequency.sum()
    for g in (-13.3, -8.0, -3.0, 0.0, 5.0):
        a, s = scales(g)
        y = 2 * rng.integers(0, levels, (3, 6)) / (levels - 1) - 1
        z = (a * y + s * rng.normal(size=y.shape)).astype(dtype)
        z[0, 0] = 3.0  # beyond every level: as a sampler may come to
        ones = np.ones(3, dtype)
        mean, variance = level_moments(z, a * ones, s * ones, np.log(frequency).astype(dtype))
        expected = np.vectorize(lambda z, a=a, s=s: enumerated(z, a, s, frequency))(z.astype(float))
        unit = 1e-9 if dtype == np.float64 else 1e-5 + 4e-7 * a / s
        assert_allclose(mean, expected[0], atol=unit)
        assert_allclose(variance, expected[1], atol=unit)


def test_the_bound_of_independent_pixels_is_their_entropy():
    """An untrained network says 0, and what is left is exact: the bound exceeds the entropy by what T layers cost, whose squared errors
    expm1(d) / d weights too high by d / 2, d = 12 / T.  Without the frequencies, an untrained network is far from it."""
    frequency, layers = np.array([0.5, 0.05, 0.1, 0.02, 0.33]), 1000
    rng = np.random.default_rng(0)
    images = rng.choice(5, size=(20, 1000, 4, 3, 1), p=frequency) / 4
    entropy = -12 * (frequency * np.log(frequency)).sum()
    model = Diffusion((4, 3, 1), Stream(0), hidden=(4,), levels=5, frequencies=frequency, low=-7.0)
    # the layers of a batch are spread evenly: its mean is known far better than one image's bound
    found = [layer_costs(model, part.astype(np.float32), Stream(n), 2, layers, batch=1000).bound.mean() for n, part in enumerate(images)]
    error = np.std(found) / math.sqrt(20)
    mean_y = (frequency * np.linspace(-1, 1, 5)).sum()
    a, _ = scales(model.high)
    cost_of_layers = entropy * (model.high - model.low) / layers / 2 + 12 * 0.5 * (a * mean_y) ** 2  # the last: p(z_1) has no mean
    assert error < 0.07  # of 14 nats
    assert abs(np.mean(found) - entropy - cost_of_layers) < 5 * error
    plain = layer_costs(Diffusion((4, 3, 1), Stream(0), hidden=(4,), levels=5), images[0].astype(np.float32), Stream(1))
    assert plain.bound.mean() > 1.5 * entropy


def test_the_terms_of_gaussian_data_and_their_sum():
    n, layers = 50_000, 1000
    x = math.sqrt(VARIANCE) * np.random.default_rng(0).normal(size=(n, 1))
    costs = layer_costs(Exact(), x, Stream(1), draws=2, layers=layers, batch=n)
    prior, middle, reconstruction = exact_terms(layers)
    for found, expected in ((costs.prior, prior), (costs.layers.mean(axis=1), middle), (costs.reconstruction, reconstruction)):
        assert abs(found.mean() - expected) < 5 * found.std() / math.sqrt(n)
    edges, nats, errors = costs.by_noise(10)
    assert_allclose(nats.sum(), costs.layers.mean(), rtol=1e-9)
    g = -13.3 + 18.3 * np.arange(layers + 1) / layers
    left = VARIANCE / (1 + np.exp(g)) / (VARIANCE / (1 + np.exp(g)) + 1 / (1 + np.exp(-g)))
    each = (0.5 * np.expm1(np.diff(g)) * left[1:]).reshape(10, -1).sum(axis=1)  # a hundred layers a bin
    assert (abs(nats - each) < 5 * errors).all()
    assert_allclose(edges[[0, -1]], [-13.3, 5.0])
    assert_array_equal(costs.bound, costs.layers.mean(axis=1) + costs.prior + costs.reconstruction)
    for options in ({"draws": 0}, {"layers": 0}):
        with pytest.raises(UsageError, match="layer_costs"):
            layer_costs(Exact(), x, Stream(1), **options)
    with pytest.raises(UsageError, match="noise"):
        layer_costs(mv.VAE((4, 4, 1), Stream(0)), np.zeros((2, 4, 4, 1)), Stream(1))


def test_the_guess_is_the_mean_and_its_scale_the_standard_deviation():
    frequency = np.array([0.6, 0.1, 0.3])
    model = Diffusion((2, 1, 1), Stream(0), hidden=(3,), levels=3, frequencies=frequency).to(dtype=np.float64)
    z, t = np.array([[-0.9, 0.2], [0.4, -1.3]]), np.array([0.55, 0.8])
    mean, unsure, start, factor = by_itself(z, t, model.low, model.high, model.log_frequency)
    values = np.linspace(-1, 1, 3)
    whole = (frequency * (values - (frequency * values).sum()) ** 2).sum()
    for i in range(2):
        a, s = scales(model.gamma(t[i]))
        r2 = (s / a) ** 2
        gauss = whole * r2 / (whole + r2)
        for d in range(2):
            m, v = enumerated(z[i, d], a, s, frequency)
            assert_allclose(mean[i, d], m, rtol=1e-6)
            c = math.sqrt(v + LEAST**2 * gauss)
            assert_allclose([unsure[i, d], start[i, d], factor[i, d]], [c / gauss**0.5, (z[i, d] - a * m) / s, a * c / s], rtol=1e-6)
    assert_allclose(model.noise(z, t).data, start, rtol=1e-6)  # the network's last layer starts at 0


def test_frequencies_are_counted_kept_and_checked(tmp_path):
    images = np.array([[0, 0, 255], [3, 0, 255]], np.uint8)
    found = np.array(level_frequencies(images))
    assert_allclose(found[[0, 3, 255, 7]] * (6 + 256), [4, 2, 3, 1])
    assert_allclose(found.sum(), 1)
    assert level_frequencies(images / 255) == found.tolist()
    model = Diffusion((3, 1, 1), Stream(0), hidden=(3,), frequencies=found)
    model.net.out.b.data[...] = 0.3
    mv.save(model, tmp_path / "model.npz")
    loaded = mv.load(tmp_path / "model.npz")
    z, t = np.array([[0.1, -1.0, 0.7]], np.float32), np.array([0.4], np.float32)
    assert_array_equal(loaded.noise(z, t).data, model.train(False).noise(z, t).data)
    assert_array_equal(loaded.log_frequency, model.log_frequency)
    for wrong in ([0.5, 0.5], np.zeros(256), np.full(256, np.nan)):
        with pytest.raises(UsageError, match="frequencies"):
            Diffusion((3, 1, 1), Stream(0), frequencies=wrong)
    with pytest.raises(UsageError, match="frequencies"):
        Diffusion((3,), Stream(0), frequencies=[1.0])
