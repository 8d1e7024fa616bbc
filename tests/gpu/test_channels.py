"""Convolutions of images with few channels, which have kernels of their own (fold.cu, few.cu): against the reference, number for number.

Factors are small whole numbers, so that every sum is exact, whatever its order.
"""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minivae.engine import Op
from minivae.errors import ShapeError
from minivae.kernels.gpu import KERNELS, conv
from minivae.kernels.gpu.launcher import source

from .host import DEVICES, HostDevice, HostError, at_precision, host, needs_compiler

pytestmark = needs_compiler
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "tf32"])
ONCE = ((1, 1), (1, 1))  # padding
NONE = ((0, 0), (0, 0))
# n, (H, W), C, O, kernel, stride, padding
FIRST_LAYER = (2, (28, 28), 1, 32, (4, 4), (2, 2), ONCE)
CASES = [
    FIRST_LAYER,
    (3, (40, 40), 3, 36, (4, 4), (2, 2), ONCE),  # three groups of taps, two of channels, several parts of the pixels
    (1, (9, 600), 1, 4, (4, 4), (2, 2), ONCE),  # wide: in strips
    (2, (5, 90), 2, 8, (3, 5), (1, 1), ((1, 1), (2, 2))),  # strips of several columns that do not count
    (2, (20, 19), 1, 5, (7, 6), (1, 1), ((3, 2), (0, 5))),  # a halo of more than a hundred places; channels one by one
    (2, (17, 11), 2, 3, (1, 2), (3, 4), NONE),  # pixels that nothing meets
    (3, (6, 13), 1, 7, (3, 2), (1, 3), ((0, 2), (3, 1))),
    (2, (26, 26), 4, 132, (5, 5), (1, 1), ((2, 2), (2, 2))),  # several rounds of pixels in a part
    (70, (3, 2), 1, 4, (2, 2), (1, 2), NONE),  # many images in a block
]


def whole(rng, *shape):
    return rng.integers(-3, 4, shape).astype(np.float32)


def arrays_of(case, seed=0):
    """x, y, w and a relu's values for both, each in float32"""
    n, size, c, o, kernel, stride, padding = case
    rng = np.random.default_rng(seed)
    outputs = [(m + sum(p) - k) // s + 1 for m, k, s, p in zip(size, kernel, stride, padding, strict=True)]
    x, y = (n, *size, c), (n, *outputs, o)
    return [whole(rng, *shape) for shape in (x, y, (*kernel, c, o), x, y)]


def adjoints(case, x, y, w, forced=True):
    """x and w of <correlate(x, w), y>, by the kernels for few channels whatever the sizes."""
    n, size, c, o, kernel, stride, padding = case
    s = conv.Geometry(n, *size, c, *kernel, o, stride, padding)
    if forced:
        s.folds, s.few = s.halo < conv.FOLD_ROWS, True

    def both(of_x, of_y):
        needs = (False, True, True)
        return [
            conv.input_adjoint(s, y, w, value=of_y),
            *conv.weight_adjoint(s, x, y, False, of_y, needs),
            *conv.weight_adjoint(s, x, y, True, of_x, needs),
        ]

    return both


def truth(case, x, y, w, of_x, of_y):
    _, _, _, _, _, stride, padding = case
    vjp = Op.registry["conv2d"].reference[1]
    forward = Op.registry["conv2d"].reference[0]

    def of(x, g):
        _, saved = forward(x.astype(np.float64), w.astype(np.float64), None, stride=stride, padding=padding)
        return vjp(g.astype(np.float64), *saved, needs=(True, True))[:2]

    gs = y if of_y is None else y * (of_y > 0)
    xs = x if of_x is None else x * (of_x > 0)
    gx, gw = of(x, gs)
    return [gx, gw, gs.sum((0, 1, 2)), of(xs, y)[1], xs.sum((0, 1, 2))]


def assert_adjoints(case, masked, seed=0, devices=DEVICES):
    x, y, w, of_x, of_y = arrays_of(case, seed)
    values = (of_x, of_y) if masked else (None, None)
    found = host(lambda: adjoints(case, x, y, w)(*values), devices)
    for one, expected in zip(found, truth(case, x, y, w, *values), strict=True):
        assert_array_equal(one, expected)


@PRECISIONS
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_adjoints_are_exact_on_whole_numbers(case, masked, precision):
    with at_precision(precision):
        assert_adjoints(case, masked)


@st.composite
def geometries(draw):
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    sides = st.tuples(st.integers(0, 4), st.integers(0, 4))
    padding = draw(st.tuples(sides, sides))
    size = tuple(draw(st.integers(max(1, k - sum(p)), 24)) for k, p in zip(kernel, padding, strict=True))
    stride = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    return draw(st.integers(0, 4)), size, draw(st.integers(1, 4)), draw(st.sampled_from([1, 4, 5, 35])), kernel, stride, padding


@settings(max_examples=25)
@given(geometries(), st.booleans(), st.integers(0, 2**32))
@example((2, (4, 4), 1, 4, (1, 1), (3, 3), ((4, 4), (4, 4))), True, 0)  # outputs that see padding alone
def test_any_stride_kernel_padding_and_shape(case, masked, seed):
    assert_adjoints(case, masked, seed)


@PRECISIONS
def test_a_transposed_layer_ends_in_bias_and_activation(precision):
    x, y, w, *_ = arrays_of(CASES[1])  # three groups of taps: the bias comes once, and behind the last
    b = np.arange(x.shape[3], dtype=np.float32)
    options = {"stride": 2, "padding": 1, "size": x.shape[1:3], "activation": "relu"}

    def run():
        with at_precision(precision):
            return KERNELS["conv_transpose2d"][0](y, w, b, **options)[0]

    del DEVICES[0].launches[:]
    found = host(run)
    assert DEVICES[0].launches == [f"fold_input_{precision}"]
    assert_array_equal(found, Op.registry["conv_transpose2d"].reference[0](y, w, b, **options)[0])


def test_channels_that_do_not_lie_at_multiples_of_16_bytes():
    x, y, w, *_ = arrays_of(FIRST_LAYER)
    at = [np.concatenate([np.zeros(1, np.float32), a.ravel()])[1:].reshape(a.shape) for a in (x, y, w)]
    expected = truth(FIRST_LAYER, x, y, w, None, None)
    for found, exact in zip(host(lambda: adjoints(FIRST_LAYER, *at)(None, None)), expected, strict=True):
        assert_array_equal(found, exact)


@pytest.mark.parametrize(
    ("sizes", "folds", "few"),
    [
        ((128, 28, 28, 1, 4, 4, 32, (2, 2), ONCE), True, True),
        ((64, 64, 64, 1, 4, 4, 32, (2, 2), ONCE), True, True),
        ((64, 64, 64, 3, 4, 4, 32, (2, 2), ONCE), True, True),
        ((8, 1024, 1024, 3, 3, 3, 16, (1, 1), ONCE), True, True),  # in strips
        ((64, 32, 32, 32, 4, 4, 32, (2, 2), ONCE), False, False),
        ((128, 14, 14, 32, 4, 4, 64, (2, 2), ONCE), False, False),
        ((8, 64, 64, 1, 20, 20, 16, (1, 1), NONE), False, False),  # more rows meet a pixel than a block has
    ],
    ids=str,
)
def test_where_they_are_chosen(sizes, folds, few):
    s = conv.Geometry(*sizes)
    assert (s.folds, s.few) == (folds, few)


def test_a_kernel_too_large_to_fold():
    case = (1, (40, 41), 1, 4, (20, 20), (1, 1), NONE)
    x, y, w, *_ = arrays_of(case)
    del DEVICES[0].launches[:]
    found = host(lambda: adjoints(case, x, y, w, forced=False)(None, None))
    assert "conv32_input_fp32" in DEVICES[0].launches
    for one, expected in zip(found, truth(case, x, y, w, None, None), strict=True):
        assert_array_equal(one, expected)


@settings(max_examples=300)
@given(st.integers(1, 3000), st.integers(1, 12), st.integers(1, 12))
def test_strips_cover_the_columns_and_know_what_meets_them(columns, rows_met, columns_met):
    strip, own, halo = conv.strip_of(columns, rows_met, columns_met)
    assert 1 <= own <= columns
    assert strip == (columns if own == columns else own + columns_met - 1)
    assert halo == (rows_met - 1) * strip + columns_met - 1
    if (rows_met - 1) * columns_met + columns_met - 1 < conv.FOLD_ROWS:  # one column of its own at least
        assert halo < conv.FOLD_ROWS


def test_windows_longer_than_an_index_are_refused():
    with pytest.raises(ShapeError, match=r"\(1, 16384, 16384, 2\) to .*: need windows whose 16384 rows have fewer than 2\^29 numbers"):
        conv.Geometry(1, 16384, 16384, 2, 16384, 1, 1, (1, 1), NONE)


MISTAKES = [
    ("fold.cu", "row < s.N * s.OH && (unsigned int)column < (unsigned int)s.OW", "row < s.N * s.OH"),
    ("fold.cu", "b >= begin && ", ""),
    ("fold.cu", "+ (t0 ? *x : 0)", ""),
    ("fold.cu", "a == s.OH - 1 || ", ""),
    ("few.cu", "if (pixel >= end) place.h = NOWHERE;", ""),
    ("few.cu", "MASKED == OF_X) number[q] = seen[q] > 0", "MASKED == OF_X) number[q] = seen[q] >= 0"),
    ("few.cu", "pair = 1 - pair", "pair = 0"),
    ("few.cu", "sums[group * 256 + threadIdx.x]", "sums[group * 256 + threadIdx.x / 2 * 2]"),
    ("few.cu", "if (QUADS && o >= s.O) o = s.O - 4;", ""),
]


@pytest.mark.parametrize(("file", "right", "wrong"), MISTAKES, ids=str)
def test_mistakes_are_found(file, right, wrong):
    text = source(file)
    assert text.count(right) == 1
    devices = [HostDevice(backwards, {file: text.replace(right, wrong)}) for backwards in (False, True)]

    def all_cases():
        for case in CASES[1:]:
            assert_adjoints(case, True, devices=devices)

    with pytest.raises((AssertionError, HostError)):
        all_cases()
