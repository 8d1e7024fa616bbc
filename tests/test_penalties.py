"""Gradients of penalties on gradients: against differences of the penalty, closed forms, and the dynamics of the smallest GAN."""

import numpy as np
import pytest

import minivae as mv
from minivae import Stream, Tensor, UsageError, gradients, nn, ops
from minivae.nn import Conv2d, Dense, Flatten, Sequential
from minivae.penalties import gradient_penalty, r1_penalty, slopes

PENALTIES = {"r1": lambda d, x: r1_penalty(d, x, 3.0), "gp": lambda d, x: gradient_penalty(d, x, 10.0, 0.7)}


def critics(activation, dtype=np.float64):
    rng = Stream(0)
    dense = Sequential(Dense(3, 8, rng, activation), Dense(8, 5, rng, activation), Dense(5, 1, rng))
    conv = Sequential(Conv2d(2, 4, rng, 3, 2, 1, activation), Flatten(), Dense(16, 1, rng))
    data = np.random.default_rng(0)
    for critic, shape in ((dense, (6, 3)), (conv, (5, 4, 4, 2))):
        yield critic.to(dtype=dtype), data.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("activation", ["tanh", "softplus", "silu", "leaky_relu"])
def test_its_gradient_is_that_of_its_differences(name, activation):
    for critic, x in critics(activation):
        value = PENALTIES[name](critic, x)
        direction = np.random.default_rng(1)
        for p, g in zip(critic.parameters(), gradients(value, critic.parameters()), strict=True):
            d = direction.normal(size=p.shape)
            ends = []
            for sign in (1, -1):
                p.data += sign * 1e-5 * d
                ends.append(PENALTIES[name](critic, x).item())
                p.data -= sign * 1e-5 * d
            # a central difference leaves out h^2 = 1e-10 and loses eps / h = 2e-11, in units of the penalty
            assert (g * d).sum() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-8 * max(1, value.item()))


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_in_float32_it_is_the_same_to_the_error_that_is_stated(name, backend):
    with mv.use_backend(backend):
        for (exact, _), (critic, x32) in zip(critics("tanh"), critics("tanh", np.float32), strict=True):
            critic.load_state(exact.state())
            wide = gradients(PENALTIES[name](exact, x32.astype(np.float64)), exact.parameters())
            for a, b in zip(gradients(PENALTIES[name](critic, x32), critic.parameters()), wide, strict=True):
                assert a.dtype == np.float32
                assert abs(a - b).max() <= 30 * np.finfo(np.float32).eps ** (2 / 3) * max(abs(b).max(), 1e-2)


def test_closed_forms():
    rng = np.random.default_rng(2)
    x, w, a = rng.normal(size=(7, 3)), rng.normal(size=(3, 1)), rng.normal(size=(3, 3))

    class Linear(nn.Module):
        def __init__(self):
            self.w = Tensor(w.copy())

        def forward(self, x):
            return ops.matmul(x, self.w)

    linear = Linear()
    value = r1_penalty(linear, x, 3.0)
    assert value.item() == pytest.approx(1.5 * (w * w).sum(), rel=1e-12)
    np.testing.assert_allclose(gradients(value, [linear.w])[0], 3 * w, rtol=1e-12)
    value, norm = gradient_penalty(linear, x, 10.0, 0.5), np.linalg.norm(w)
    assert value.item() == pytest.approx(10 * (norm - 0.5) ** 2, rel=1e-12)
    np.testing.assert_allclose(gradients(value, [linear.w])[0], 20 * (norm - 0.5) * w / norm, rtol=1e-12)

    class Quadratic(nn.Module):
        def __init__(self):
            self.a = Tensor(a.copy())

        def forward(self, x):
            return (ops.matmul(x, self.a) * x).sum(axis=1) * 0.5

    quadratic, s = Quadratic(), (a + a.T) / 2
    np.testing.assert_allclose(slopes(quadratic, x), x @ s, rtol=1e-12)
    value = r1_penalty(quadratic, x, 2.0)
    assert value.item() == pytest.approx(((x @ s) ** 2).sum() / 7, rel=1e-12)
    half = 2 / 7 * s @ x.T @ x  # d/dS of tr(S X'X S) / N, for A through its symmetric part
    np.testing.assert_allclose(gradients(value, [quadratic.a])[0], (half + half.T) / 2, rtol=1e-11)
    linear.w.data[...] = 0  # no slope has no direction, and no NaN
    assert gradients(gradient_penalty(linear, x), [linear.w])[0].tolist() == [[0.0]] * 3


def test_it_adds_to_a_loss_and_a_step_with_it_is_replayed():
    for backend in ("numba", "numpy"):
        with mv.use_backend(backend):
            critic, x = next(critics("leaky_relu", np.float32))
            params = critic.parameters()

            def loss(x, critic=critic):
                return ops.softplus(-critic(x)).mean() + r1_penalty(critic, x, 2.0)

            step = mv.captured(loss, params)
            for i in range(5):
                batch = (x + np.float32(i)).copy()
                value, gs = step(batch)
                exact = loss(batch)
                assert value.item() == exact.item()
                for a, b in zip(gs, gradients(exact, params), strict=True):
                    np.testing.assert_array_equal(a, b)
            assert step.why_eager == ""
            assert sum(p.used for p in step.replay.programs.values()) == 3


def test_what_it_cannot_do_is_refused():
    critic, x = next(critics("tanh"))
    with pytest.raises(UsageError, match="x is a variable"):
        r1_penalty(critic, Tensor(x))
    mixing = Sequential(Dense(3, 4, Stream(0)), nn.BatchNorm(4), Dense(4, 1, Stream(1)))
    with pytest.raises(UsageError, match="BatchNorm in training mode"):
        r1_penalty(mixing, x.astype(np.float32))
    mixing.train(False)
    assert r1_penalty(mixing, x.astype(np.float32)).item() > 0
    with mv.no_grad():
        assert r1_penalty(critic, x).number == 0


class Dirac(nn.Module):
    """D(x) = psi x; the generator is a point at theta, the data are the point 0."""

    def __init__(self, psi):
        self.psi = Tensor(np.array([[psi]]))

    def forward(self, x):
        return ops.matmul(x, self.psi)


def field(theta, psi, gamma):
    """(d theta/dt, d psi/dt): both go down their gradients at once, with the logistic loss."""
    critic, point, zero = Dirac(psi), Tensor(np.array([[theta]])), np.zeros((1, 1))
    loss = ops.softplus(critic(point)).sum() + ops.softplus(-critic(zero)).sum()
    if gamma:
        loss = loss + r1_penalty(critic, zero, gamma)
    (for_psi,) = gradients(loss, [critic.psi])
    (for_theta,) = gradients(ops.softplus(-critic(point)).sum(), [point])  # non-saturating
    return np.array([-for_theta.item(), -for_psi.item()])


@pytest.mark.parametrize(("gamma", "expected"), [(0.0, [0.5j, -0.5j]), (1.0, [-0.5, -0.5])])
def test_the_linearised_dirac_gan_has_the_published_eigenvalues(gamma, expected):
    """Mescheder et al. 2018, lemmas 2.3 and 3.3 with f'(0) = 1/2: -gamma/2 +- sqrt(gamma^2/4 - f'(0)^2)."""
    h = 1e-6
    columns = [(field(*(h * e), gamma) - field(*(-h * e), gamma)) / (2 * h) for e in np.eye(2)]
    found = np.linalg.eigvals(np.array(columns).T)
    # a double eigenvalue moves by the root of the error of its matrix, 1e-10
    np.testing.assert_allclose(sorted(found, key=lambda z: z.imag), sorted(expected, key=lambda z: np.imag(z)), atol=1e-4)


def test_steps_spiral_out_without_r1_and_in_with_it():
    radius = {}
    for gamma in (0.0, 1.0):
        state, radius[gamma] = np.array([1e-3, 0.0]), []
        for _ in range(400):
            state = state + 0.1 * field(*state, gamma)
            radius[gamma].append(np.linalg.norm(state))
    # Euler's steps of 0.1 leave the circle that the flow stays on, by |1 + 0.05 i| each; with R1 they are |1 - 0.05| each
    assert radius[0.0][-1] == pytest.approx(1e-3 * abs(1 + 0.05j) ** 400, rel=1e-3)
    assert radius[1.0][-1] < 1e-3 * 0.96**400 * 400
