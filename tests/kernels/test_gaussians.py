"""Kernels of Gaussian samples against the references in float64, and against themselves on another number of threads."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivae import ShapeError
from minivae.kernels.cpu import gaussians
from minivae.ops.densities import (
    gaussian_log_prob_reference,
    gaussian_log_prob_vjp,
    reparameterize_reference,
    reparameterize_vjp,
)

EPS = np.finfo(np.float32).eps


def draw(samples, m, k, seed):
    rng = np.random.default_rng(seed)
    mean, logvar = rng.normal(size=(2, m, k)).astype(np.float32)
    x, g = rng.normal(size=(samples * m, k)).astype(np.float32), rng.normal(size=samples * m).astype(np.float32)
    return x, mean, logvar, g


def close(result, exact, size):
    """Within the rounding of `size` additions of terms that are not larger than the largest result by more than a factor."""
    np.testing.assert_allclose(result, exact, rtol=8 * EPS, atol=EPS * (8 + size) * (1 + np.abs(exact).max(initial=0)))


shapes = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 40), st.integers(0, 9))


@given(shapes)
def test_against_the_references(drawn):
    samples, m, k, _ = drawn
    x, mean, logvar, g = draw(*drawn)
    x64, mean64, logvar64, g64 = (a.astype(float) for a in (x, mean, logvar, g))
    cube = x64.reshape(samples, m, k)
    value, saved = gaussian_log_prob_reference(cube, mean64, logvar64)
    close(gaussians.log_prob(x, mean, logvar), value.ravel(), k)
    gx, gmean, glogvar = gaussian_log_prob_vjp(g64.reshape(samples, m), *saved)
    for result, exact in zip(
        gaussians.log_prob_vjp(g, x, mean, logvar), (gx.reshape(-1, k), gmean.sum(axis=0), glogvar.sum(axis=0)), strict=True
    ):
        close(result, exact, samples)
    close(gaussians.standard_log_prob(x), gaussian_log_prob_reference(x64, 0.0, np.zeros(()))[0], k)
    z, saved = reparameterize_reference(mean64, logvar64, cube)
    close(gaussians.sample(mean, logvar, x), z.reshape(-1, k), 1)
    gz = x64[::-1].reshape(samples, m, k)
    gmean, glogvar, _ = reparameterize_vjp(gz, *saved, needs=(True, True, False))
    for result, exact in zip(
        gaussians.sample_vjp(np.ascontiguousarray(x[::-1]), logvar, x), (gmean.sum(axis=0), glogvar.sum(axis=0)), strict=True
    ):
        close(result, exact, samples)


@given(st.tuples(st.integers(1, 9), st.integers(2, 33), st.integers(1, 40), st.integers(0, 9)))
def test_every_row_under_all_parameters(drawn):
    n, m, k, seed = drawn
    rng = np.random.default_rng(seed)
    x, g = rng.normal(size=(n, k)).astype(np.float32), rng.normal(size=(n, m)).astype(np.float32)
    mean, logvar = rng.normal(size=(2, m, k)).astype(np.float32)
    x64, mean64, logvar64 = (a.astype(float) for a in (x, mean, logvar))
    value, saved = gaussian_log_prob_reference(x64[:, None], mean64, logvar64)
    close(gaussians.pairs_log_prob(x, mean, logvar), value, k)
    exact = [part.sum(axis=axis) for part, axis in zip(gaussian_log_prob_vjp(g.astype(float), *saved), (1, 0, 0), strict=True)]
    for result, expected, terms in zip(gaussians.pairs_log_prob_vjp(g, x, mean, logvar), exact, (m, n, n), strict=True):
        close(result, expected, terms)


def test_column_slices_are_taken_without_a_copy_of_their_values():
    x, mean, logvar, g = draw(3, 4, 6, 0)
    head = np.concatenate([mean, logvar], axis=1)
    np.testing.assert_array_equal(gaussians.log_prob(x, head[:, :6], head[:, 6:]), gaussians.log_prob(x, mean, logvar))
    for a, b in zip(gaussians.log_prob_vjp(g, x, head[:, :6], head[:, 6:]), gaussians.log_prob_vjp(g, x, mean, logvar), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(gaussians.pairs_log_prob(x, head[:, :6], head[:, 6:]), gaussians.pairs_log_prob(x, mean, logvar))


def test_far_tails_and_certain_posteriors_make_no_nan():
    logvar = np.array([[-104.0, 104.0, 0.0]], np.float32)
    mean, x = np.zeros((1, 3), np.float32), np.zeros((2, 3), np.float32)
    assert np.isfinite(gaussians.log_prob(x, mean, logvar)).all()
    assert all(np.isfinite(a).all() for a in gaussians.log_prob_vjp(np.ones(2, np.float32), x, mean, logvar))
    assert np.isfinite(gaussians.pairs_log_prob(x, mean, logvar)).all()
    assert all(np.isfinite(a).all() for a in gaussians.pairs_log_prob_vjp(np.ones((2, 1), np.float32), x, mean, logvar))


def test_shapes_that_do_not_fit_are_told():
    x, mean, logvar, _ = draw(2, 3, 4, 0)
    with pytest.raises(ShapeError, match=r"need \(R, K\) and twice \(M, K\)"):
        gaussians.pairs_log_prob(x[:, 1:], mean, logvar)
    with pytest.raises(ShapeError, match=r"the gradient is \(6, 2\) for 6 rows under 3"):
        gaussians.pairs_log_prob_vjp(np.ones((6, 2), np.float32), x, mean, logvar)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")
def test_the_number_of_threads_does_not_change_a_bit():
    x, mean, logvar, g = draw(40, 30, 50, 1)  # 60,000 numbers: parallel
    results = []
    before = numba.get_num_threads()
    for threads in (1, 2):
        numba.set_num_threads(threads)
        results.append(
            [
                gaussians.log_prob(x, mean, logvar),
                *gaussians.log_prob_vjp(g, x, mean, logvar),
                gaussians.pairs_log_prob(x, mean, logvar),
                *gaussians.pairs_log_prob_vjp(np.outer(g, logvar[:, 0]), x, mean, logvar),
                gaussians.standard_log_prob(x),
                gaussians.sample(mean, logvar, x),
                *gaussians.sample_vjp(x, logvar, x),
            ]
        )
    numba.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
