"""Flows: determinants by complex steps, inverses by round trips, densities by integrals, and the model's bound by quadrature."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import minivae as mv
from minivae import ShapeError, Stream, UsageError, gradients, no_grad, ops
from minivae.distributions import Coupling, Flow, Gaussian, Planar
from minivae.evaluate import log_likelihood
from minivae.models import FlowVAE, describe
from minivae.objectives import elbo, iwae
from minivae.quadrature import log_marginal

rng = np.random.default_rng(0)
K = 5
M1, M2 = rng.normal(size=(2, K, 2 * K))


def link(a):
    """s and t of halves of any length, smooth."""
    out = ops.tanh(ops.dense(a, M1[: a.shape[-1], : 2 * (K - a.shape[-1])], np.full(2 * (K - a.shape[-1]), 0.1)))
    return ops.split(out, 2)


def planar(k=K, size=1.0, seed=1):
    r = np.random.default_rng(seed)
    return Planar(size * r.normal(size=k), size * r.normal(size=k), r.normal(size=1))


MAPS = {"planar": planar(), "planar, strong": planar(size=4.0), "coupling": Coupling(link), "coupling, swapped": Coupling(link, True)}
maps = pytest.mark.parametrize("name", MAPS)


@maps
def test_the_determinant_is_that_of_the_jacobian(name):
    """Columns by complex steps: exact to rounding."""
    for seed in range(5):
        z = np.random.default_rng(seed).normal(size=K)
        columns = [np.asarray(MAPS[name].forward(z + 1e-30j * np.eye(K)[k])[0].data).imag / 1e-30 for k in range(K)]
        sign, wanted = np.linalg.slogdet(np.stack(columns, axis=1))
        assert sign == 1
        assert_allclose(MAPS[name].forward(z)[1].data, wanted, rtol=1e-10, atol=1e-12)


def test_planar_maps_are_invertible_whatever_the_network_says():
    """w'u is far below -1 in half of them, where the plain map would fold; along w the bent one rises."""
    folding = 0
    for seed in range(40):
        r = np.random.default_rng(seed)
        u, w, b = 4 * r.normal(size=K), r.normal(size=K), r.normal(size=1)
        folding += w @ u < -1
        line = np.linspace(-10, 10, 2001)[:, None] * w / (w @ w)
        along = Planar(u, w, b).forward(line)[0].data @ w
        assert (np.diff(along) > 0).all()
    assert folding > 10


@pytest.mark.parametrize("swapped", [False, True])
def test_coupling_comes_back(swapped):
    z = rng.normal(size=(3, 4, K))
    there, log_det = Coupling(link, swapped).forward(z)
    back, again = Coupling(link, swapped).inverse(there)
    assert_allclose(back.data, z, rtol=1e-12)
    assert_allclose(again.data, log_det.data, rtol=1e-12)
    moved = (there.data != z).any(axis=(0, 1))
    assert moved.sum() == K - K // 2
    assert moved[0] == swapped


def test_a_flow_remembers_its_draw_and_inverts_for_others():
    flow = Flow(Gaussian(rng.normal(size=(4, K)), np.full((4, K), -1.0)), [Coupling(link), Coupling(link, True)])
    assert flow.shape == (4, K)
    z = flow.sample(Stream(0), 3)
    assert z.shape == (3, 4, K)
    assert_allclose(flow.log_prob(z).data, flow.log_prob(z.data.copy()).data, rtol=1e-9)
    assert flow.mean.shape == (4, K)
    bent = Flow(Gaussian(np.zeros(K), np.zeros(K)), [planar()])
    z = bent.sample(Stream(0), 3)
    assert bent.log_prob(z).shape == (3,)
    with pytest.raises(UsageError, match="density of its own draws only"):
        bent.log_prob(z.data.copy())


def test_a_bent_density_integrates_to_one():
    def two(a):
        return ops.tanh(ops.multiply(a, 0.8)), ops.multiply(ops.tanh(a), 1.5)

    flow = Flow(Gaussian(np.array([0.2, -0.1]), np.array([-0.5, -1.0])), [Coupling(two), Coupling(two, True)])
    axis = np.linspace(-12, 12, 1201)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    density = np.exp(flow.log_prob(grid).data)
    assert_allclose(density.sum() * (axis[1] - axis[0]) ** 2, 1, rtol=1e-6)


def test_planar_draws_have_the_density_they_say():
    """E_q[p / q] = 1 for any density p: three planar maps, and a p that q covers."""
    flow = Flow(Gaussian(np.zeros(2), np.zeros(2)), [planar(2, seed=s) for s in (1, 2, 3)])
    n = 200_000
    z = flow.sample(Stream(0), n)
    centre = z.data.mean(axis=0)
    p = Gaussian(centre, np.full(2, -1.0))
    ratio = np.exp(p.log_prob(z.data).data - flow.log_prob(z).data)
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(n)
    assert ratio.std() / np.sqrt(n) < 0.01
    assert abs(flow.log_prob(z).data - Gaussian(np.zeros(2), np.zeros(2)).log_prob(z.data).data).max() > 1  # it is bent


X = rng.uniform(size=(4, 4, 3, 1))


def model(flow, dtype=np.float64):
    made = FlowVAE((4, 3, 1), Stream(0), latent=2, flow=flow, flow_layers=3, flow_hidden=6, hidden=(5,), activation="tanh")
    made.to("cpu", dtype)
    for p in made.parameters():
        p.data += 0.3 * Stream(1).normal(p.shape, like=p.data)
    return made


flows = pytest.mark.parametrize("flow", ["planar", "coupling"])


@flows
def test_its_bounds_are_bounds_by_quadrature(flow):
    made = model(flow)
    exact = log_marginal(made, X[:1]).log_p[0]
    with no_grad():
        many = np.repeat(X[:1], 4000, axis=0)
        terms = elbo(made, many, Stream(0))
        each = -(terms.reconstruction.data + terms.kl.data)
    assert each.mean() < exact + 5 * each.std() / np.sqrt(4000)
    assert each.mean() < exact - 0.01
    weights = np.array([log_likelihood(made, X[:1], Stream(s), 3000)[0] for s in range(6)])
    assert abs(weights.mean() - exact) < max(5 * weights.std(ddof=1) / np.sqrt(6), 0.01)
    assert iwae(made, X, Stream(0), samples=3).shape == ()


@flows
def test_gradients_are_right(flow):
    made = model(flow)
    params = made.parameters()

    def loss():
        return elbo(made, X, Stream(3)).loss

    g = gradients(loss(), params)
    for p, gp in zip(params, g, strict=True):
        d, old, h = rng.normal(size=p.shape), p.data.copy(), 1e-6
        values = []
        for sign in (1, -1):
            p.data[...] = old + sign * h * d
            values.append(loss().item())
        p.data[...] = old
        assert_allclose((values[0] - values[1]) / (2 * h), (gp * d).sum(), rtol=1e-5, atol=1e-7)


@flows
def test_it_trains_saves_and_loads(flow, tmp_path):
    made = model(flow, np.float32)
    trainer = mv.fit(made, np.repeat(X, 20, axis=0).astype(np.float32), epochs=10, lr=0.02, batch_size=20, progress=False)
    assert trainer.why_eager == ""
    assert trainer.metrics[-1]["train"]["loss"] < trainer.metrics[0]["train"]["loss"]
    assert describe(made) | {"flow": flow, "flow_layers": 3} == describe(made)
    mv.save(made, tmp_path / "model.npz")
    again = mv.load(tmp_path / "model.npz")
    x = X.astype(np.float32)
    assert_allclose(elbo(again, x, Stream(0)).loss.item(), elbo(made, x, Stream(0)).loss.item(), rtol=1e-6)


def test_what_does_not_fit_is_told():
    for options, words in (
        ({"flow": "radial"}, "'radial' is unknown"),
        ({"flow_layers": 0}, "flow_layers is 0"),
        ({"flow": "coupling", "latent": 1}, "2 latents to couple"),
    ):
        with pytest.raises(UsageError, match=words):
            FlowVAE((4, 3, 1), Stream(0), hidden=(5,), **options)
    with pytest.raises(ShapeError, match="at least 2 numbers"):
        Coupling(link).forward(np.zeros((3, 1)))


def test_a_planar_flow_by_hand():
    """Rezende and Mohamed's equations 10 and 23, written out for one flow."""
    r = np.random.default_rng(0)
    u, w, b, z = r.normal(size=3), r.normal(size=3), r.normal(size=1), r.normal(size=(50, 3))
    lifted = np.log1p(np.exp(w @ u)) - 1
    u_hat = u + (lifted - w @ u) * w / (w @ w)
    moved, log_det = Planar(u, w, b).forward(z)
    h = np.tanh(z @ w + b)
    # the library adds 1e-8 to |w|^2
    np.testing.assert_allclose(moved.data, z + h[:, None] * u_hat, rtol=0, atol=1e-8 * abs(u_hat).max() * 4)
    np.testing.assert_allclose(log_det.data, np.log(1 + (1 - h**2) * (w @ u_hat)), rtol=0, atol=1e-7)
    flow = Flow(Gaussian(z[0], np.zeros(3)), [Planar(u, w, b)])
    np.testing.assert_array_equal(flow.mean.data, Planar(u, w, b).forward(z[0])[0].data)
