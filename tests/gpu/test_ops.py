"""Every elementwise, row and column kernel, run on the CPU, against the float64 reference of its op.

A bound is `roundings * eps * magnitude`: magnitude is what the sum or product would be with every term positive, roundings how many
operations a number passes through, each good to 2 units in the last place (the CUDA manual promises 2 for expf, expm1f, log1pf, tanhf).
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minivae.engine import Op
from minivae.kernels.gpu import KERNELS, launcher

from .host import host, needs_compiler, same_bits

pytestmark = needs_compiler

EPS = 2.0**-24
sigmoid = Op.registry["sigmoid"].reference[0]


def logistic(x):
    return sigmoid(x)[0]


@dataclass
class Case:
    """draw(rng, shape) -> arrays;  value(*arrays) and gradient(g, *arrays) -> magnitudes of the results, times roundings."""

    draw: object
    value: object
    gradient: object
    options: tuple = ({},)
    least_ndim: int = 1


def one(rng, shape):
    return [rng.normal(size=shape) * 3]


def rounded(arrays):
    return [np.asarray(a, np.float32) for a in arrays]


def elementwise(value=lambda x: 0, gradient=lambda g, x: 0, options=({},)):
    """8 roundings relative to the result itself, plus what is given."""
    return Case(one, lambda x, **_: [value(x)], lambda g, x, **_: [gradient(g, x)], options)


def bernoulli_draw(rng, shape):
    return [rng.normal(size=shape) * 8, rng.uniform(size=shape)]


def rows(f):
    """Summed over the event: as many roundings more as there are columns."""

    def of_rows(*arrays, event_ndim=1):
        terms = np.asarray(f(*arrays))
        axes = tuple(range(terms.ndim - event_ndim, terms.ndim))
        return [terms.sum(axis=axes) * (np.prod([terms.shape[a] for a in axes]) + 16)]

    return of_rows


def spread_back(g, x, event_ndim):
    return abs(g).reshape(g.shape + (1,) * event_ndim) * np.ones_like(x)


def bernoulli_value(logits, x):
    return abs((x - (logits > 0)) * logits) + np.log1p(np.exp(-abs(logits)))


def bernoulli_gradient(g, logits, x, event_ndim=1):
    g = spread_back(g, x, event_ndim)
    return [8 * g * (abs(x) + logistic(logits)), g * abs(logits)]


def kl_value(mean, logvar):
    return mean**2 + np.where(abs(logvar) < 0.5, logvar**2, abs(np.expm1(logvar)) + abs(logvar))


def kl_gradient(g, mean, logvar, event_ndim=1):
    g = spread_back(g, mean, event_ndim)
    return [8 * g * abs(mean), 8 * g * abs(np.expm1(logvar))]


def gaussian_value(x, mean, logvar):
    return 8 * ((x - mean) ** 2 * np.exp(-logvar) + abs(logvar) + 1.84)


def gaussian_gradient(g, x, mean, logvar, event_ndim=1):
    g = spread_back(g, x, event_ndim)
    first = 10 * g * abs(x - mean) * np.exp(-logvar)
    return [first, first, 10 * g * ((x - mean) ** 2 * np.exp(-logvar) + 1)]


def softmax_work(x, axis):
    """Roundings of a number of a softmax: x - max is off by eps |x - max|, and so is log of the result."""
    return 2 * (np.ptp(x, axis=axis, keepdims=True) + x.shape[axis] + 8) if x.size else x


def softmax_value(x, axis=-1):
    y = Op.registry["softmax"].reference[0](x, axis)[0]
    return [softmax_work(x, axis) * y]


def softmax_gradient(g, x, axis=-1):
    y = Op.registry["softmax"].reference[0](x, axis)[0]
    return [2 * softmax_work(x, axis) * y * (abs(g) + (abs(g) * y).sum(axis=axis, keepdims=True))]


def log_softmax_value(x, axis=-1):
    return [softmax_work(x, axis) * np.ones_like(x)]


def log_softmax_gradient(g, x, axis=-1):
    y = Op.registry["softmax"].reference[0](x, axis)[0]
    return [8 * abs(g) + softmax_work(x, axis) * y * abs(g).sum(axis=axis, keepdims=True) * 2]


def logsumexp_axes(x, axis):
    return tuple(range(x.ndim)) if axis is None else axis


def logsumexp_value(x, axis=None, keepdims=False):
    axes = logsumexp_axes(x, axis)
    count = x.size // max(1, np.prod(x.sum(axis=axes).shape, dtype=int))
    return [(2 * (np.ptp(x, axis=axes, keepdims=keepdims) + count + 8) + 4 * abs(x).max(axis=axes, keepdims=keepdims))]


def logsumexp_gradient(g, x, axis=None, keepdims=False):
    """Like the numbers of a softmax: however large x is, only its distance from the largest counts."""
    axes = logsumexp_axes(x, axis)
    y = Op.registry["logsumexp"].reference[0](x, axis, True)[0]
    count = x.size // max(1, y.size)
    return [2 * (np.ptp(x, axis=axes, keepdims=True) + count + 8) * abs(g).reshape(y.shape) * np.exp(x - y)]


def batch_norm_draw(rng, shape):
    scale = rng.uniform(0.5, 2, shape[-1:])
    return [rng.normal(size=shape) * scale + rng.normal(size=shape[-1:]), rng.normal(size=shape[-1:]), rng.normal(size=shape[-1:])]


def batch_norm_parts(x, eps=1e-5):
    axes = tuple(range(x.ndim - 1))
    inverse = 1 / np.sqrt(x.var(axis=axes) + eps)
    n = x.size // x.shape[-1]
    # the mean is off by n eps max|x|, and the normalized numbers by that over sigma; the variance by its square beside
    largest = abs(x).max(axis=axes)
    return axes, inverse, n, (n + 16) * (1 + largest * inverse) ** 2, largest


def batch_norm_value(x, gamma, beta, eps=1e-5):
    axes, inverse, n, work, largest = batch_norm_parts(x, eps)
    normal = abs(x - x.mean(axis=axes)) * inverse
    return [4 * work * ((1 + normal) * abs(gamma) + abs(beta)), (n + 4) * largest, 4 * work / inverse**2]


def batch_norm_gradient(g, x, gamma, beta, eps=1e-5):
    gy, gmean, gvar = g
    axes, inverse, n, work, largest = batch_norm_parts(x, eps)
    normal = 1 + abs(x - x.mean(axis=axes)) * inverse
    inner = abs(gy) + abs(gy).mean(axis=axes) + normal * (abs(gy) * normal).mean(axis=axes)
    gx = inverse * abs(gamma) * inner + abs(gmean) / n + abs(gvar) * 2 / n * (largest + abs(x))
    return [8 * work * gx, 4 * work * (abs(gy) * normal).sum(axis=axes), work * abs(gy).sum(axis=axes)]


def gaussians(count):
    return lambda rng, shape: [rng.normal(size=shape) for _ in range(count)]


EVENTS = ({}, {"event_ndim": 0}, {"event_ndim": 2})
CASES = {
    "relu": elementwise(),
    "leaky_relu": elementwise(options=({}, {"slope": 0.2})),
    "elu": elementwise(lambda x: 0, lambda g, x: 8 * abs(g), ({}, {"alpha": 0.5})),
    "silu": elementwise(lambda x: 0, lambda g, x: 8 * abs(g) * logistic(x) * (1 + abs(x))),
    "tanh": elementwise(lambda x: 0, lambda g, x: 8 * abs(g)),
    "sigmoid": elementwise(lambda x: 0, lambda g, x: 8 * abs(g)),
    "softplus": elementwise(),
    "softmax": Case(one, softmax_value, softmax_gradient, ({}, {"axis": 0})),
    "log_softmax": Case(one, log_softmax_value, log_softmax_gradient, ({}, {"axis": 0})),
    "logsumexp": Case(one, logsumexp_value, logsumexp_gradient, ({}, {"axis": 0}, {"axis": (-1,), "keepdims": True})),
    "bernoulli_log_prob": Case(bernoulli_draw, rows(bernoulli_value), bernoulli_gradient, EVENTS, 2),
    "gaussian_kl_standard": Case(gaussians(2), rows(kl_value), kl_gradient, EVENTS, 2),
    "gaussian_log_prob": Case(gaussians(3), rows(gaussian_value), gaussian_gradient, EVENTS, 2),
    "reparameterize": Case(
        gaussians(3),
        lambda mean, logvar, eps: [8 * (abs(mean) + abs(eps) * np.exp(logvar / 2))],
        lambda g, mean, logvar, eps: [0, 8 * abs(g * eps) * np.exp(logvar / 2), 8 * abs(g) * np.exp(logvar / 2)],
    ),
    "batch_norm": Case(batch_norm_draw, batch_norm_value, batch_norm_gradient, ({}, {"eps": 0.1})),
}


def cotangent(rng, value):
    if isinstance(value, tuple):
        return tuple(cotangent(rng, v) for v in value)
    return np.asarray(rng.normal(size=value.shape), np.float32)


def assert_close(results, references, magnitudes, what):
    assert len(results) == len(references)
    for i, (ours, exact, magnitude) in enumerate(zip(results, references, magnitudes, strict=True)):
        if exact is None or ours is None:
            assert exact is None
            assert ours is None
            continue
        assert ours.dtype == np.float32
        assert ours.shape == np.shape(exact)
        bound = EPS * (8 * abs(exact) + magnitude) + 1e-37  # below 1e-37 float32 has fewer digits
        worst = np.max(abs(ours - exact) / bound, initial=0)
        assert worst <= 1, f"{what} {i} is off by {worst:.3g} times its bound"


def pieces(value):
    return value if isinstance(value, tuple) else (value,)


def double(g):
    return tuple(double(part) for part in g) if isinstance(g, tuple) else g.astype(np.float64)


SHAPES = st.lists(st.integers(1, 40), min_size=2, max_size=3).map(tuple)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=8)
@given(shape=SHAPES, seed=st.integers(0, 2**32), option=st.integers(0, 2))
@example(shape=(1, 1), seed=0, option=0)
@example(shape=(3, 1025), seed=1, option=0)  # a block a row, where a warp would be too slow
@example(shape=(2, 33), seed=2, option=0)
@example(shape=(700, 3), seed=3, option=0)  # several parts a column
def test_kernel_agrees_with_the_reference(name, shape, seed, option):
    case = CASES[name]
    options = case.options[option % len(case.options)]
    rng = np.random.default_rng(seed)
    if name == "batch_norm" and np.prod(shape[:-1]) < 2:
        shape = (2, *shape)
    arrays = rounded(case.draw(rng, shape))
    exact_inputs = [a.astype(np.float64) for a in arrays]
    forward, vjp = Op.registry[name].reference
    exact, exact_saved = forward(*exact_inputs, **options)
    g = cotangent(rng, exact)
    needs = {"needs": (True,) * len(arrays)} if Op.registry[name].takes_needs else {}
    exact_gradients = vjp(double(g), *exact_saved, **needs)

    def ours():
        value, saved = KERNELS[name][0](*arrays, **options)
        return pieces(value), tuple(KERNELS[name][1](g, *saved, **needs))

    values, gradients = host(ours)
    assert_close(values, pieces(exact), case.value(*exact_inputs, **options), "value")
    assert_close(gradients, exact_gradients, case.gradient(double(g), *exact_inputs, **options), "gradient")


@pytest.mark.parametrize("name", CASES)
def test_a_grid_smaller_than_the_array_goes_round_again(monkeypatch, name):
    """Large arrays have more numbers than a grid has threads: here the grid is one block, and the result must not change."""
    rng = np.random.default_rng(10)
    arrays = rounded(CASES[name].draw(rng, (35, 20)))
    needs = {"needs": (True,) * len(arrays)} if Op.registry[name].takes_needs else {}

    def run():
        value, saved = KERNELS[name][0](*arrays)
        g = tuple(np.ones_like(v) for v in value) if isinstance(value, tuple) else np.ones_like(value)
        return [*pieces(value), *KERNELS[name][1](g, *saved, **needs)]

    whole = host(run)
    monkeypatch.setattr(launcher, "spread", lambda n: (1,) if n else (0,))
    assert same_bits(host(run), whole)


EXTREMES = np.array([0.0, -0.0, 1e-30, -1e-30, 17.0, -17.0, 89.0, -89.0, 1e30, -1e30], np.float32)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "silu", "tanh", "sigmoid", "softplus"])
def test_far_out_values_are_those_of_the_reference(name):
    value = host(lambda: KERNELS[name][0](EXTREMES)[0])
    exact = Op.registry[name].reference[0](EXTREMES.astype(np.float64))[0]
    np.testing.assert_allclose(value, exact, rtol=8 * EPS, atol=1e-37)


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "elu", "silu", "tanh", "sigmoid", "softplus", "softmax", "log_softmax", "logsumexp"]
)
def test_nan_is_not_swallowed(name):
    assert np.isnan(host(lambda: KERNELS[name][0](np.full((2, 3), np.nan, np.float32))[0])).all()


def test_log_of_nothing_and_of_everything():
    x = np.array([[-np.inf, -np.inf], [np.inf, 0], [-np.inf, 1], [1e4, 1e4]], np.float32)
    y, gx = host(lambda: run_logsumexp(x))
    np.testing.assert_allclose(y, [-np.inf, np.inf, 1, 1e4 + np.log(2)], rtol=4 * EPS)
    np.testing.assert_allclose(gx[[0, 2, 3]], [[0, 0], [0, 1], [0.5, 0.5]], rtol=1e-3)


def run_logsumexp(x):
    y, saved = KERNELS["logsumexp"][0](x, axis=-1)
    return y, KERNELS["logsumexp"][1](np.ones_like(y), *saved)[0]


def test_the_gradient_of_a_sum_of_tiny_numbers_keeps_its_digits():
    x = (np.random.default_rng(9).normal(size=(3, 50)) - 5000).astype(np.float32)
    _, gx = host(lambda: run_logsumexp(x))
    e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(gx, e / e.sum(axis=1, keepdims=True), rtol=100 * EPS)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_empty_arrays_give_what_the_reference_gives(name, shape):
    if name == "batch_norm" or (name in ("softmax", "log_softmax", "logsumexp") and shape[-1] == 0):
        pytest.skip("has no value for nothing")
    arrays = rounded(CASES[name].draw(np.random.default_rng(0), shape))
    options = {"axis": -1} if name == "logsumexp" else {}
    value, _ = Op.registry[name].reference[0](*arrays, **options)
    ours = host(lambda: KERNELS[name][0](*arrays, **options)[0])
    np.testing.assert_array_equal(ours, value)
    assert ours.shape == value.shape


@pytest.mark.parametrize("name", ["bernoulli_log_prob", "gaussian_log_prob", "gaussian_kl_standard", "reparameterize"])
def test_inputs_of_several_shapes_are_broadcast(name):
    rng = np.random.default_rng(4)
    arrays = rounded(CASES[name].draw(rng, (4, 5)))
    arrays[1] = arrays[1][:1].copy()
    exact, _ = Op.registry[name].reference[0](*[a.astype(np.float64) for a in arrays])
    np.testing.assert_allclose(host(lambda: KERNELS[name][0](*arrays)[0]), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["relu", "silu", "softplus", "logsumexp"])
def test_a_single_number_without_axes(name):
    x = np.array(0.3, np.float32)
    exact, saved = Op.registry[name].reference[0](x.astype(np.float64))
    (slope,) = Op.registry[name].reference[1](np.array(2.0), *saved)

    def run():
        value, kept = KERNELS[name][0](x)
        return value, KERNELS[name][1](np.array(2.0, np.float32), *kept)[0]

    for ours, truth in zip(host(run), (exact, slope), strict=True):
        assert ours.shape == ()
        np.testing.assert_allclose(ours, truth, rtol=8 * EPS)


def test_numbers_beside_an_array_without_axes():
    x = np.array(0.3, np.float32)
    found = host(lambda: KERNELS["gaussian_log_prob"][0](x, 0.0, 0.0, 0)[0])
    assert found.shape == ()
    np.testing.assert_allclose(found, -(0.3**2 + np.log(2 * np.pi)) / 2, rtol=8 * EPS)


def test_a_transposed_gradient_is_read_in_its_own_order():
    x = np.random.default_rng(5).normal(size=(4, 6)).astype(np.float32)
    g = np.random.default_rng(6).normal(size=(6, 4)).astype(np.float32).T
    (gx,) = host(lambda: KERNELS["relu"][1](g, *KERNELS["relu"][0](x)[1]))
    np.testing.assert_array_equal(gx, np.where(x > 0, g, 0))
