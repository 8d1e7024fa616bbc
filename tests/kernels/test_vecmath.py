"""Every vecmath function, inlined in a kernel with the kernels' own fast-math flags, against float64 over the whole float32 range."""

import math

import numpy as np
import pytest
import scipy.special
from mpmath import mp
from ulps import ulps

from minivae.kernels.cpu import vecmath
from minivae.kernels.cpu.jit import kernel

EDGES = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1754942e-38, 1.1754944e-38, 3.4028235e38, -3.4028235e38, 1.0, -1.0]
EDGES += [
    88.72283,
    88.722839,
    89.0,
    -87.33654,
    -103.97208,
    -103.9721,
    -104.0,
    127.0,
    128.0,
    0.625,
    0.41421356,
    0.70710678,
    1.4142135,
    17.0,
    -18.0,
]


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def exp_minus_1_minus(x):
    # Lagrange's remainder of the series at |x| < 1/4 after x^13 is below 2^-60 of the sum
    series = x**2 * np.polyval([1 / math.factorial(k) for k in range(13, 1, -1)], x)
    return np.where(np.abs(x) < 0.25, series, np.expm1(x) - np.minimum(x, 1e300))


# name -> (exact, bound in ulp): the bounds are the promises of the module
EXACT = {
    "exp": (np.exp, 2),
    "expm1": (np.expm1, 2),
    "log": (np.log, 2),
    "log1p": (np.log1p, 2),
    "tanh": (np.tanh, 2),
    "sigmoid": (scipy.special.expit, 2),
    "softplus": (softplus, 2),
    "exp_minus_1_minus": (exp_minus_1_minus, 3),
}


@kernel
def apply_exp(x, y):
    for i in range(x.size):
        y[i] = vecmath.exp(x[i])


@kernel
def apply_expm1(x, y):
    for i in range(x.size):
        y[i] = vecmath.expm1(x[i])


@kernel
def apply_log(x, y):
    for i in range(x.size):
        y[i] = vecmath.log(x[i])


@kernel
def apply_log1p(x, y):
    for i in range(x.size):
        y[i] = vecmath.log1p(x[i])


@kernel
def apply_tanh(x, y):
    for i in range(x.size):
        y[i] = vecmath.tanh(x[i])


@kernel
def apply_sigmoid(x, y):
    for i in range(x.size):
        y[i] = vecmath.sigmoid(x[i])


@kernel
def apply_softplus(x, y):
    for i in range(x.size):
        y[i] = vecmath.softplus(x[i])


@kernel
def apply_exp_minus_1_minus(x, y):
    for i in range(x.size):
        y[i] = vecmath.exp_minus_1_minus(x[i])


@kernel
def apply_sincos2pi(u, sine, cosine):
    for i in range(u.size):
        sine[i], cosine[i] = vecmath.sincos2pi(u[i])


def evaluate(name, x):
    x = np.asarray(x, np.float32)
    y = np.empty_like(x)
    globals()[f"apply_{name}"](x, y)
    return y


@pytest.fixture(scope="module")
def every_1009th():
    """Every 1009th float32 by bit pattern, 4.3 million numbers, the special ones and the neighbours of the edges."""
    patterns = np.arange(0, 2**32, 1009, dtype=np.uint64).astype(np.uint32).view(np.float32)
    edges = np.array(EDGES, np.float32)
    dense = np.random.default_rng(0).uniform(-5, 5, 300_000).astype(np.float32)  # where the formulas change hands
    with np.errstate(all="ignore"):
        around = [np.nextafter(edges, np.float32(np.inf)), np.nextafter(edges, np.float32(-np.inf))]
        x = np.concatenate([patterns, edges, *around, dense])
        return x, x.astype(np.float64)


@pytest.mark.parametrize("name", EXACT)
def test_within_its_ulp_over_the_whole_range(name, every_1009th):
    x, x64 = every_1009th
    exact, bound = EXACT[name]
    with np.errstate(all="ignore"):
        error = ulps(evaluate(name, x), exact(x64))
    worst = np.argmax(error)
    assert error[worst] <= bound, f"{name}({x[worst]!r}) is {error[worst]:.3f} ulp off"


def test_the_float64_judge_agrees_with_mpmath():
    points = [-80.5, -17.25, -0.3, -1e-3, -1e-20, 1e-20, 1e-3, 0.3, 0.7, 17.25, 80.5]
    judges = {
        "exp": mp.exp,
        "expm1": mp.expm1,
        "tanh": mp.tanh,
        "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
        "softplus": lambda x: mp.log(1 + mp.exp(x)),
        "exp_minus_1_minus": lambda x: mp.exp(x) - 1 - x,
    }
    with mp.workdps(80):
        for name, judge in judges.items():
            values = EXACT[name][0](np.array(points))
            for x, value in zip(points, values, strict=True):
                exact = judge(mp.mpf(x))
                # 2^-40: 65,000 times finer than float32, and what float64 has left of e^x - 1 - x at x = 0.3
                assert abs(value - exact) <= 2.0**-40 * abs(exact), (name, x)


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("exp", [np.inf, 1e30, -1e30, -np.inf, 0.0], [np.inf, np.inf, 0.0, 0.0, 1.0]),
        ("expm1", [np.inf, -np.inf, 0.0], [np.inf, -1.0, 0.0]),
        ("exp_minus_1_minus", [np.inf, -np.inf, 0.0], [np.inf, np.inf, 0.0]),
        ("log", [np.inf, 0.0, -0.0, 1.0, -1.0, -np.inf], [np.inf, -np.inf, -np.inf, 0.0, np.nan, np.nan]),
        ("log1p", [np.inf, -1.0, -1.5, -np.inf], [np.inf, -np.inf, np.nan, np.nan]),
        ("tanh", [np.inf, -np.inf, 1e30], [1.0, -1.0, 1.0]),
        ("sigmoid", [np.inf, -np.inf, 0.0], [1.0, 0.0, 0.5]),
        ("softplus", [np.inf, -np.inf, 200.0, 3e38], [np.inf, 0.0, 200.0, 3e38]),
    ],
)
def test_limits(name, x, y):
    np.testing.assert_array_equal(evaluate(name, x), np.float32(y))


@pytest.mark.parametrize("name", EXACT)
def test_nan_stays_nan(name):
    assert np.isnan(evaluate(name, [np.nan, -np.nan])).all()


@pytest.mark.parametrize("name", ["tanh", "expm1", "log1p"])
def test_minus_zero_and_subnormals_are_kept(name):
    x = np.array([-0.0, 0.0, 1e-45, -1e-45, 5e-39], np.float32)
    np.testing.assert_array_equal(evaluate(name, x).view(np.int32), x.view(np.int32))


def test_sincos2pi():
    """Within 2 ulp on a fine grid of [-1, 1], zeros included; the judge reduces u exactly, which float64 sin(2 pi u) does not."""
    u = np.concatenate([np.arange(-(2**24), 2**24, 101) / 2.0**24, np.arange(-8, 9) / 8]).astype(np.float32)
    sine, cosine = np.empty_like(u), np.empty_like(u)
    apply_sincos2pi(u, sine, cosine)
    quarter = np.rint(4 * u.astype(np.float64))
    r = 2 * np.pi * (u - quarter / 4)
    turn = quarter.astype(int) % 4
    exact_sine = np.choose(turn, [np.sin(r), np.cos(r), -np.sin(r), -np.cos(r)])
    exact_cosine = np.choose(turn, [np.cos(r), -np.sin(r), -np.cos(r), np.sin(r)])
    assert ulps(sine, exact_sine).max() <= 2
    assert ulps(cosine, exact_cosine).max() <= 2
