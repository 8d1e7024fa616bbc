"""Activations against float64 NumPy; their gradients against central differences of float64 NumPy."""

import numba
import numpy as np
import pytest
import scipy.special
from numpy.testing import assert_array_equal
from ulps import ulp, ulps

from minivae.errors import ShapeError, UsageError
from minivae.kernels.cpu import elementwise
from minivae.kernels.cpu.elementwise import PARALLEL_FROM, SAVES, unary, unary_vjp

ALPHA = 0.3
EXACT = {
    "relu": lambda x: np.where(x > 0, x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, np.float32(ALPHA).astype(x.dtype) * x),
    "elu": lambda x: np.where(x > 0, x, np.float32(ALPHA).astype(x.dtype) * np.expm1(np.minimum(x, 0))),
    "silu": lambda x: x * scipy.special.expit(x),
    "tanh": np.tanh,
    "sigmoid": scipy.special.expit,
    "softplus": lambda x: np.logaddexp(0, x),
    "exp": np.exp,
    "log": np.log,
    "expm1": np.expm1,
    "log1p": np.log1p,
}
POSITIVE = {"log", "log1p"}


def draw(name, shape, seed=0):
    x = np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32)
    return np.abs(x) + np.float32(0.7) if name in POSITIVE else x


def test_every_function_is_tested():
    assert set(EXACT) == set(SAVES)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (33, 7), (3, PARALLEL_FROM // 2 + 1)])
def test_value(name, shape):
    x = draw(name, shape)
    y = unary(name, x, ALPHA)
    assert y.shape == shape
    assert y.dtype == np.float32
    # a function of vecmath is within 2 ulp; one more product adds half an ulp, which a smaller mantissa makes up to one
    assert np.all(ulps(y, EXACT[name](x.astype(np.float64))) <= 3)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("shape", [(), (33, 7), (PARALLEL_FROM + 5,)])
def test_vjp(name, shape):
    """g f'(x), with f' from a central difference in float64, step 2^-17: its error is h^2 f'''/6 + 2^-53 f / h < 2^-33 max(1, f)."""
    x, g = draw(name, shape), np.random.default_rng(1).normal(size=shape).astype(np.float32)
    if name in {"relu", "leaky_relu", "elu"}:
        x = np.where(np.abs(x) < 1e-3, np.float32(1), x)  # stay away from the kink
    f, x64, h = EXACT[name], x.astype(np.float64), 2.0**-17
    slope = (f(x64 + h) - f(x64 - h)) / (2 * h)
    saved = x if SAVES[name] == "x" else unary(name, x, ALPHA)
    gx = unary_vjp(name, g, saved, ALPHA)
    assert gx.shape == shape
    value = np.maximum(1, np.abs(f(x64)))
    tolerance = 4 * ulp(slope) + 2.0**-33 * value  # some products, half an ulp each; the difference's own error
    if SAVES[name] == "y" or name == "silu":
        tolerance += 3 * ulp(value)  # a saved y is 2 ulp off; 1 - y, y + alpha and silu's 1 + x sigmoid(-x) round to an ulp of max(1, y)
    assert np.all(np.abs(gx - g * slope) <= np.abs(g) * tolerance)


@pytest.mark.parametrize("name", EXACT)
def test_nan_is_passed_on(name):
    x = np.array([np.nan, 1.0], np.float32)
    assert np.isnan(unary(name, x, ALPHA)).tolist() == [True, False]
    if name not in {"relu", "leaky_relu", "elu"}:
        assert np.isnan(unary_vjp(name, np.ones(2, np.float32), x, ALPHA))[0]
    assert np.isnan(unary_vjp(name, x, np.ones(2, np.float32), ALPHA))[0]


def test_limits():
    x = np.array([-np.inf, np.inf], np.float32)
    one = np.ones(2, np.float32)
    expected = {"relu": [0, np.inf], "leaky_relu": [-np.inf, np.inf], "elu": [-0.5, np.inf], "silu": [0, np.inf], "softplus": [0, np.inf]}
    for name, y in expected.items():
        assert_array_equal(unary(name, x, 0.5), np.float32(y), name)
    assert_array_equal(unary_vjp("silu", one, x), np.float32([0, 1]))
    assert_array_equal(unary_vjp("softplus", one, x), np.float32([0, 1]))


def test_a_strided_array_counts_as_its_values():
    x = draw("tanh", (40, 60))
    assert_array_equal(unary("tanh", x[::2, ::3]), unary("tanh", x)[::2, ::3])
    assert_array_equal(unary_vjp("tanh", x.T, x.T), unary_vjp("tanh", x, x).T)


@pytest.mark.parametrize("name", EXACT)
def test_bits_do_not_depend_on_threads(name):
    x, g = draw(name, 3 * PARALLEL_FROM + 13), draw("relu", 3 * PARALLEL_FROM + 13)
    before = numba.get_num_threads()
    try:
        results = []
        for threads in {1, before}:
            numba.set_num_threads(threads)
            results.append((unary(name, x, ALPHA).tobytes(), unary_vjp(name, g, x, ALPHA).tobytes()))
    finally:
        numba.set_num_threads(before)
    assert results[0] == results[-1]
    # and one long serial loop makes the same numbers as the blocks
    y = np.empty_like(x)
    elementwise._forward(elementwise.CODES[name], np.float32(ALPHA), x, y)
    assert y.tobytes() == results[0][0]


def test_bad_input_is_refused():
    x = np.ones(3, np.float32)
    with pytest.raises(UsageError, match="gelu"):
        unary("gelu", x)
    with pytest.raises(UsageError, match=r"alpha is -1\.0"):
        unary("elu", x, -1.0)
    with pytest.raises(ShapeError, match=r"\(3,\).*\(2,\)"):
        unary_vjp("relu", x, x[:2])
