"""Convolutions against loops that know nothing of the library, the adjoint law, and every error."""

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minivae import ShapeError, UsageError, use_backend
from minivae.kernels.checks import padding_pairs, pair
from minivae.ops import conv2d, conv_transpose2d

BACKENDS = ("numpy", "numba")
UNIT32 = np.finfo(np.float32).eps / 2
sides = st.integers(1, 4)
pads = st.tuples(st.integers(0, 3), st.integers(0, 3))


def naive_conv2d(x, w, stride, padding):
    """Seven loops: image, row, column, output channel; kernel row, kernel column, input channel."""
    (n, height, width, _), (kh, kw, c, o) = x.shape, w.shape
    (top, bottom), (left, right) = padding
    y = np.zeros((n, (height + top + bottom - kh) // stride[0] + 1, (width + left + right - kw) // stride[1] + 1, o))
    for image, i, j, out in np.ndindex(y.shape):
        for k, l, channel in product(range(kh), range(kw), range(c)):
            row, column = i * stride[0] + k - top, j * stride[1] + l - left
            if 0 <= row < height and 0 <= column < width:
                y[image, i, j, out] += x[image, row, column, channel] * w[k, l, channel, out]
    return y


def naive_conv_transpose2d(y, w, stride, padding, size):
    """Every pixel of y paints its kernel onto the result; what falls into the padding is lost."""
    kh, kw, c, _ = w.shape
    x = np.zeros((len(y), *size, c))
    for image, i, j, out in np.ndindex(y.shape):
        for k, l, channel in product(range(kh), range(kw), range(c)):
            row, column = i * stride[0] + k - padding[0][0], j * stride[1] + l - padding[1][0]
            if 0 <= row < size[0] and 0 <= column < size[1]:
                x[image, row, column, channel] += y[image, i, j, out] * w[k, l, channel, out]
    return x


@st.composite
def geometries(draw):
    """(image shape, kernel shape, stride, padding) such that the kernel fits, strides beyond the kernel included."""
    kernel, size, padding = (
        draw(st.tuples(sides, sides)),
        draw(st.tuples(st.integers(1, 6), st.integers(1, 6))),
        draw(st.tuples(pads, pads)),
    )
    assume(all(n + sum(p) >= k for n, p, k in zip(size, padding, kernel, strict=True)))
    c, o, batch = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(0, 3))
    return (batch, *size, c), (*kernel, c, o), draw(st.tuples(st.integers(1, 6), st.integers(1, 6))), padding


@given(geometry=geometries(), seed=st.integers(0, 10**6), biased=st.booleans())
def test_conv2d_is_seven_loops(geometry, seed, biased):
    x_shape, w_shape, stride, padding = geometry
    rng = np.random.default_rng(seed)
    x, w, b = rng.normal(size=x_shape), rng.normal(size=w_shape), rng.normal(size=w_shape[3])
    expected = naive_conv2d(x, w, stride, padding) + (b if biased else 0)
    bias = (b,) if biased else ()
    np.testing.assert_allclose(conv2d(x, w, *bias, stride=stride, padding=padding).data, expected, rtol=1e-12, atol=1e-12)
    single = [a.astype(np.float32) for a in (x, w, *bias)]
    # rounded inputs, and a sum of KH KW C + 1 products
    terms = naive_conv2d(abs(x), abs(w), stride, padding) + (abs(b) if biased else 0)
    for backend in BACKENDS:
        with use_backend(backend):
            y = conv2d(*single, stride=stride, padding=padding).data
        assert y.dtype == np.float32
        assert np.all(abs(y - expected) <= (4 + np.prod(w_shape[:3])) * UNIT32 * terms), backend


@given(geometry=geometries(), seed=st.integers(0, 10**6), biased=st.booleans())
def test_conv_transpose2d_is_painting(geometry, seed, biased):
    """For every size of image that convolves to y: the size that the stride would leave open is given by `size`."""
    x_shape, w_shape, stride, padding = geometry
    rng = np.random.default_rng(seed)
    w, b = rng.normal(size=w_shape), rng.normal(size=w_shape[2])
    y = rng.normal(size=naive_conv2d(np.zeros(x_shape), w, stride, padding).shape)
    size, bias = x_shape[1:3], (b,) if biased else ()
    expected = naive_conv_transpose2d(y, w, stride, padding, size) + (b if biased else 0)
    options = {"stride": stride, "padding": padding, "size": size}
    np.testing.assert_allclose(conv_transpose2d(y, w, *bias, **options).data, expected, rtol=1e-12, atol=1e-12)
    terms = naive_conv_transpose2d(abs(y), abs(w), stride, padding, size) + (abs(b) if biased else 0)
    single = [a.astype(np.float32) for a in (y, w, *bias)]
    for backend in BACKENDS:
        with use_backend(backend):
            x = conv_transpose2d(*single, **options).data
        assert x.dtype == np.float32
        assert np.all(abs(x - expected) <= (4 + w_shape[0] * w_shape[1] * w_shape[3]) * UNIT32 * terms), backend


@given(geometry=geometries(), seed=st.integers(0, 10**6))
def test_the_transpose_is_the_adjoint(geometry, seed):
    """<Kx, y> = <x, K'y>"""
    x_shape, w_shape, stride, padding = geometry
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=x_shape), rng.normal(size=w_shape)
    kx = conv2d(x, w, stride=stride, padding=padding).data
    y = rng.normal(size=kx.shape)
    ky = conv_transpose2d(y, w, stride=stride, padding=padding, size=x_shape[1:3]).data
    assert ky.shape == x.shape
    assert abs(np.vdot(kx, y) - np.vdot(x, ky)) <= 1e-12 * (np.vdot(abs(kx), abs(y)) + np.vdot(abs(x), abs(ky)))


@given(geometry=geometries())
def test_the_default_size_is_the_smallest(geometry):
    x_shape, w_shape, stride, padding = geometry
    y = conv2d(np.zeros(x_shape), np.zeros(w_shape), stride=stride, padding=padding).data
    smallest = [(n - 1) * s + k - sum(p) for n, s, k, p in zip(y.shape[1:3], stride, w_shape, padding, strict=False)]
    assume(min(smallest) > 0)
    x = conv_transpose2d(y, np.zeros(w_shape), stride=stride, padding=padding).data
    assert x.shape == (x_shape[0], *smallest, x_shape[3])
    for row in range(stride[0]):
        size = (smallest[0] + row, smallest[1] + stride[1] - 1)
        assert conv_transpose2d(y, np.zeros(w_shape), stride=stride, padding=padding, size=size).shape[1:3] == size
    too_large = (smallest[0] + stride[0], smallest[1])
    with pytest.raises(ShapeError, match=f"need {smallest[0]} to {smallest[0] + stride[0] - 1} by {smallest[1]} to"):
        conv_transpose2d(y, np.zeros(w_shape), stride=stride, padding=padding, size=too_large)


def test_options_as_pairs():
    assert pair(2) == pair(np.int64(2)) == pair([2, 2]) == (2, 2)
    assert padding_pairs(1) == padding_pairs((1, 1)) == padding_pairs(((1, 1), (1, 1))) == ((1, 1), (1, 1))
    assert padding_pairs((1, 2)) == ((1, 1), (2, 2))
    assert padding_pairs(((0, 1), (2, 3))) == ((0, 1), (2, 3))
    x, w = np.random.default_rng(0).normal(size=(1, 5, 6, 2)), np.random.default_rng(1).normal(size=(3, 2, 2, 1))
    np.testing.assert_array_equal(conv2d(x, w, stride=2, padding=(1, 0)).data, conv2d(x, w, stride=(2, 2), padding=((1, 1), (0, 0))).data)


X, W = np.zeros((2, 5, 6, 3)), np.zeros((3, 4, 3, 7))
Y = np.zeros((2, 3, 3, 7))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conv2d(X[0], W), r"conv2d: x is (5, 6, 3), w is (3, 4, 3, 7); need x (N, H, W, C) and w with w.shape[2] == C"),
        (lambda: conv2d(X, W[0]), r"conv2d: x is (2, 5, 6, 3), w is (4, 3, 7); need x"),
        (lambda: conv2d(X[..., :2], W), r"conv2d: x is (2, 5, 6, 2), w is (3, 4, 3, 7); need x"),
        (lambda: conv2d(X, W, np.zeros(3)), r"conv2d: w is (3, 4, 3, 7), b is (3,); need b.shape == (7,)"),
        (lambda: conv2d(X, W, stride=0), r"conv2d: stride is (0, 0), padding is ((0, 0), (0, 0)); need stride >= 1 and padding >= 0"),
        (lambda: conv2d(X, W, padding=((0, 0), (0, -1))), r"conv2d: stride is (1, 1), padding is ((0, 0), (0, -1)); need"),
        (lambda: conv2d(X[:, :2], W), r"conv2d: the kernel (3, 4) is larger than the image (2, 6) with padding ((0, 0), (0, 0))"),
        (
            lambda: conv2d(X[:, :, :1], W, padding=1),
            r"conv2d: the kernel (3, 4) is larger than the image (5, 1) with padding ((1, 1), (1, 1))",
        ),
        (
            lambda: conv_transpose2d(X, W),
            r"conv_transpose2d: x is (2, 5, 6, 3), w is (3, 4, 3, 7); need x (N, H, W, C) and w with w.shape[3] == C",
        ),
        (lambda: conv_transpose2d(Y, W, np.zeros(7)), r"conv_transpose2d: w is (3, 4, 3, 7), b is (7,); need b.shape == (3,)"),
        (lambda: conv_transpose2d(Y, W, stride=-1), r"conv_transpose2d: stride is (-1, -1), padding is"),
        (
            lambda: conv_transpose2d(Y, W, stride=2, size=(9, 10)),
            r"size (9, 10) does not convolve to (3, 3) with kernel (3, 4), stride (2, 2), padding ((0, 0), (0, 0)); need 7 to 8 by 8 to 9",
        ),
        (lambda: conv_transpose2d(Y[:, :1, :1], W, padding=2), r"conv_transpose2d: size (-1, 0) does not convolve to (1, 1)"),
        (lambda: conv2d(X, W, stride=(1, 2, 3)), r"(1, 2, 3)"),
        (lambda: conv2d(X, W, padding=((1, 2, 3), 0)), r"(1, 2, 3)"),
    ],
)
def test_errors_carry_the_numbers(call, message):
    with pytest.raises(ShapeError) as caught:
        call()
    assert message in str(caught.value)


def test_an_activation_that_cannot_be_fused():
    for op, x in ((conv2d, X), (conv_transpose2d, Y)):
        with pytest.raises(UsageError, match="'elu' cannot be fused"):
            op(x, W, activation="elu")
