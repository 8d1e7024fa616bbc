"""What is known of such games without training any: eigenvalues of the Dirac-GAN, and the best critic of two densities."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import minivae as mv
from minivae import Stream, Tensor, ops
from minivae.data import Batch
from minivae.distributions import Delta, StandardGaussian
from minivae.models.networks import mlp
from minivae.objectives import Gan, trained


class Dirac(mv.Module):
    """The data are a point at 0, the generator a point at theta, the critic D(x) = psi x.        L. Mescheder et al. 2018, section 2"""

    prior = StandardGaussian(1)

    def __init__(self, theta):
        self.theta = Tensor(np.array([[theta]]))

    def decode(self, z):
        return Delta(ops.multiply(z, 0.0) + self.theta)

    def critic(self, rng, pack, spectral):
        return Line()

    def move_average(self, decay):
        pass


class Line(mv.Module):
    def __init__(self):
        self.psi = Tensor(np.zeros((1, 1)))

    def forward(self, x):
        return ops.matmul(x, self.psi)


def field(objective, theta, psi):
    """Where the players go from here: minus the gradients of their losses."""
    model = Dirac(theta)
    players = objective.players(model, Stream(0))
    players["critic"].psi.data[...] = psi
    losses, _ = objective.losses(players, Batch(np.zeros((2, 1))), Stream(0), trained(2, objective.turns()[0]))
    return -np.array([mv.gradients(losses[name], players[name].parameters())[0].item() for name in ("generator", "critic")])


def jacobian(objective, h=1e-5):
    columns = [(field(objective, *(h * e)) - field(objective, *(-h * e))) / (2 * h) for e in np.eye(2)]
    return np.array(columns).T


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Gan(penalty="none"), [-0.5j, 0.5j]),
        (Gan(penalty_weight=1.0, penalty_every=1), [-0.5, -0.5]),
        (Gan(penalty_weight=0.25, penalty_every=4), [-0.5, -0.5]),  # a step with the penalty has four times its weight
        (Gan(penalty_weight=2.0, penalty_every=1), [-1 - np.sqrt(0.75), -1 + np.sqrt(0.75)]),
        (Gan("wasserstein", "none"), [-1j, 1j]),
        (Gan("hinge", "none"), [-1j, 1j]),
        (Gan("least_squares", "none"), [(-1 - 1j * np.sqrt(3)) / 2, (-1 + 1j * np.sqrt(3)) / 2]),
    ],
    ids=str,
)
def test_eigenvalues_of_the_dirac_gan(objective, expected):
    """l^2 + gamma l + f'(0)^2 = 0, of which gamma = 1 and f'(0) = 1/2 have the double root -1/2.  A double root moves by the square root
    of an error: 1e-5 squared is 1e-10, what the difference quotient leaves.  The hinge's slope is 1 between its corners, and so is
    Wasserstein's.

    Least squares as it stands has its corner at D = 1/2 and not at 0: the critic, which has no bias, cannot stand still at the origin, so
    that this one is judged by the field alone."""
    if objective.loss == "least_squares":
        theta, psi = 0.3, -0.7
        # d/dtheta (psi theta - 1)^2 / 2 and d/dpsi [(0 - 1)^2 + (psi theta)^2] / 2
        assert_allclose(field(objective, theta, psi), [-(psi * theta - 1) * psi, -psi * theta**2], rtol=1e-12)
        return
    found = np.linalg.eigvals(jacobian(objective))
    assert_allclose(sorted(found, key=lambda v: (v.real, v.imag)), sorted(expected, key=lambda v: (np.real(v), np.imag(v))), atol=2e-5)


def courses(objective, steps=400, h=0.1):
    at = [np.array([1.0, 0.0])]
    for _ in range(steps):
        at.append(at[-1] + h * field(objective, *at[-1]))
    return np.hypot(*np.array(at).T)


def test_the_dirac_gan_spirals_out_slowly_in_or_to_the_point():
    """Minimax: theta' = s psi, psi' = -s theta with s = sigmoid(psi theta), so that theta^2 + psi^2 stands still in continuous time, and a
    step of h multiplies it by 1 + h^2 s^2.  Non-saturating: d/dt (theta^2 + psi^2) / 2 = -theta psi tanh(theta psi / 2), of fourth
    order: in, but ever more slowly, as t^(-1/2).  With R1 both players decay as e^(-t / 2)."""
    out, slow, fast = (courses(o) for o in (Gan("minimax", "none"), Gan(penalty="none"), Gan(penalty_weight=1.0, penalty_every=1)))
    assert (np.diff(out) > 0).all()
    s = np.sqrt((out[1:] / out[:-1]) ** 2 - 1) / 0.1
    assert 0.1 < s.min() < 0.5 < s.max() < 0.9  # sigmoids of what psi theta was: at least those of -r^2 / 2, r^2 = 2.6 in the end
    assert 0.4 < slow[-1] < slow[200] < slow[0]
    assert fast[-1] < 1e-6  # e^-20 (1 + 20), and less than a half of it by the corners of the sigmoid


def test_the_best_critic_is_the_log_ratio():
    """Trained by samples, judged by integrals: E[loss of D] - E[loss of log p / q] >= 0, with equality for the ratio alone."""
    grid = np.linspace(-12, 12, 4801)
    width = grid[1] - grid[0]

    def normal(x, mean, sd):
        return np.exp(-(((x - mean) / sd) ** 2) / 2) / (sd * np.sqrt(2 * np.pi))

    p = (normal(grid, -1.5, 0.6) + normal(grid, 1.5, 0.6)) / 2
    q = normal(grid, 0, 1.5)
    best = np.log(p) - np.log(q)

    def expected_loss(d):
        return ((p * np.logaddexp(0, -d) + q * np.logaddexp(0, d)) * width).sum()

    rng, game = np.random.default_rng(0), Gan()
    critic = mlp((1, 48, 48, 1), Stream(0), "tanh")
    optimizer = mv.Adam(critic.parameters(), 3e-3)
    for step in range(1500):
        optimizer.lr = 3e-3 * (1 - step / 1500)
        real = (rng.choice([-1.5, 1.5], 256) + 0.6 * rng.normal(size=256)).astype(np.float32)[:, None]
        fake = (1.5 * rng.normal(size=256)).astype(np.float32)[:, None]
        optimizer.step(mv.gradients(game.tells(critic(real), critic(fake)), optimizer.params))
    found = critic(grid.astype(np.float32)[:, None]).data[:, 0].astype(np.float64)
    least, excess = expected_loss(best), expected_loss(found) - expected_loss(best)
    # the least loss is 2 log 2 - 2 JS(p, q)
    m = (p + q) / 2
    js = ((p * np.log(p / m) + q * np.log(q / m)) * width).sum() / 2
    assert_allclose(least, 2 * np.log(2) - 2 * js, rtol=1e-9)
    # to second order the excess is int (p + q) s (1 - s) (D - D*)^2 / 2; a critic that cannot tell has 2 JS, 0.17 nats
    assert 0 <= excess < js / 10
    told = np.sqrt(((p + q) * p * q / (p + q) ** 2 * (found - best) ** 2 * width).sum())
    assert_allclose(told**2 / 2, excess, rtol=0.5)
