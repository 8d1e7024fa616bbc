"""The kernels of batch norm and group norm against float64, for any shape, and with any number of threads."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minivae.kernels.cpu import groups, normalization
from minivae.ops.normalization import batch_norm_reference, batch_norm_vjp, group_norm_reference, group_norm_vjp

EPS = 2.0**-24


def drawn(rows, channels, seed, offset=0.0):
    rng = np.random.default_rng(seed)
    x, gy = (rng.normal(size=(rows, channels)) for _ in range(2))
    gamma, beta, gmean, gvar = (rng.normal(size=channels) for _ in range(4))
    return [a.astype(np.float32) for a in (x + offset, gamma, beta, gy, gmean, gvar)]


def both(x, gamma, beta, gy, gmean, gvar):
    """All results of the kernels, and of the reference in float64."""
    y, mean, var, inverse = normalization.batch_norm(x, gamma, beta, 1e-5)
    ours = [y, mean, var, *normalization.batch_norm_vjp(gy, gmean, gvar, x, mean, inverse, gamma)]
    exact = [a.astype(np.float64) for a in (x, gamma, beta, gy, gmean, gvar)]
    values, saved = batch_norm_reference(*exact[:3], eps=1e-5)
    return ours, [*values, *batch_norm_vjp(tuple(exact[3:]), *saved)]


@given(rows=st.integers(3, 70), channels=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_small_matrices(rows, channels, seed):
    for a, exact in zip(*both(*drawn(rows, channels, seed)), strict=True):
        # each result is a sum of at most `rows` terms of order 1 (or 1 / sigma, of three samples and more at most some hundred)
        assert_allclose(a, exact, rtol=0, atol=200 * (rows + 8) * EPS * max(1, np.abs(exact).max()))


@pytest.mark.parametrize(("rows", "channels"), [(5000, 32), (128, 400), (25088, 3), (4, 20000)])
def test_large_matrices_and_threads(rows, channels):
    arrays = drawn(rows, channels, 0)
    ours, exact = both(*arrays)
    for a, b in zip(ours, exact, strict=True):
        assert_allclose(a, b, rtol=0, atol=3 * np.sqrt(rows) * EPS * max(1, np.abs(b).max()) * 8)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        for a, b in zip(ours, both(*arrays)[0], strict=True):
            assert_array_equal(a, b)
    finally:
        numba.set_num_threads(before)


def test_a_large_mean_does_not_swallow_the_variance():
    """E[x^2] - E[x]^2 would lose all digits: the mean is 1e4 sigmas away."""
    x, gamma, beta, *_ = drawn(4000, 5, 1, offset=1e4)
    var = normalization.batch_norm(x, gamma, beta, 1e-5)[2]
    assert_allclose(var, x.astype(np.float64).var(axis=0), rtol=1e-3)


def test_rows_that_are_not_contiguous():
    x, gamma, beta, gy, gmean, gvar = drawn(50, 8, 2)
    for view in (x[::-1], x[:, ::2], np.asfortranarray(x)):
        n = view.shape[1]
        ours = both(view, gamma[:n], beta[:n], gy[: len(view), :n], gmean[:n], gvar[:n])[0]
        copied = both(view.copy(), gamma[:n], beta[:n], gy[: len(view), :n].copy(), gmean[:n], gvar[:n])[0]
        for a, b in zip(ours, copied, strict=True):
            assert_array_equal(a, b)


def group_norm_of_both(x, scale, shift, g, parts):
    """(y, gx, gscale, gshift) of the kernels, and of the reference in float64."""
    y, mean, inverse = groups.group_norm(x, scale, shift, parts, 1e-5)
    ours = [y, *groups.group_norm_vjp(g, x, scale, mean, inverse)]
    value, saved = group_norm_reference(*[a.astype(np.float64) for a in (x, scale, shift)], parts, 1e-5)
    return ours, [value, *group_norm_vjp(g.astype(np.float64), *saved)]


@pytest.mark.parametrize(
    ("shape", "parts", "own"),
    [((3, 5, 7, 16), 8, True), ((2, 4, 4, 6), 3, False), ((9, 28, 28, 16), 8, True), ((4, 3, 3, 64), 8, False), ((40, 7, 7, 20), 4, True)],
)
def test_group_norm_of_any_shape_and_with_any_number_of_threads(shape, parts, own):
    """Small arrays run on one thread, large ones on all; pixels that do and that do not fill a vector."""
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(2, *shape)).astype(np.float32)
    scale, shift = rng.normal(size=(2, *([shape[0]] if own else []), shape[-1])).astype(np.float32)
    arrays = (x + np.float32(1), scale, shift, g)
    ours, exact = group_norm_of_both(*arrays, parts)
    for a, b in zip(ours, exact, strict=True):
        # sums of up to 784 terms of order 1, over the pixels of one example
        assert_allclose(a, b, rtol=0, atol=8 * np.sqrt(shape[1] * shape[2]) * EPS * max(1, np.abs(b).max()))
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        for a, b in zip(ours, group_norm_of_both(*arrays, parts)[0], strict=True):
            assert_array_equal(a, b)
    finally:
        numba.set_num_threads(before)


def test_a_large_mean_does_not_swallow_a_group_s_variance():
    x = (np.random.default_rng(1).normal(size=(2, 30, 30, 4)) + 1e4).astype(np.float32)
    inverse = groups.group_norm(x, np.ones(4, np.float32), np.zeros(4, np.float32), 2, 0.0)[2]
    parts = x.astype(np.float64).reshape(2, 900, 2, 2)
    assert_allclose(inverse, parts.std(axis=(1, 3)) ** -1, rtol=1e-3)
