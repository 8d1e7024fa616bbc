"""Matrix products and convolutions, run on the CPU, in float32 and as the tensor cores' fragments would be multiplied.

Factors are small whole numbers, so that every product and sum is exact in float32 and in TF32: the result must be that of the reference,
number for number.  Where rounding is meant to be seen, the bound is that of a dot product: K roundings of the sum of absolute terms.
"""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minivae.engine import Op, unbroadcast
from minivae.errors import ShapeError, UsageError
from minivae.kernels.gpu import KERNELS, conv, dense, matmul

from .host import DEVICES, at_precision, host, needs_compiler

pytestmark = needs_compiler
EPS = 2.0**-24
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "tf32"])


def whole(rng, *shape):
    return rng.integers(-3, 4, shape).astype(np.float32)


def reference(name, arrays, g, options):
    """Value and gradients in float64."""
    forward, vjp = Op.registry[name].reference
    value, saved = forward(*[None if a is None else a.astype(np.float64) for a in arrays], **options)
    g = g(value.shape)
    return g, (value, *vjp(g.astype(np.float64), *saved, needs=tuple(a is not None for a in arrays)))


def ours(name, arrays, g, options, precision):
    def run():
        with at_precision(precision):
            value, saved = KERNELS[name][0](*arrays, **options)
            return (value, *KERNELS[name][1](g, *saved, needs=tuple(a is not None for a in arrays)))

    return host(run)


def assert_exact(name, arrays, rng, options, precision):
    g, exact = reference(name, arrays, lambda shape: whole(rng, *shape), options)
    for result, expected in zip(ours(name, arrays, g, options, precision), exact, strict=True):
        if expected is not None:
            assert result.dtype == np.float32
            assert_array_equal(result, expected)
        else:
            assert result is None


SIDES = st.integers(0, 70)


@PRECISIONS
@settings(max_examples=8)
@given(SIDES, SIDES, SIDES, st.booleans(), st.sampled_from([None, "relu"]), st.integers(0, 2**32))
@example(5, 7, 300, True, "relu", 0)  # K in parts
@example(2, 3, 4500, True, "relu", 0)  # and those joined in three rounds
@example(130, 65, 17, True, None, 1)  # several tiles each way
@example(1, 1, 1, False, None, 2)
@example(3, 0, 4, True, None, 3)
@example(0, 3, 4, True, None, 3)
@example(3, 4, 0, True, "relu", 3)
def test_dense_is_exact_on_whole_numbers(precision, n, o, i, biased, activation, seed):
    rng = np.random.default_rng(seed)
    arrays = [whole(rng, n, i), whole(rng, i, o), whole(rng, o) if biased else None]
    assert_exact("dense", arrays, rng, {"activation": activation}, precision)


@PRECISIONS
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize(("tile", "size"), [(64, (140, 131, 37)), (128, (140, 132, 36)), (64, (68, 140, 40)), (128, (131, 140, 37))])
def test_each_transposition_and_tile(monkeypatch, precision, transpose_a, transpose_b, tile, size):
    M, N, K = size
    monkeypatch.setattr(dense, "tile_of", lambda M, N: tile)
    rng = np.random.default_rng(tile)
    a, b, bias = whole(rng, M, K), whole(rng, K, N), whole(rng, N)
    stored = np.ascontiguousarray(a.T) if transpose_a else a, np.ascontiguousarray(b.T) if transpose_b else b

    def run():
        with at_precision(precision):
            return dense.gemm(*stored, transpose_a, transpose_b, bias)

    assert_array_equal(host(run), a @ b + bias)


@st.composite
def batches(draw):
    """Two shapes whose leading axes broadcast, in every way that there is."""
    leading = draw(st.lists(st.integers(0, 3), max_size=3))
    shapes = []
    for matrix in draw(st.tuples(*[st.integers(0, 9)] * 3).map(lambda s: ((s[0], s[2]), (s[2], s[1])))):
        own = [draw(st.sampled_from([n, 1])) for n in leading]
        shapes.append((*own[draw(st.integers(0, len(own))) :], *matrix))
    return shapes


@PRECISIONS
@settings(max_examples=3)
@given(batches(), st.integers(0, 2**32))
@example([(130, 65), (65,)], 0)
@example([(65,), (65, 3)], 0)
@example([(7,), (7,)], 0)
@example([(3, 1, 70, 5), (2, 5, 66)], 1)  # several tiles, both broadcast
@example([(2, 3, 4, 5), (5, 300)], 2)  # one matrix for all: one product
@example([(4, 5), (2, 3, 5, 6)], 3)
@example([(2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1), (1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 2)], 4)  # more axes than gemm.cu has room for
def test_matmul_is_exact_on_whole_numbers(precision, shapes, seed):
    rng = np.random.default_rng(seed)
    arrays = [whole(rng, *shape) for shape in shapes]
    g, exact = reference("matmul", arrays, lambda shape: whole(rng, *shape), {})
    value, *gradients = ours("matmul", arrays, g, {}, precision)
    assert_array_equal(value, exact[0])
    for a, ours_, truth in zip(arrays, gradients, exact[1:], strict=True):
        assert ours_.dtype == np.float32
        assert_array_equal(unbroadcast(ours_, a.shape), unbroadcast(truth, a.shape))


def test_matmul_of_transposed_batches_copies_nothing():
    rng = np.random.default_rng(5)
    a, b = whole(rng, 3, 4, 5).swapaxes(1, 2), whole(rng, 3, 6, 4).swapaxes(1, 2)
    assert np.shares_memory(dense.matrix(a, False)[0], a)
    assert_array_equal(host(lambda: KERNELS["matmul"][0](a, b)[0]), a @ b)
    with pytest.raises(ShapeError, match=r"matmul: a is \(3, 5, 4\), b is \(3, 5, 4\)"):
        matmul.matmul_forward(a, a)


def test_axes_that_go_on_in_step_are_counted_as_one():
    assert matmul.Batch((2, 3, 4), (2, 3, 4, 5, 6), (2, 3, 4, 6, 7)).axes == 1
    assert matmul.Batch((2, 3, 4), (3, 4, 5, 6), (3, 4, 6, 7)).axes == 2
    assert matmul.Batch((1, 3, 1), (1, 3, 1, 5, 6), (6, 7)).axes == 1


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_recurrent_layers_of_several_tiles(name):
    """As many steps, units and sequences as need several tiles, and parts of K.

    Weights are so small that a state moved by d moves the next by at most 2 d, and gates stay open: after T steps the errors of the
    dot products, K roundings of at most 1 each, have grown by 2^T; a gradient adds up T N such numbers at most.
    """
    n, steps, inputs, units = 70, 3, 130, 140
    rng = np.random.default_rng(6)
    gates = {"gru": 3, "lstm": 4}[name]
    shapes = [(n, steps, inputs), *[(n, units)] * (gates - 2), (inputs, gates * units), (units, gates * units), (gates * units,)]
    shapes += [(units,)] * (name == "gru")
    scales = [1, *[1] * (gates - 2), 1 / inputs, 1 / units, 1, 1]
    arrays = [(rng.uniform(-1, 1, s) * scale).astype(np.float32) for s, scale in zip(shapes, scales, strict=False)]
    forward, vjp = Op.registry[name].reference
    exact, saved = forward(*[a.astype(np.float64) for a in arrays])
    several = isinstance(exact, tuple)
    g = [rng.uniform(-1, 1, y.shape).astype(np.float32) for y in (exact if several else (exact,))]
    needs = (True,) * len(arrays)
    truth = vjp(tuple(p.astype(np.float64) for p in g) if several else g[0].astype(np.float64), *saved, needs=needs)

    def run():
        value, kept = KERNELS[name][0](*arrays)
        return (*(value if several else (value,)), *KERNELS[name][1](tuple(g) if several else g[0], *kept, needs=needs))

    rounding = 2**steps * (inputs + 16) * EPS
    for i, (found, expected) in enumerate(zip(host(run), (*(exact if several else (exact,)), *truth), strict=True)):
        summed = 1 if i < len(g) + gates - 1 else np.sqrt(n * steps)  # the gradients of weights: errors are random
        assert found.dtype == np.float32
        assert abs(found - expected).max() <= rounding * summed, i


def test_a_transposed_view_is_not_copied():
    rng = np.random.default_rng(1)
    x, w = whole(rng, 6, 9), whole(rng, 5, 9)
    assert_array_equal(host(lambda: KERNELS["dense"][0](x, w.T)[0]), x @ w.T)
    assert dense.matrix(w.T, False)[0].base is w or np.shares_memory(dense.matrix(w.T, False)[0], w)


@given(st.integers(0, 5000), st.integers(0, 100_000))
def test_a_sum_is_cut_into_parts_that_cover_it(tiles, K):
    parts, span = dense.cut(tiles, K)
    assert (parts - 1) * span < max(K, 1) <= parts * span
    assert parts == 1 or (parts * tiles <= dense.BLOCKS and span % dense.DEPTH == 0 and span >= 4 * dense.DEPTH)


def test_large_tiles_only_where_many_of_them_are_full():
    assert [dense.tile_of(*size) for size in [(128, 400), (1000, 784), (4096, 4096), (100_000, 40)]] == [64, 64, 128, 64]


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("K", [40, 300])  # one part, and several
def test_curved_activations_to_rounding(activation, K):
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=shape).astype(np.float32) / 4 for shape in [(9, K), (K, 11), (11,)]]
    g, exact = reference("dense", arrays, lambda shape: rng.normal(size=shape).astype(np.float32), {"activation": activation})
    x, w, b = (abs(a.astype(np.float64)) for a in arrays)
    h = (K + 8) * EPS * (x @ w + b) + 8 * EPS  # of y: slopes are at most 1
    gs = abs(g) * (3 * h + 8 * EPS)  # of g act'(y): d/dy of y (1 - y) and of 1 - y^2 is at most 2
    bounds = [
        h,
        gs @ w.T + (11 + 4) * EPS * (abs(g) @ w.T),
        x.T @ gs + (9 + 4) * EPS * (x.T @ abs(g)),
        gs.sum(0) + 13 * EPS * abs(g).sum(0),
    ]
    for result, expected, bound in zip(ours("dense", arrays, g, {"activation": activation}, "fp32"), exact, bounds, strict=True):
        assert (abs(result - expected) <= bound).all()


def test_tensor_cores_round_the_factors_to_ten_bits_and_nothing_else():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 60, 60)).astype(np.float32)

    def run():
        with at_precision("tf32"):
            return dense.gemm(a, b)

    error = abs(host(run) - a.astype(np.float64) @ b)
    magnitude = abs(a).astype(np.float64) @ abs(b)
    assert (error <= (2 * 2.0**-11 + 2.0**-22 + 64 * EPS) * magnitude).all()
    assert error.max() > 2.0**-14  # it does round


@st.composite
def convolutions(draw):
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = draw(st.tuples(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.tuples(st.integers(0, 2), st.integers(0, 2))))
    size = tuple(draw(st.integers(max(1, k - sum(p)), 8)) for k, p in zip(kernel, padding, strict=True))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return draw(st.integers(0, 3)), size, draw(st.integers(1, 5)), draw(st.integers(1, 5)), kernel, stride, padding


SIZES = {
    "dense": [(2, 3), (3, 4), (4,)],
    "matmul": [(2, 3, 4), (2, 4, 5)],
    "conv2d": [(2, 5, 5, 2), (3, 3, 2, 3), (3,)],
    "conv_transpose2d": [(2, 3, 3, 3), (3, 3, 2, 3), (2,)],
    "gru": [(2, 3, 4), (2, 5), (4, 15), (5, 15), (15,), (5,)],
    "lstm": [(2, 3, 4), (2, 5), (2, 5), (4, 20), (5, 20), (20,)],
}


@PRECISIONS
@pytest.mark.parametrize("name", SIZES)
def test_every_product_of_an_op_is_of_the_precision_asked_for(name, precision):
    rng = np.random.default_rng(7)
    arrays = [whole(rng, *shape) for shape in SIZES[name]]
    value, _ = Op.registry[name].reference[0](*arrays)
    g = tuple(np.ones_like(part) for part in value) if isinstance(value, tuple) else np.ones_like(value)
    del DEVICES[0].launches[:]
    ours(name, arrays, g, {}, precision)
    products = [kernel for kernel in DEVICES[0].launches if kernel.startswith(("gemm", "conv", "dense", "fold"))]
    assert len(products) >= 2
    assert {kernel[-4:] for kernel in products} == {precision}


@PRECISIONS
@settings(max_examples=10)
@given(convolutions(), st.booleans(), st.sampled_from([None, "relu"]), st.integers(0, 2**32))
@example((2, (28, 28), 1, 32, (4, 4), (2, 2), ((1, 1), (1, 1))), True, "relu", 0)  # the first layer of the convolutional workload
@example((3, (5, 6), 17, 33, (3, 2), (2, 3), ((0, 1), (2, 0))), True, None, 1)  # many taps
@example((2, (4, 4), 1, 1, (1, 1), (3, 3), ((0, 0), (0, 0))), True, None, 2)  # phases that no tap meets
def test_convolution_and_its_gradients_are_exact_on_whole_numbers(precision, geometry, biased, activation, seed):
    n, size, c, o, kernel, stride, padding = geometry
    rng = np.random.default_rng(seed)
    arrays = [whole(rng, n, *size, c), whole(rng, *kernel, c, o), whole(rng, o) if biased else None]
    options = {"stride": stride, "padding": padding, "activation": activation}
    assert_exact("conv2d", arrays, rng, options, precision)


@PRECISIONS
@settings(max_examples=10)
@given(convolutions(), st.booleans(), st.sampled_from([None, "relu"]), st.integers(0, 2**32))
@example((2, (14, 14), 3, 9, (4, 4), (2, 2), ((1, 1), (1, 1))), True, "relu", 0)
@example((2, (9, 8), 20, 12, (3, 3), (2, 2), ((1, 1), (1, 1))), True, "relu", 0)  # narrow tiles, four numbers at once
@example((2, (9, 8), 21, 11, (3, 3), (2, 2), ((1, 1), (1, 1))), True, "relu", 0)
def test_transposed_convolution_and_its_gradients_are_exact_on_whole_numbers(precision, geometry, biased, activation, seed):
    n, size, c, o, kernel, stride, padding = geometry
    rng = np.random.default_rng(seed)
    small = [(m + sum(p) - k) // s + 1 for m, k, s, p in zip(size, kernel, stride, padding, strict=True)]
    arrays = [whole(rng, n, *small, o), whole(rng, *kernel, c, o), whole(rng, c) if biased else None]
    options = {"stride": stride, "padding": padding, "size": size, "activation": activation}
    assert_exact("conv_transpose2d", arrays, rng, options, precision)


@PRECISIONS
@pytest.mark.parametrize(("channels", "outputs"), [(3, 4), (8, 12), (20, 12), (21, 11), (20, 21), (32, 28), (40, 44), (70, 71)])
def test_convolutions_of_many_channels(precision, channels, outputs):
    """Tiles of 16, 32 and 64 columns, and more than one; four numbers read at once, and one."""
    rng = np.random.default_rng(channels)
    arrays = [whole(rng, 2, 11, 9, channels), whole(rng, 3, 3, channels, outputs), whole(rng, outputs)]
    assert_exact("conv2d", arrays, rng, {"stride": 2, "padding": 1, "activation": "relu"}, precision)


@settings(max_examples=300)
@given(n=st.integers(0, 2**31 - 1), d=st.integers(1, 2**31 - 1))
@example(2**31 - 1, 1)
@example(2**31 - 1, 2**31 - 1)
@example(2**31 - 2, 2**31 - 1)
@example(2**31 - 1, 2**30 + 1)
@example(2**31 - 1, 3)
def test_division_by_a_product(n, d):
    """As geometry.cu divides, for every n and d that it may meet; and at the last n of a quotient and the first of the next."""
    m, shift = conv.divisor(d)
    assert m < 2**32
    for k in {n, n // d * d, min(n // d * d + d - 1, 2**31 - 1)}:
        assert (k + 1) * m >> 32 >> shift == k // d


def test_numbers_that_do_not_lie_at_multiples_of_16_bytes():
    """A view into an array, of sizes that could be read four at a time."""
    rng = np.random.default_rng(11)
    at = [whole(rng, 4 * 36 + 1)[1:].reshape(4, 36), whole(rng, 36 * 8 + 1)[1:].reshape(36, 8)]
    assert_array_equal(host(lambda: dense.gemm(*at)), at[0] @ at[1])
    x, w = whole(rng, 2 * 25 * 4 + 1)[1:].reshape(2, 5, 5, 4), whole(rng, 3 * 3 * 16 + 1)[1:].reshape(3, 3, 4, 4)
    assert_exact("conv2d", [x, w, None], rng, {"stride": 2, "padding": 1}, "fp32")


def test_what_is_not_needed_is_not_computed():
    x, w = np.ones((2, 5, 5, 1), np.float32), np.ones((3, 3, 1, 2), np.float32)
    saved = host(lambda: KERNELS["conv2d"][0](x, w))[1]
    g = np.ones((2, 3, 3, 2), np.float32)
    gx, gw, gb = host(lambda: KERNELS["conv2d"][1](g, *saved, needs=(False, True)))
    assert gx is None
    assert gb is None
    assert gw.shape == w.shape


def test_what_does_not_fit_is_said_in_the_words_of_the_reference():
    one = np.ones((2, 3), np.float32)
    with pytest.raises(ShapeError, match=r"dense: x is \(2, 3\), w is \(2, 3\)"):
        dense.dense_forward(one, one)
    with pytest.raises(UsageError, match="'gelu' cannot be fused"):
        dense.dense_forward(one, one.T, activation="gelu")
    with pytest.raises(ShapeError, match="conv2d: x is"):
        conv.conv2d_forward(one, one)


def test_more_pixels_than_an_index_can_count_are_refused():
    with pytest.raises(ShapeError, match=r"a convolution of \(65536, 256, 256, 1\) to .*: need fewer than 2\^31 pixels"):
        conv.Geometry(65536, 256, 256, 1, 3, 3, 1, (1, 1), ((1, 1), (1, 1)))
