"""The checker finds planted mistakes and names them."""

import numpy as np
import pytest

from minivae import ops, stop_gradient, use_backend
from minivae.gradcheck import assert_gradients, gradcheck
from minivae.ops.conv import conv2d_reference, conv2d_vjp, correlate_input_adjoint
from minivae.ops.dense import matmul_reference, matmul_vjp
from minivae.ops.densities import gaussian_kl_standard_reference, gaussian_kl_standard_vjp, reparameterize_reference

from .planted import noise, planted


def kl_without_half(g, *saved):
    gmean, glogvar = gaussian_kl_standard_vjp(g, *saved)
    return gmean, 2 * glogvar


def conv_off_by_one(g, x, w, y, stride, padding, activation, needs):
    _, gw, gb = conv2d_vjp(g, x, w, y, stride, padding, activation, needs)
    shifted = tuple((before + 1, after - 1) for before, after in padding)
    return correlate_input_adjoint(g, w, x.shape, stride, shifted), gw, gb


def matmul_forgets_transpose(g, a, b, needs):
    return g @ b, matmul_vjp(g, a, b, needs)[1]


def matmul_transposes_gradient(g, a, b, needs):
    ga, gb = matmul_vjp(g, a, b, needs)
    return ga, gb.T


def tanh_forward(x):
    y = np.tanh(x)
    return y, (y,)


def drops_imaginary(x):
    return np.tanh(x.real), ()


CONV_OFF_BY_ONE = planted(conv_off_by_one, conv2d_reference)
DATA_5x3 = noise(5, 3)
BUGS = {  # op, inputs, the variables that are wrong, what the report says of each
    "wrong sign": (planted(lambda g, y: (-g * (1 - y * y),), tanh_forward), [DATA_5x3], {"input 0": "is -1: the sign"}),
    "missing 1/2": (
        planted(kl_without_half, gaussian_kl_standard_reference),
        [DATA_5x3, noise(5, 3, seed=1)],
        {"input 1": "is 2: a factor 1/2 is missing"},
    ),
    "averaged twice": (
        planted(lambda g, n: (np.broadcast_to(g / n**2, (n,)),), lambda x: (x.mean(axis=0), (len(x),))),
        [noise(5)],
        {"input 0": "is 0.2: 1 / the batch size: averaged twice"},
    ),
    "a sum for a mean": (
        planted(lambda g, n: (np.broadcast_to(g, (n,)),), lambda x: (x.mean(axis=0), (len(x),))),
        [noise(5)],
        {"input 0": "is 5: the batch size"},
    ),
    "through a constant": (lambda x: ops.exp(stop_gradient(x.data)) + 0 * x, [noise(4)], {"input 0": "the gradient is missing"}),
    "no graph at all": (lambda x: ops.exp(x.data), [noise(4)], {"input 0": "the gradient is missing"}),
    "x through a constant": (lambda x: x * stop_gradient(x.data), [noise(4)], {"input 0": "is 0.5"}),
    "weight not transposed": (
        planted(matmul_forgets_transpose, matmul_reference),
        [noise(2, 3), noise(3, 3)],
        {"input 0": "no constant factor"},
    ),
    "gradient transposed": (
        planted(matmul_transposes_gradient, matmul_reference),
        [noise(2, 3), noise(3, 3)],
        {"input 1": "transpose of the right one"},
    ),
    "conv padding off by one": (
        lambda x, w: CONV_OFF_BY_ONE(x, w, None, stride=2, padding=1),
        [noise(2, 6, 6, 2), noise(3, 3, 2, 3)],
        {"input 0": "no constant factor"},
    ),
    "exp(logvar) for exp(logvar / 2)": (
        planted(lambda g, s, e: (g, g * s**2 * e / 2, g * s), reparameterize_reference),
        [noise(3, 2), noise(3, 2, seed=1), noise(3, 2, seed=2)],
        {"input 1": "no constant factor"},
    ),
    "a forward that a complex step cannot see": (planted(lambda g: (0 * g,), drops_imaginary), [noise(4)], {"input 0": "missing"}),
    "relu with slope -1 at 0": (
        planted(lambda g, x: (np.where(x > 0, g, np.where(x == 0, -g, 0)),), lambda x: (np.where(x.real > 0, x, 0 * x), (x.real,))),
        [np.array([-1.0, 0.0, 2.0])],
        {"input 0": ""},
    ),
    "a gradient where there is none": (planted(lambda g: (g,), lambda x: (np.ones_like(x.real), ())), [noise(4)], {"input 0": "is 0"}),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_and_named(bug):
    f, inputs, wrong = BUGS[bug]
    report = gradcheck(f, inputs)
    assert {row.name for row in report.wrong} == wrong.keys(), str(report)
    for row in report.wrong:
        assert wrong[row.name] in row.cause, str(report)
        assert f"{row.name}: {row.cause}" in str(report)
    assert "WRONG" in report.verdict()
    with pytest.raises(AssertionError, match="WRONG"):
        assert_gradients(f, *inputs)


def test_one_wrong_element_of_thousands_is_found_by_duality():
    def vjp(g, x):
        gx = 2 * g * x
        gx[70, 31] *= 0.5
        return (gx,)

    report = gradcheck(planted(vjp, lambda x: (x * x, (x,))), [noise(100, 90)], elements=5)
    assert not report.ok
    assert report.rows[0].duality > 1e-5 > report.rows[0].error
    assert gradcheck(ops.square, [noise(100, 90)], elements=5).ok


def test_a_complex_step_sees_what_differences_cannot():
    """Under 1e12 a difference quotient has no digits; the complex step has all of them."""
    wrong = planted(lambda g, x: (2.1 * g * x,), lambda x: (x * x, (x,)))
    (row,) = gradcheck(lambda x: wrong(x) + 1e12, [np.array([3.0])]).rows
    assert row.central_error > 0.01 * abs(row.central - row.analytic)
    assert "is 1.05 everywhere" in row.cause
    assert gradcheck(lambda x: ops.square(x) + 1e12, [np.array([3.0])]).ok


def test_a_wrong_fast_kernel_is_found_by_its_distance_from_float64():
    reference = (lambda x: (x * x, (x,))), (lambda g, x: (2 * g * x,))
    fast = reference[0], lambda g, x: (np.float32(2.01) * g * x,)
    inputs = [noise(6).astype(np.float32)]
    op = planted(reference[1], reference[0], fast)
    report = gradcheck(op, inputs)
    assert [row.verdict for row in report.rows] == ["WRONG"]
    assert "float32 kernels (numba) are 5e-03 away" in report.rows[0].cause
    with use_backend("numpy"):
        assert gradcheck(op, inputs).ok
    assert gradcheck(planted(reference[1], reference[0], reference), inputs).ok
