"""Second derivatives against mpmath, closed forms, nested complex steps and differences; planted bugs of the second order."""

import mpmath
import numpy as np
import pytest

from minivae import VAE, Stream, Tensor, elbo, ops
from minivae.errors import ShapeError, UsageError
from minivae.gradcheck import frozen, gradcheck, hessian, hessian_vector_product, second_order_check

from .planted import noise, planted


def test_hessian_of_a_quadratic_form_is_its_matrix():
    a = noise(6, 6)
    h = hessian(lambda x: (ops.reshape(x, (6,)) @ a * ops.reshape(x, (6,))).sum() * 0.5, noise(2, 3))
    np.testing.assert_allclose(h, (a + a.T) / 2, rtol=1e-14, atol=1e-15)


SECOND = {  # f'' by mpmath at 40 digits
    "exp": (ops.exp, mpmath.exp),
    "tanh": (ops.tanh, mpmath.tanh),
    "sigmoid": (ops.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x))),
    "softplus": (ops.softplus, lambda x: mpmath.log(1 + mpmath.exp(x))),
    "silu": (ops.silu, lambda x: x / (1 + mpmath.exp(-x))),
    "log C": (ops.continuous_bernoulli_log_normalizer, lambda x: mpmath.log(x / mpmath.tanh(x / 2))),
    "exp remainder": (ops.exp_remainder, lambda x: mpmath.exp(x) - 1 - x),
}


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_are_exact_to_rounding(name):
    op, exact = SECOND[name]
    x = np.array([-3.7, -0.9, -0.3, 0.2, 0.8, 4.1])
    (product,) = hessian_vector_product(lambda x: op(x).sum(), x, np.ones(6))
    with mpmath.workdps(40):
        wanted = [float(mpmath.diff(exact, mpmath.mpf(float(t)), 2)) for t in x]
    np.testing.assert_allclose(product, wanted, rtol=2e-13)  # half a dozen roundings, amplified by 1 - tanh(3.7)^2 = 2e-3


@pytest.mark.parametrize("head", ["logvar", "log_sigma"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli", "gaussian", "laplace"])
@pytest.mark.parametrize("arch", ["dense", "conv"])
def test_second_order_of_a_whole_vae(arch, likelihood, head):
    size = (4, 5, 1)
    channels = (2,) if arch == "conv" else None
    model = VAE(size, Stream(1), latent=2, arch=arch, hidden=(5,), channels=channels, activation="tanh", likelihood=likelihood, head=head)
    report = second_order_check(frozen(elbo, model, Stream(2).uniform((3, *size)), Stream(3)))
    assert report.ok, str(report)
    assert all(row.duality < 1e-12 and row.checked == np.prod(row.shape) for row in report.rows)


def test_products_by_name_leave_other_variables_alone():
    layer_input, w = noise(2, 3), noise(3, 2)
    f = {"x": layer_input, "w": w}
    v = noise(3, 2, seed=1)
    gx, gw = hessian_vector_product(lambda x, w: ops.square(x @ w).sum(), f, {"w": v})
    np.testing.assert_allclose(gw, 2 * layer_input.T @ layer_input @ v, rtol=1e-13)
    np.testing.assert_allclose(gx, 2 * (layer_input @ v @ w.T + layer_input @ w @ v.T), rtol=1e-13)


def test_a_vjp_that_is_not_analytic_passes_the_first_order_and_fails_the_second():
    """The slope is the right number, but it takes no part in the derivative."""
    inputs = [np.array([0.3, -1.2, 2.0])]
    no_slope = planted(lambda g, x: (g * 2 * x.real,), lambda x: (x * x, (x,)))
    assert gradcheck(no_slope, inputs).ok
    report = second_order_check(lambda x: no_slope(x).sum(), inputs)
    assert not report.ok
    assert "missing" in report.rows[0].cause


def test_a_gradient_of_no_function_has_no_symmetric_hessian():
    m = noise(3, 3)  # the vjp m x belongs to no f unless m is symmetric
    rotation = planted(lambda g, x: (g * (m @ x),), lambda x: (x @ x, (x,)))
    report = second_order_check(rotation, [noise(3)])
    assert [row.cause for row in report.rows] == ["the Hessian is not symmetric"]
    h = hessian(rotation, noise(3))
    np.testing.assert_allclose(h, m.T, rtol=1e-14)


def test_a_kink_of_the_gradient_is_no_mistake():
    report = second_order_check(lambda x: ops.square(ops.relu(x)).sum(), [np.array([0.0, 1.0, -1.0])])
    assert report.ok, str(report)
    assert report.kinks


def test_bad_questions_get_one_sentence():
    with pytest.raises(UsageError, match="2,001 elements; need at most 2,000"):
        hessian(lambda x: x.sum(), np.zeros(2001))
    with pytest.raises(ShapeError, match="1 vectors for 2 variables"):
        hessian_vector_product(lambda x, y: (x * y).sum(), [noise(2), noise(2)], [noise(2)])
    with pytest.raises(ShapeError, match=r"the vector for input 0 is \(3,\); need \(2,\)"):
        hessian_vector_product(lambda x: x.sum(), [noise(2)], [noise(3)])
    with pytest.raises(ShapeError, match=r"the loss is \(3,\)"):
        hessian(ops.exp, noise(3))
    drops = planted(lambda g, x: (np.asarray(g * x, np.float64),), lambda x: (x * x, (x,)))
    with pytest.raises(UsageError, match="drops the imaginary part"):
        hessian(lambda x: drops(x).sum(), noise(3))
    assert hessian(lambda x: x.sum(), Tensor(np.zeros(0))).shape == (0, 0)
