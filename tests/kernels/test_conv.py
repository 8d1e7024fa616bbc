"""Convolution against the sum that defines it, in float64, and its gradients against the adjoint law: exactly, in whole numbers."""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minivae.errors import ShapeError
from minivae.kernels.cpu.conv import conv2d_forward, conv2d_input_gradient, conv2d_weight_gradient
from minivae.kernels.cpu.gemm import PARALLEL_FROM

U = 2.0**-24  # the relative error of one float32 rounding


def integers(rng, *shape):
    """Float32 whole numbers up to 3: products and sums of fewer than 2^20 of them are exact in any order."""
    return rng.integers(-3, 4, shape).astype(np.float32)


def convolve(x, w, stride, padding):
    """The definition, one tap at a time."""
    (KH, KW, _, O), (sh, sw) = w.shape, stride
    x = np.pad(x.astype(np.float64), ((0, 0), *padding, (0, 0)))
    OH, OW = (x.shape[1] - KH) // sh + 1, (x.shape[2] - KW) // sw + 1
    y = np.zeros((len(x), OH, OW, O))
    for i in range(KH):
        for j in range(KW):
            y += x[:, i : i + sh * OH : sh, j : j + sw * OW : sw][:, :OH, :OW] @ w[i, j].astype(np.float64)
    return y


def inner(a, b):
    return np.vdot(a.astype(np.float64), b.astype(np.float64))


@st.composite
def geometries(draw):
    """x shape, w shape, stride, padding: strides above the kernel, padding above the kernel, one-sided padding."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.one_of(st.sampled_from([(1, 1), (2, 2)]), st.tuples(st.integers(1, 6), st.integers(1, 6))))
    padding = draw(st.tuples(*[st.tuples(st.integers(0, 6), st.integers(0, 6))] * 2))
    size = [draw(st.integers(max(1, k - sum(p)), 15)) for k, p in zip(kernel, padding, strict=True)]
    C, O = draw(st.tuples(*[st.sampled_from([1, 2, 3, 4, 16, 32, 33, 37])] * 2))
    return (draw(st.integers(1, 5)), *size, C), (*kernel, C, O), stride, padding


@settings(max_examples=60, deadline=None)
@given(geometries(), st.booleans(), st.sampled_from([None, "relu"]), st.integers(0, 2**32))
def test_whole_numbers_are_exact(geometry, has_bias, activation, seed):
    x_shape, w_shape, stride, padding = geometry
    rng = np.random.default_rng(seed)
    x, w = integers(rng, *x_shape), integers(rng, *w_shape)
    b = integers(rng, w_shape[3]) if has_bias else None
    linear = convolve(x, w, stride, padding)
    expected = linear + (b if has_bias else 0)
    assert_array_equal(conv2d_forward(x, w, b, stride, padding, activation), np.maximum(expected, 0) if activation else expected)

    # <K x, g> = <x, K' g> = <w, K'' g> for unit-like g: a few random ones, and every entry of x and w tells
    for _ in range(2):
        g = integers(rng, *linear.shape)
        gx = conv2d_input_gradient(g, w, x_shape, stride, padding)
        gw = conv2d_weight_gradient(x, g, w_shape[:2], stride, padding)
        assert inner(gx, x) == inner(linear, g) == inner(gw, w)
        dx, dw = integers(rng, *x_shape), integers(rng, *w_shape)
        assert inner(gx, dx) == inner(convolve(dx, w, stride, padding), g)
        assert inner(gw, dw) == inner(convolve(x, dw, stride, padding), g)


HANDFUL = [  # x shape, w shape, stride, padding
    ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), ((0, 0), (0, 0))),
    ((7, 7, 7, 33), (3, 3, 33, 37), (1, 1), ((1, 1), (1, 1))),
    ((130, 2, 2, 20), (2, 2, 20, 5), (1, 1), ((0, 0), (0, 0))),  # many images a group, the last group not full
    ((3, 28, 28, 1), (4, 4, 1, 32), (2, 2), ((1, 1), (1, 1))),
    ((2, 40, 41, 3), (3, 3, 3, 16), (1, 1), ((1, 1), (1, 1))),  # more pixels than the weight gradient sums at once
    ((9, 13, 10, 4), (2, 5, 4, 3), (3, 4), ((7, 0), (0, 6))),  # stride and padding above the kernel
    ((2, 5, 5, 64), (5, 5, 64, 40), (1, 1), ((0, 0), (0, 0))),
    ((3, 20, 21, 32), (3, 4, 32, 2), (1, 1), ((2, 0), (0, 3))),  # few channels out, stride 1: the turned kernel
    ((2, 3, 600, 1), (2, 3, 1, 17), (2, 3), ((0, 0), (1, 1))),
]


@pytest.mark.parametrize("geometry", HANDFUL)
def test_handful_of_shapes_entry_by_entry(geometry):
    """Every entry of both gradients, from the definition applied to unit vectors' adjoint: sum over taps, scattered and gathered."""
    x_shape, w_shape, (sh, sw), padding = geometry
    rng = np.random.default_rng(0)
    x, w = integers(rng, *x_shape), integers(rng, *w_shape)
    y = convolve(x, w, (sh, sw), padding)
    assert_array_equal(conv2d_forward(x, w, None, (sh, sw), padding), y)
    g = integers(rng, *y.shape)
    padded = np.pad(x.astype(np.float64), ((0, 0), *padding, (0, 0)))
    scattered, gw = np.zeros_like(padded), np.zeros(w_shape)
    for i in range(w_shape[0]):
        for j in range(w_shape[1]):
            at = np.s_[:, i : i + sh * (y.shape[1] - 1) + 1 : sh, j : j + sw * (y.shape[2] - 1) + 1 : sw]
            scattered[at] += g @ w[i, j].T.astype(np.float64)
            gw[i, j] = np.einsum("npqc,npqo->co", padded[at], g)
    (top, _), (left, _) = padding
    gx = scattered[:, top : top + x_shape[1], left : left + x_shape[2]]
    assert_array_equal(conv2d_input_gradient(g, w, x_shape, (sh, sw), padding), gx)
    assert_array_equal(conv2d_weight_gradient(x, g, w_shape[:2], (sh, sw), padding), gw)
    b = integers(rng, x_shape[3])
    assert_array_equal(conv2d_input_gradient(g, w, x_shape, (sh, sw), padding, b, "relu"), np.maximum(gx + b, 0))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_rounding_error_is_bounded(activation):
    """K u sum |x||w| for a sum of K products, one rounding for the bias, 2 ulp for the activation, whose slope is at most 1."""
    rng = np.random.default_rng(1)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((6, 9, 11, 19), (3, 4, 19, 35), (35,)))
    stride, padding = (2, 1), ((1, 0), (2, 1))
    s = convolve(x, w, stride, padding) + b
    expected = np.tanh(s) if activation == "tanh" else 1 / (1 + np.exp(-s))
    bound = (3 * 4 * 19 + 2) * U * 1.001 * (convolve(abs(x), abs(w), stride, padding) + abs(b)) + 4 * U
    assert np.all(abs(conv2d_forward(x, w, b, stride, padding, activation) - expected) <= bound)


def test_one_and_two_threads_make_the_same_bits():
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    rng = np.random.default_rng(2)
    stride, padding = (2, 2), ((1, 1), (1, 1))
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((21, 14, 14, 32), (4, 4, 32, 40), (40,)))
    g = rng.standard_normal((21, 7, 7, 40)).astype(np.float32)
    assert g.size * 16 * 32 > PARALLEL_FROM
    results = []
    before = numba.get_num_threads()
    for threads in (1, 2):
        numba.set_num_threads(threads)
        results.append(
            [
                conv2d_forward(x, w, b, stride, padding, "tanh").tobytes(),
                conv2d_input_gradient(g, w, x.shape, stride, padding).tobytes(),
                conv2d_weight_gradient(x, g, (4, 4), stride, padding).tobytes(),
            ]
        )
    numba.set_num_threads(before)
    assert results[0] == results[1]


def test_two_python_threads_may_call_at_once():
    rng = np.random.default_rng(3)
    w = integers(rng, 3, 3, 8, 16)
    images = [integers(rng, 10 + i, 16, 16, 8) for i in range(12)]
    same = (1, 1), ((1, 1), (1, 1))
    with ThreadPoolExecutor(2) as pool:
        for x, y in zip(images, pool.map(lambda x: conv2d_forward(x, w, None, *same), images), strict=True):
            assert_array_equal(y, convolve(x, w, *same))


def test_nan_and_infinity_stay_in_the_pixels_that_see_them():
    rng = np.random.default_rng(4)
    for C, O in [(3, 20), (20, 3), (40, 40)]:
        x, w = integers(rng, 2, 9, 9, C), integers(rng, 3, 3, C, O)
        g = integers(rng, 2, 9, 9, O)
        same = (1, 1), ((1, 1), (1, 1))
        x[1, 4, 4, 0], g[1, 4, 4, 0] = np.nan, np.inf
        for result in (conv2d_forward(x, w, None, *same, "relu"), conv2d_input_gradient(g, w, x.shape, *same)):
            spoilt = ~np.isfinite(result).all(axis=3)
            assert spoilt[1, 3:6, 3:6].any()
            spoilt[1, 3:6, 3:6] = False
            assert not spoilt.any()


def test_no_channels_at_all():
    """A sum over nothing is zero, and the bias remains."""
    none = (1, 1), ((0, 0), (0, 0))
    b = np.arange(4, dtype=np.float32)
    x, w = np.zeros((2, 5, 5, 0), np.float32), np.zeros((3, 3, 0, 4), np.float32)
    assert_array_equal(conv2d_forward(x, w, b, *none), np.broadcast_to(b, (2, 3, 3, 4)))
    g = np.zeros((2, 3, 3, 0), np.float32)
    assert_array_equal(conv2d_input_gradient(g, w.reshape(3, 3, 4, 0), (2, 5, 5, 4), *none, b), np.broadcast_to(b, (2, 5, 5, 4)))
    assert conv2d_weight_gradient(x, np.zeros((2, 3, 3, 4), np.float32), (3, 3), *none).shape == w.shape


def test_an_empty_batch():
    x, w, y = np.zeros((0, 5, 5, 2), np.float32), np.ones((3, 3, 2, 4), np.float32), np.zeros((0, 3, 3, 4), np.float32)
    none = (1, 1), ((0, 0), (0, 0))
    assert conv2d_forward(x, w, None, *none).shape == y.shape
    assert conv2d_input_gradient(y, w, x.shape, *none).shape == x.shape
    assert_array_equal(conv2d_weight_gradient(x, y, (3, 3), *none), 0 * w)


def test_shapes_that_do_not_fit_are_told():
    x, w = np.zeros((2, 5, 6, 3), np.float32), np.zeros((4, 4, 3, 7), np.float32)
    none = (1, 1), ((0, 0), (0, 0))
    with pytest.raises(ShapeError, match=r"\(2, 5, 6, 3\).*\(4, 4, 2, 7\)"):
        conv2d_forward(x, w[:, :, :2], None, *none)
    with pytest.raises(ShapeError, match="does not fit"):
        conv2d_forward(x[:, :3], w, None, *none)
    with pytest.raises(ShapeError, match=r"b is \(3,\)"):
        conv2d_forward(x, w, np.zeros(3, np.float32), *none)
    with pytest.raises(ShapeError, match=r"make it \(2, 2, 3, 7\)"):
        conv2d_input_gradient(np.zeros((2, 2, 2, 7), np.float32), w, x.shape, *none)
    with pytest.raises(ShapeError, match=r"make it \(2, 2, 3, 7\)"):
        conv2d_weight_gradient(x, np.zeros((2, 2, 2, 7), np.float32), (4, 4), *none)
