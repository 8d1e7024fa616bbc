"""Subnormal numbers are zero in products on x86, for every worker, and nowhere else."""

import platform

import numba
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minivae.kernels.cpu.conv import conv2d_forward, conv2d_input_gradient, conv2d_weight_gradient
from minivae.kernels.cpu.gemm import PARALLEL_FROM, gemm

SUBNORMAL = np.float32(1e-40)
FLUSHES = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")


def of_subnormals(M, N, K):
    return gemm(np.full((M, K), SUBNORMAL), np.full((K, N), np.float32(1e20)))


def that_are_subnormal(M, N, K):
    return gemm(np.full((M, K), np.float32(1e-20)), np.full((K, N), np.float32(1e-22)))


@numba.njit(parallel=True)
def doubled(x):
    y = np.empty_like(x)
    for i in numba.prange(x.size):
        y[i] = x[i] + x[i]
    return y


@pytest.mark.skipif(not FLUSHES, reason="only x86 flushes them")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("make", [of_subnormals, that_are_subnormal])
def test_operands_and_results_are_zero_for_every_worker(make, threads):
    M, N, K = 128, 96, 64
    assert M * N * K >= PARALLEL_FROM
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, before))
    try:
        assert_array_equal(make(M, N, K), np.zeros((M, N), np.float32))
    finally:
        numba.set_num_threads(before)


@pytest.mark.skipif(not FLUSHES, reason="only x86 flushes them")
def test_convolutions_too():
    x, w = np.full((2, 9, 9, 8), SUBNORMAL), np.full((3, 3, 8, 20), np.float32(1e20))
    geometry = (1, 1), ((1, 1), (1, 1))
    y = conv2d_forward(x, w, None, *geometry)
    assert_array_equal(y, np.zeros_like(y))
    g = np.full(y.shape, SUBNORMAL)
    for gradient in (conv2d_input_gradient(g, w, x.shape, *geometry), conv2d_weight_gradient(np.full_like(x, 1e20), g, (3, 3), *geometry)):
        assert_array_equal(gradient, np.zeros_like(gradient))


def test_whoever_calls_keeps_theirs():
    """This thread, and the workers, which a user's own parallel code may share."""
    of_subnormals(128, 96, 64)
    assert SUBNORMAL * np.float32(1) == SUBNORMAL
    x = np.full(1 << 16, SUBNORMAL)
    assert_array_equal(doubled(x), x + x)
    assert (x + x > 0).all()


def test_what_is_not_subnormal_stays():
    least = np.finfo(np.float32).tiny
    a, b = np.array([[least, 1.0]], np.float32), np.array([[1.0], [least]], np.float32)
    assert gemm(a, b) == 2 * least
