"""Matrix products against float64, exactly where the numbers are small integers, within the a-priori rounding bound where they are not."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minivae.errors import ShapeError, UsageError
from minivae.kernels.cpu.epilogue import through_activation
from minivae.kernels.cpu.gemm import CHUNK, DEPTH, PARALLEL_FROM, dense_forward, dense_vjp, gemm
from minivae.kernels.cpu.tile import ROWS, WIDTH

U = 2.0**-24  # half a unit in the last place of 1: the relative error of one float32 rounding
ACTIVATIONS = [None, "relu", "tanh", "sigmoid"]
FUNCTIONS = {
    None: lambda s: s,
    "relu": lambda s: np.where(s.real > 0, s, 0),
    "tanh": np.tanh,
    "sigmoid": lambda s: 1 / (1 + np.exp(-s)),
}


def integers(rng, *shape):
    """Float32 whole numbers up to 4: products and sums of fewer than 2^20 of them are exact in any order."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def normals(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def op(x, transpose):
    return x.T.astype(np.float64) if transpose else x.astype(np.float64)


@settings(max_examples=40, deadline=None)
@given(*[st.integers(0, 70)] * 3, *[st.booleans()] * 3, st.sampled_from([None, "relu"]), st.integers(0, 2**32))
def test_products_of_integers_are_exact(M, N, K, transpose_a, transpose_b, has_bias, activation, seed):
    rng = np.random.default_rng(seed)
    a = integers(rng, *((K, M) if transpose_a else (M, K)))
    b = integers(rng, *((N, K) if transpose_b else (K, N)))
    bias = integers(rng, N) if has_bias else None
    expected = FUNCTIONS[activation](op(a, transpose_a) @ op(b, transpose_b) + (bias if has_bias else 0))
    got = gemm(a, b, transpose_a, transpose_b, bias, activation)
    assert got.dtype == np.float32
    assert_array_equal(got, expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("shape", [(1, 1, DEPTH + 1), (CHUNK + 1, WIDTH + 1, 3), (2 * CHUNK + ROWS - 1, 3 * WIDTH // 2, 2 * DEPTH + 5)])
def test_handful_of_shapes_within_the_rounding_bound(shape, transposed, activation):
    """A float32 sum of K products errs by at most K u / (1 - K u) sum |a||b|; the bias rounds once more, the activation by 2 ulp."""
    M, N, K = shape
    rng = np.random.default_rng(K)
    a, b = normals(rng, *((K, M) if transposed[0] else (M, K))), normals(rng, *((N, K) if transposed[1] else (K, N)))
    bias = normals(rng, N)
    exact_a, exact_b = op(a, transposed[0]), op(b, transposed[1])
    expected = FUNCTIONS[activation](exact_a @ exact_b + bias)
    bound = (K + 2) * U * 1.001 * (abs(exact_a) @ abs(exact_b) + abs(bias)) + (4 * U if activation in ("tanh", "sigmoid") else 0)
    assert np.all(abs(gemm(a, b, *transposed, bias, activation) - expected) <= bound)


def test_layouts_of_the_inputs_do_not_matter():
    rng = np.random.default_rng(1)
    a, b, bias = integers(rng, 20, 30), integers(rng, 30, 40), integers(rng, 40)
    expected = a @ b + bias
    read_only = a.copy()
    read_only.flags.writeable = False
    odd_address = np.frombuffer(bytearray(a.nbytes + 1), np.uint8)[1:].view(np.float32).reshape(a.shape)
    odd_address[:] = a
    strided = np.zeros((40, 60), np.float32)[::2, ::2]
    strided[:] = a
    for same in (read_only, odd_address, strided, np.asfortranarray(a), a.astype(np.float64), a.astype(">f4")):
        assert_array_equal(gemm(same, b, bias=bias), expected)
        assert_array_equal(gemm(same.T, b, transpose_a=True, bias=bias), expected)
        assert_array_equal(gemm(b, same, transpose_a=True, transpose_b=True), (a @ b).T)


def test_nan_and_infinity_stay_in_their_row_and_column():
    rng = np.random.default_rng(2)
    a, b = normals(rng, ROWS + 3, 9), normals(rng, 9, WIDTH + 5)
    clean = gemm(a, b, activation="relu")
    a[2, 4], b[3, WIDTH + 4] = np.nan, np.inf
    spoilt = gemm(a, b, activation="relu")
    assert np.all(np.isnan(spoilt[2]))
    hit = np.zeros(clean.shape, bool)
    hit[2], hit[:, -1] = True, True
    assert_array_equal(np.where(hit, 0, spoilt), np.where(hit, 0, clean))
    assert_array_equal(np.isinf(spoilt[:, -1]), np.where(np.arange(len(a)) == 2, False, a[:, 3] > 0))


@example(130, 120, 90, "tanh", True, 0)  # large enough to be done by three kernels instead of one
@example(300, 70, 65, "relu", False, 1)
@settings(max_examples=15, deadline=None)
@given(*[st.integers(1, 40)] * 3, st.sampled_from(ACTIVATIONS), st.booleans(), st.integers(0, 2**32))
def test_dense_vjp_is_the_directional_derivative(N, I, O, activation, has_bias, seed):
    """<gx, dx> + <gw, dw> + <gb, db> = d/dt <g, act((x + t dx)(w + t dw) + b + t db)>, by a complex step in float64.

    Bound: y is off by e_y <= (I + 2) u sum|x||w| (+ 2 ulp), so act'(y) by 2 e_y, and each gradient is a sum of at most I + O + N terms.
    """
    rng = np.random.default_rng(seed)
    x, w, b, g = normals(rng, N, I), normals(rng, I, O), normals(rng, O) * has_bias, normals(rng, N, O)
    g_before = g.copy()
    y = dense_forward(x, w, b if has_bias else None, activation)
    gx, gw, gb = dense_vjp(g, x, w, y, activation, (True, True, True))
    assert_array_equal(g, g_before)
    dx, dw, db = normals(rng, N, I), normals(rng, I, O), normals(rng, O)
    h = 1e-30
    s = (x + 1j * h * dx) @ (w + 1j * h * dw) + b + 1j * h * db
    # the float32 forward decides on which side of relu's kink a number lies
    after = np.where(y > 0, s, 0) if activation == "relu" else FUNCTIONS[activation](s)
    expected = np.sum(g * after.imag) / h
    got = sum(np.vdot(p.astype(np.float64), d.astype(np.float64)) for p, d in ((gx, dx), (gw, dw), (gb, db)))
    size = abs(x).astype(float) @ abs(w) + abs(b) + 1
    slope_error = 2 * ((I + 2) * U * size + 4 * U) if activation in ("tanh", "sigmoid") else 0
    moved = abs(dx).astype(float) @ abs(w) + abs(x).astype(float) @ abs(dw) + abs(db)
    assert abs(got - expected) <= np.sum(abs(g) * moved * ((I + O + N + 5) * U + slope_error))


def test_dense_vjp_gives_only_what_is_needed():
    rng = np.random.default_rng(3)
    x, w, g = integers(rng, 5, 6), integers(rng, 6, 7), integers(rng, 5, 7)
    full = dense_vjp(g, x, w, x @ w, None, (True, True, True))
    for needs in [(True, False, False), (False, True, False), (False, False, True), (False, False, False)]:
        for part, expected, needed in zip(dense_vjp(g, x, w, x @ w, None, needs), full, needs, strict=True):
            assert (part is not None) == needed
            if needed:
                assert_array_equal(part, expected)


@pytest.mark.parametrize(
    "shape",
    [
        (0, 5),
        (5, 0),
        (1, 1),
        (40_000, 1),
        (9_000, 3),
        (3_000, 2 * WIDTH + 5),
        (2, 3, 4, 5),
        (300, 1001),
        (3, 257),
        (5, 255),
        (1, 300),
        (70_001, 16),
    ],
)
def test_gradients_of_sums_and_bias_are_exact_in_integers(shape):
    rng = np.random.default_rng(4)
    g, y = integers(rng, *shape), integers(rng, *shape)
    for activation, slope in ((None, 1), ("relu", y > 0)):
        gs, gb = through_activation(g, y, activation, True)
        assert_array_equal(gs, g * slope)
        assert_array_equal(gb, (g * slope).astype(np.float64).sum(axis=tuple(range(g.ndim - 1))))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n", [0, 5, 100_000])
def test_activation_gradient_is_the_derivative(activation, n):
    """By a complex step at s, with y = act(s); four roundings.  1 - y^2 and 1 - y amplify the rounding of y, at most to 2 u."""
    rng = np.random.default_rng(5)
    s, g = normals(rng, n), normals(rng, n)
    y = FUNCTIONS[activation](s.astype(np.float64)).astype(np.float32)
    expected = g * FUNCTIONS[activation](s + 1e-30j).imag / 1e-30
    gs, gb = through_activation(g, y, activation, False)
    assert gb is None
    assert np.all(abs(gs - expected) <= 6 * U * abs(g))


def with_threads(n, function):
    before = numba.get_num_threads()
    numba.set_num_threads(n)
    try:
        return function()
    finally:
        numba.set_num_threads(before)


@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False)])
def test_one_and_two_threads_make_the_same_bits(transposed):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    rng = np.random.default_rng(6)
    M, N, K = 300, 70, DEPTH + 40
    assert M * N * K > PARALLEL_FROM
    a, b = normals(rng, *((K, M) if transposed[0] else (M, K))), normals(rng, *((N, K) if transposed[1] else (K, N)))
    g = normals(rng, 70_000, 3)
    for f in (
        lambda: gemm(a, b, *transposed, b[0, :1].repeat(N), "tanh"),
        lambda: through_activation(g, g, None, True)[1],
        lambda: np.append(*through_activation(g, g, "tanh", True)),
    ):
        assert with_threads(1, f).tobytes() == with_threads(2, f).tobytes()


def test_two_python_threads_may_call_at_once():
    rng = np.random.default_rng(7)
    pairs = [(integers(rng, 200 + i, 150), integers(rng, 150, 100)) for i in range(16)]
    with ThreadPoolExecutor(2) as pool:
        for (a, b), c in zip(pairs, pool.map(lambda pair: gemm(*pair), pairs), strict=True):
            assert_array_equal(c, a @ b)


def test_shapes_that_do_not_fit_are_told():
    a = np.zeros((3, 4), np.float32)
    with pytest.raises(ShapeError, match=r"\(3, 4\).*\(3, 4\)"):
        gemm(a, a)
    with pytest.raises(ShapeError, match=r"g is \(3, 4\), y is \(3, 5\)"):
        through_activation(np.zeros((3, 4)), np.zeros((3, 5)), "relu", True)
    with pytest.raises(ShapeError, match="bias"):
        gemm(a, a, transpose_b=True, bias=np.zeros(4, np.float32))
    with pytest.raises(UsageError, match="softmax"):
        gemm(a, a, transpose_b=True, activation="softmax")


@pytest.mark.parametrize(("name", "tile"), [("haswell", "(6, 8, True)"), pytest.param("nehalem", "(6, 4, False)", marks=pytest.mark.slow)])
def test_other_processors_get_their_own_tile(name, tile):
    """The handful of shapes again, compiled for a processor with AVX2 and for one with nothing but SSE."""
    root = Path(__file__).parents[2]
    env = os.environ | {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": "", "PYTHONPATH": str(root)}
    chosen = "from minivae.kernels.cpu import tile; print((tile.ROWS, tile.LANES, tile.HAS_FMA))"
    assert subprocess.run([sys.executable, "-c", chosen], env=env, capture_output=True, text=True, check=True).stdout.strip() == tile
    files = [str(Path(__file__).with_name(f)) for f in ("test_gemm.py", "test_conv.py")]
    command = [sys.executable, "-m", "pytest", "-n0", "-k", "handful", "-p", "no:cacheprovider", *files]
    run = subprocess.run(command, env=env, capture_output=True, text=True, cwd=root)
    assert run.returncode == 0, run.stdout
