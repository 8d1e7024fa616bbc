"""Values against independent judges, SciPy and mpmath, where rounding is hardest: near cancellation, overflow and infinity."""

import mpmath as mp
import numpy as np
import pytest
import scipy.special
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minivae import ops, use_backend

from .laws import value
from .table import TABLE

UNIT, UNIT32 = np.finfo(np.float64).eps / 2, np.finfo(np.float32).eps / 2
DTYPES = (np.float32, np.float64)
BACKENDS = ("numpy", "numba")
INF = float("inf")


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    with use_backend(request.param):
        yield request.param


def run(op, *inputs, **options):
    """The op's value."""
    return op(*inputs, **options).data


def slope(op, x):
    """The op's derivative at every element of x, by its vjp."""
    forward, vjp = op.kernel([x])
    return vjp(np.ones_like(x), *forward(x)[1])[0]


def exactly(function, x):
    """mpmath's value of the numbers in x, as float64: the function is given exact numbers and 60 digits."""
    with mp.workdps(60):
        return np.array([float(function(mp.mpf(float(a)))) for a in x.ravel()]).reshape(x.shape)


def unit(dtype):
    return UNIT32 if dtype == np.float32 else UNIT


def assert_units(actual, exact, units, dtype):
    """At most `units` units of rounding from the exact value, or rounded to the same infinity; subnormal numbers have an absolute unit."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(exact).astype(dtype)
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, rounded, rtol=units * unit(dtype), atol=np.finfo(dtype).tiny)


# name: the judge and its domain
SCIPY = {
    "exp": (np.exp, -80, 80),
    "expm1": (np.expm1, -80, 80),
    "log": (np.log, 1e-30, 1e30),
    "log1p": (scipy.special.log1p, -0.99, 1e30),
    "sqrt": (np.sqrt, 0, 1e30),
    "sigmoid": (scipy.special.expit, -80, 80),
    "softplus": (lambda x: np.logaddexp(0, x), -80, 80),
    "tanh": (np.tanh, -80, 80),
    "silu": (lambda x: x * scipy.special.expit(x), -80, 80),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), -80, 80),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SCIPY)
def test_functions_over_their_domain(name, dtype):
    judge, low, high = SCIPY[name]
    grid = np.concatenate([np.linspace(low, high, 999), np.geomspace(1e-12, 0.5, 99) * (-1 if low < 0 else 1), np.linspace(0.01, 3, 99)])
    x = grid.astype(dtype)
    assert_units(run(getattr(ops, name), x), judge(x.astype(np.float64)), 8, dtype)


@given(
    x=hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), elements=st.floats(-800, 800)),
    data=st.data(),
)
def test_softmax_and_logsumexp_like_scipy(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    close = {"rtol": 16 * UNIT, "atol": 16 * UNIT * abs(x).max()}  # x - max x is rounded in units of max |x|
    np.testing.assert_allclose(run(ops.logsumexp, x, axis=axis), scipy.special.logsumexp(x, axis=axis), **close)
    np.testing.assert_allclose(run(ops.logsumexp, x), scipy.special.logsumexp(x), **close)
    np.testing.assert_allclose(run(ops.softmax, x, axis=axis), scipy.special.softmax(x, axis=axis), **close)
    np.testing.assert_allclose(run(ops.log_softmax, x, axis=axis), scipy.special.log_softmax(x, axis=axis), **close)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logsumexp_of_extremes(dtype):
    big = 0.75 * np.finfo(dtype).max
    rows = np.array([[-INF, -INF], [-INF, 3], [INF, 3], [INF, -INF], [big, big], [-big, -big], [1e4, 1e4], [-1e4, -1e4]], dtype)
    expected = np.array([-INF, 3, INF, INF, big, -big, 1e4 + np.log(2), -1e4 + np.log(2)])
    assert_units(run(ops.logsumexp, rows, axis=1), expected, 2, dtype)
    finite = rows[[0, 1, 4, 5, 6, 7]]
    forward, vjp = ops.logsumexp.kernel([finite])
    (g,) = vjp(np.ones(6, dtype), *forward(finite, axis=1)[1])
    np.testing.assert_array_equal(g, [[0, 0], [0, 1], *[[0.5, 0.5]] * 4])


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_extremes(dtype):
    x = np.array([[-INF, 0, 0], [1e4, -1e4, 1e4]], dtype)
    np.testing.assert_array_equal(run(ops.softmax, x), [[0, 0.5, 0.5], [0.5, 0, 0.5]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_at_the_limits(dtype):
    x = np.array([-INF, -1e4, 1e4, INF], dtype)
    for op, limits, slopes in (
        (ops.relu, [0, 0, 1e4, INF], [0, 0, 1, 1]),
        (ops.softplus, [0, 0, 1e4, INF], [0, 0, 1, 1]),
        (ops.sigmoid, [0, 0, 1, 1], [0, 0, 0, 0]),
        (ops.tanh, [-1, -1, 1, 1], [0, 0, 0, 0]),
        (ops.elu, [-1, -1, 1e4, INF], [0, 0, 1, 1]),
        (ops.leaky_relu, [-INF, -100, 1e4, INF], [0.01, 0.01, 1, 1]),
    ):
        np.testing.assert_allclose(run(op, x), limits, rtol=2 * unit(dtype), err_msg=op.name)
        np.testing.assert_allclose(slope(op, x), slopes, rtol=2 * unit(dtype), err_msg=op.name)
    np.testing.assert_array_equal(run(ops.silu, x[1:3]), [0, 1e4])
    np.testing.assert_array_equal(slope(ops.silu, x[1:3]), [0, 1])
    np.testing.assert_array_equal(run(ops.dense, x[1:3, None], np.ones((1, 1), dtype), activation="relu")[:, 0], [0, 1e4])


@pytest.mark.parametrize("dtype", DTYPES)
def test_maximum_of_infinities(dtype):
    big = np.finfo(dtype).max
    a, b = np.array([INF, -INF, big, INF], dtype), np.array([-INF, INF, big, INF], dtype)
    np.testing.assert_array_equal(run(ops.maximum, a, b), [INF, INF, big, INF])
    np.testing.assert_array_equal(run(ops.minimum, a, b), [-INF, -INF, big, INF])


@pytest.mark.parametrize("dtype", DTYPES)
def test_maximum_shares_a_tie(dtype):
    a, b = np.array([1, 2, 3], dtype), np.array([2, 2, 2], dtype)
    for op in (ops.maximum, ops.minimum):
        forward, vjp = op.kernel([a, b])
        ga, gb = vjp(np.ones_like(a), *forward(a, b)[1])
        np.testing.assert_array_equal(ga + gb, 1)
        assert ga[1] == gb[1] == 0.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_and_its_kin_at_the_kink(dtype):
    """One of the two one-sided slopes, and never a NaN."""
    x = np.zeros(1, dtype)
    for op, left in ((ops.relu, 0), (ops.leaky_relu, 0.01), (ops.elu, 1), (ops.absolute, 0)):
        np.testing.assert_array_equal(slope(op, x), np.array([left], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli_far_out(dtype):
    """log p(x) = -l (1 - x) as l -> inf, and l x as l -> -inf."""
    logits = np.array([1e4, 1e4, 1e4, -1e4, -1e4, -1e4], dtype)
    x = np.array([1, 0, 0.25, 0, 1, 0.25], dtype)
    value = run(ops.bernoulli_log_prob, logits, x, event_ndim=0)
    np.testing.assert_array_equal(value, np.array([0, -1e4, -7500, 0, -1e4, -2500], dtype))
    forward, vjp = ops.bernoulli_log_prob.kernel([logits, x])
    glogits, gx = vjp(np.ones_like(logits), *forward(logits, x, event_ndim=0)[1], needs=(True, True))
    np.testing.assert_allclose(glogits, x - (logits > 0))
    np.testing.assert_array_equal(gx, logits)


@given(l=st.floats(-110, 110, width=32), x=st.floats(0, 1, width=32))
def test_bernoulli_like_mpmath(l, x):
    exact = exactly(lambda l: mp.mpf(x) * l - mp.log1p(mp.exp(l)), np.array([l]))
    terms = abs(x * l) + np.logaddexp(0, l)
    for dtype in DTYPES:
        value = run(ops.bernoulli_log_prob, np.array([l], dtype), np.array([x], dtype), event_ndim=0)
        assert value.dtype == dtype
        assert abs(value - exact) <= 4 * unit(dtype) * terms + np.finfo(dtype).tiny


def remainder(x):
    return mp.expm1(x) - x


GRID = np.concatenate([np.linspace(-104, 88, 1543), np.linspace(-0.6, 0.6, 483), *(s * np.geomspace(1e-18, 1, 99) for s in (-1, 1))])


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_remainder_is_right_to_rounding_everywhere(dtype):
    """At |x| = 1/2, where the direct formula takes over, |expm1 x| / y is up to 4.4: some 10 units of a difference that cancels."""
    x = GRID.astype(dtype)
    assert_units(run(ops.exp_remainder, x), exactly(remainder, x), 16, dtype)
    assert_units(slope(ops.exp_remainder, x), exactly(mp.expm1, x), 4, dtype)


def test_exp_remainder_overflows_to_infinity_only():
    x = np.array([88.5, 89, 104, INF], np.float32)
    assert_units(run(ops.exp_remainder, x), exactly(remainder, x), 4, np.float32)
    assert run(ops.exp_remainder, np.array([-INF], np.float32)) == INF


@given(logvar=st.floats(-104, 104, width=32), mean=st.floats(-5, 5, width=32))
def test_gaussian_kl_like_mpmath(logvar, mean):
    m = mp.mpf(mean)
    for dtype in DTYPES:
        inputs = np.array([mean], dtype), np.array([logvar], dtype)
        exact = exactly(lambda l: (m * m + remainder(l)) / 2, inputs[1])
        assert_units(run(ops.gaussian_kl_standard, *inputs, event_ndim=0), exact, 16, dtype)
        forward, vjp = ops.gaussian_kl_standard.kernel(inputs)
        gmean, glogvar = vjp(np.ones(1, dtype), *forward(*inputs, event_ndim=0)[1])
        assert_units(gmean, inputs[0], 2, dtype)
        assert_units(glogvar, exactly(lambda l: mp.expm1(l) / 2, inputs[1]), 4, dtype)


@pytest.mark.parametrize("logvar", [1e-5, -1e-5, 1e-4, 1e-7])
def test_gaussian_kl_does_not_cancel(logvar):
    l = np.array([logvar], np.float32)
    exact = exactly(lambda l: remainder(l) / 2, l)
    np.testing.assert_allclose(run(ops.gaussian_kl_standard, np.zeros_like(l), l), exact[0], rtol=1e-6)


@given(logvar=st.floats(-104, 104, width=32), x=st.floats(-5, 5, width=32), mean=st.floats(-5, 5, width=32))
def test_gaussian_log_prob_like_mpmath(logvar, x, mean):
    """Each term rounded: 4 units and, for the exponential of -l/2, whose argument is rounded too, |l|/2 units, twice for the square."""
    for dtype in DTYPES:
        inputs = tuple(np.array([a], dtype) for a in (x, mean, logvar))
        with mp.workdps(60):
            square = (mp.mpf(x) - mp.mpf(mean)) ** 2 * mp.exp(-mp.mpf(logvar))
            exact = -(square + mp.mpf(logvar) + mp.log(2 * mp.pi)) / 2
            terms = float(square + abs(logvar) + 2)
        value = run(ops.gaussian_log_prob, *inputs, event_ndim=0)
        assert value.dtype == dtype
        if terms > float(np.finfo(dtype).max):
            assert value == -INF
        else:
            assert abs(value - float(exact)) <= 8 * unit(dtype) * terms
        forward, vjp = ops.gaussian_log_prob.kernel(inputs)
        for part in vjp(np.ones(1, dtype), *forward(*inputs, event_ndim=0)[1]):
            assert not np.isnan(part)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("logvar", [-104, 104])
def test_reparameterize_at_extreme_variances(dtype, logvar):
    l, eps = np.full(3, logvar, dtype), np.array([-2, 0, 2], dtype)
    assert_units(run(ops.reparameterize, np.zeros(3, dtype), l, eps), eps * exactly(lambda l: mp.exp(l / 2), l), 4, dtype)


LOGITS = np.concatenate([[0.0], *(s * np.geomspace(1e-8, 1e4, 397) for s in (-1, 1)), *(s * np.linspace(0.4, 0.6, 41) for s in (-1, 1))])


@pytest.mark.parametrize("dtype", DTYPES)
def test_continuous_bernoulli_normalizer_like_mpmath(dtype):
    x = LOGITS.astype(dtype)
    exact = exactly(lambda l: mp.log(l / mp.tanh(l / 2)) if l else mp.log(2), x)
    assert_units(run(ops.continuous_bernoulli_log_normalizer, x), exact, 8, dtype)
    # 1/l - 1/sinh l at l = 1/2 is 2 - 1.92, each rounded by two units: a loss of 25 times
    assert_units(slope(ops.continuous_bernoulli_log_normalizer, x), exactly(lambda l: 1 / l - mp.csch(l) if l else 0, x), 100, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_gamma_like_mpmath(dtype):
    """(x - 1/2) log z and z, z = max(x, x + 8) or so, are each rounded by two units; digamma's terms are 1 / x and log x."""
    x = np.concatenate([np.geomspace(1e-8, 1e6, 797), np.linspace(0.9, 2.1, 241), np.linspace(7.9, 8.1, 41)]).astype(dtype)
    terms = abs((x - 0.5) * np.log(x + 8)) + x + 9 + abs(np.log(x))
    error = abs(run(ops.log_gamma, x) - exactly(mp.loggamma, x))
    assert (error <= 8 * unit(dtype) * terms).all()
    error = abs(slope(ops.log_gamma, x) - exactly(mp.digamma, x))
    assert (error <= 8 * unit(dtype) * (1 / x + abs(np.log(x)) + 2)).all()


def beta_binomial_by_hand(la, lb, k, n):
    a, b = mp.exp(mp.mpf(la)), mp.exp(mp.mpf(lb))
    return mp.log(mp.binomial(n, k)) + mp.log(mp.beta(k + a, n - k + b)) - mp.log(mp.beta(a, b))


@example(la=-800.0, lb=0.0, k=0)  # a is 0, and no logarithm may be taken of it
@given(la=st.floats(-80, 30, width=32), lb=st.floats(-80, 30, width=32), k=st.integers(0, 255))
def test_beta_binomial_like_mpmath(la, lb, k):
    """Whatever the parameters: the terms of the value add up to n and the logs, and not to six log Gamma of e^30."""
    with mp.workdps(80):
        exact = float(beta_binomial_by_hand(la, lb, k, 255))
        rises = [mp.diff(lambda l, i=i: beta_binomial_by_hand(*((l, lb) if i == 0 else (la, l)), k, 255), (la, lb)[i]) for i in (0, 1)]
    terms = abs(exact) + abs(la) + abs(lb) + 255
    for dtype in DTYPES:
        inputs = np.array([la], dtype), np.array([lb], dtype), np.array([k], dtype)
        assert abs(run(ops.beta_binomial_log_prob, *inputs, event_ndim=0) - exact) <= 16 * unit(dtype) * terms
        forward, vjp = ops.beta_binomial_log_prob.kernel(inputs)
        found = vjp(np.ones(1, dtype), *forward(*inputs, event_ndim=0)[1])
        for g, rise in zip(found[:2], rises, strict=True):
            assert abs(g - float(rise)) <= 16 * unit(dtype) * (255 + abs(float(rise)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_beta_binomial_adds_up_to_one(dtype):
    """Over all 256 values, by enumeration."""
    l = np.linspace(-8, 12, 11).astype(dtype)
    la, lb = (a.reshape(-1, 1) for a in np.meshgrid(l, l))
    value = run(ops.beta_binomial_log_prob, la, lb, np.arange(256).astype(dtype), event_ndim=0)
    np.testing.assert_allclose(np.exp(value.astype(float)).sum(axis=1), 1, rtol=16 * unit(dtype) * 300)


ELEMENTWISE = [
    name
    for name, entry in TABLE.items()
    if len(entry.corners) >= 3 and entry.corners[0][0] == () and name not in ("where", "sample_and_kl")
]
SHAPED = ("sum", "mean", "logsumexp", "reshape", "transpose", "broadcast_to")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_nan_is_not_swallowed(name, dtype):
    """A NaN in any input is a NaN in the value, and in every gradient that depends on it."""
    entry = TABLE[name]
    shapes = ((3,),) * len(entry.corners[0])
    for seed in range(4):
        case = entry.case(name, shapes, seed)
        if case.options.get("exponent") == 0 or case.options.get("event_ndim") == 1 or name in SHAPED:
            continue  # NaN^0 = 1, as IEEE 754 has it
        for poisoned in range(len(shapes)):
            inputs = [a.astype(dtype) for a in case.inputs]
            inputs[poisoned][1] = np.nan
            (y,) = value(case, inputs)
            np.testing.assert_array_equal(np.isnan(y), [False, True, False], err_msg=str(poisoned))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "logsumexp", "softmax", "log_softmax"])
def test_nan_reaches_its_whole_row(name, dtype):
    x = np.array([[1, 2, 3], [1, np.nan, 3]], dtype)
    found = np.isnan(run(getattr(ops, name), x, axis=1)).reshape(2, -1)
    np.testing.assert_array_equal(found, [[False] * found.shape[1], [True] * found.shape[1]])


def test_nan_passes_through_fused_activations():
    x = np.array([[np.nan]], np.float32)
    for activation in (None, "relu", "tanh", "sigmoid"):
        assert np.isnan(run(ops.dense, x, x, activation=activation)).all()
        assert np.isnan(run(ops.conv2d, x[None, None], x[None, None], activation=activation)).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_gradients_of_sections_are_joined_without_a_copy_only_where_they_lie(axis):
    whole = np.arange(24.0).reshape(4, 6).copy()
    parts = np.split(whole, 2, axis)
    vjp = ops.split.reference[1]
    assert vjp(tuple(parts), axis)[0] is whole
    for others in ((parts[1], parts[0]), (parts[0], parts[0]), tuple(np.split(whole, 2, 1 - axis)), (parts[0].copy(), parts[1])):
        np.testing.assert_array_equal(vjp(others, axis)[0], np.concatenate(others, axis))
