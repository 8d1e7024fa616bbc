"""Means of few numbers: exact sums judge them, and the reference's adjoint bit for bit."""

import math

import numpy as np
import pytest

from minivae import Tensor, gradients, ops, use_backend
from minivae.kernels.cpu import means
from minivae.ops.reductions import FEW, mean_reference, mean_vjp

EPS = 2.0**-24
SHAPES = [(), (1,), (2,), (3,), (4,), (5,), (7, 3), (2, 3, 4), (128,), (1001,), (FEW,)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mean_is_rounded_once(shape):
    x = np.random.default_rng(len(shape)).normal(1, 1000, shape).astype(np.float32)
    found = means.mean(x)
    assert (found.shape, found.dtype) == ((), np.float32)
    numbers = x.astype(np.float64).ravel().tolist()
    # a sum of n numbers in float64 is off by n 2^-53 of the sum of their sizes
    slack = len(numbers) * 2.0**-53 * math.fsum(map(abs, numbers)) / len(numbers)
    assert abs(float(found) - math.fsum(numbers) / len(numbers)) <= EPS * abs(float(found)) + slack


@pytest.mark.parametrize("shape", SHAPES)
def test_its_adjoint_is_the_reference(shape):
    g = np.array(0.3, np.float32)
    _, saved = mean_reference(np.zeros(shape, np.float32))
    assert means.mean_vjp(g, shape).tobytes() == mean_vjp(g, *saved)[0].tobytes()
    assert means.mean_vjp(g, shape).shape == shape


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", range(5))
def test_what_is_not_finite_shows(bad, at):
    x = np.ones(5, np.float32)
    x[at] = bad
    np.testing.assert_array_equal(means.mean(x), np.float32(bad))


@pytest.mark.parametrize(
    ("make", "options", "fast"),
    [
        (lambda: np.ones((3, 4), np.float32), {}, True),
        (lambda: np.ones(FEW + 1, np.float32), {}, False),
        (lambda: np.ones((3, 4), np.float32).T, {}, False),
        (lambda: np.ones((3, 4), np.float32), {"axis": 1}, False),
        (lambda: np.ones((3, 4), np.float32), {"keepdims": True}, False),
    ],
)
def test_who_takes_the_mean(monkeypatch, make, options, fast):
    """The kernel of few numbers that lie together, all of them; NumPy of anything else.  Both are right."""
    calls, mean = [], means.mean
    monkeypatch.setattr("minivae.ops.reductions.means.mean", lambda x: (calls.append(x), mean(x))[1])
    x = Tensor(make())
    with use_backend("numba"):
        y = ops.mean(x, **options)
        (g,) = gradients(y.sum(), [x])
    assert bool(calls) == fast
    assert (y.data == 1).all()
    np.testing.assert_allclose(g, y.data.size / x.size, rtol=2 * EPS)
