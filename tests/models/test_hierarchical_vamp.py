"""A VampPrior above two layers: densities by quadrature, gradients by differences, and what the prior is at its best."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import minivae as mv
from minivae import Stream, UsageError, gradients, no_grad
from minivae.data import Batch
from minivae.distributions import kl_at
from minivae.evaluate.likelihood import log_likelihood
from minivae.evaluate.surgery import log_aggregate
from minivae.models import HierarchicalVampVAE, build, describe
from minivae.objectives import FreeBits, elbo, trained
from minivae.quadrature import log_marginal

X = np.random.default_rng(0).integers(0, 2, (6, 4, 3, 1)).astype(np.float32)


def model(dtype=np.float64, latent=2, top=1, pseudo=3, **options):
    made = HierarchicalVampVAE(
        (4, 3, 1), Stream(1), pseudo, latent=latent, top=top, hidden=(5,), between=(4,), activation="tanh", **options
    )
    for p in made.parameters():
        p.data *= 2
    return made.to("cpu", dtype)


def test_with_the_codes_for_pseudo_codes_the_upper_prior_is_the_aggregate_posterior():
    made = model(latent=5, top=2, pseudo=6)
    with no_grad():
        z1 = made.encode(X.astype(np.float64)).first.mean
        made.pseudo_codes.data[...] = z1.data
        above = made.posterior(made.encoder(X.astype(np.float64))).link(z1)
        z2 = np.random.default_rng(1).normal(size=(7, 2))
        expected = log_aggregate(z2, above.mean.numpy(), above.logvar.numpy())[0]
        assert_allclose(made.prior.first.log_prob(z2).data, expected, rtol=1e-9)


def test_the_prior_integrates_to_one():
    made, grid = model(), np.linspace(-15, 15, 601)
    z = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    with no_grad():
        assert_allclose(np.exp(made.prior.log_prob(z).data).sum() * (grid[1] - grid[0]) ** 2, 1, rtol=1e-6)


def test_the_bound_is_a_bound_on_log_p_by_quadrature():
    made, x = model(), X[:2].astype(np.float64)
    exact = log_marginal(made, x).log_p
    # each is a mean of importance weights, which has no bias: 20 of them are off by their standard error
    share = np.exp([log_likelihood(made, x, Stream(i), 2_000) - exact for i in range(20)])
    error = share.std(axis=0, ddof=1) / np.sqrt(20)
    assert (abs(share.mean(axis=0) - 1) < 5 * error).all()
    assert (error < 0.1).all()
    with no_grad():
        terms = elbo(made, np.repeat(x, 4000, axis=0), Stream(0))
    each = -(terms.reconstruction.data + terms.kl.data).reshape(2, 4000)
    assert (each.mean(axis=1) + 4 * each.std(axis=1) / np.sqrt(4000) < exact).all()


def test_the_divergence_is_that_of_the_sample():
    made = model(latent=5, top=2)
    q, p = made.encode(X.astype(np.float64)), made.prior
    z = q.sample(Stream(0))
    assert_allclose(kl_at(q, p, z).data, (q.log_prob(z) - p.log_prob(z)).data, rtol=1e-12)


def test_pseudo_codes_learn():
    """A central difference along a random direction judges."""
    made = model()
    assert any(p is made.pseudo_codes for p in made.parameters())

    def loss():
        return elbo(made, X.astype(np.float64), Stream(3)).loss

    g = gradients(loss(), [made.pseudo_codes])[0]
    d, old, h = np.random.default_rng(2).normal(size=g.shape), made.pseudo_codes.data.copy(), 1e-6
    values = []
    for sign in (1, -1):
        made.pseudo_codes.data[...] = old + sign * h * d
        values.append(loss().item())
    assert_allclose((values[0] - values[1]) / (2 * h), (g * d).sum(), rtol=1e-5)
    assert abs(g).max() > 1e-6


def test_it_trains_saves_and_loads(tmp_path):
    made = model(np.float32, latent=4, top=2)
    trainer = mv.fit(made, np.repeat(X, 20, axis=0), epochs=15, lr=0.02, batch_size=20, progress=False)
    assert trainer.why_eager == ""  # its steps are recorded
    assert trainer.metrics[-1]["train"]["loss"] < trainer.metrics[0]["train"]["loss"] - 0.3
    assert (describe(made)["model"], describe(made)["pseudo"]) == ("hierarchical_vamp", 3)
    mv.save(made, tmp_path / "model.npz")
    again = mv.load(tmp_path / "model.npz")
    z = np.zeros((1, 4), np.float32)
    assert_allclose(again.prior.log_prob(z).data, made.prior.log_prob(z).data)
    assert mv.inference.sample(again, Stream(0), 5).shape == (5, 4, 3, 1)
    assert type(build(describe(made), Stream(0))) is HierarchicalVampVAE


def test_what_does_not_fit_is_told():
    with pytest.raises(UsageError, match="pseudo is 0; need at least 1 pseudo-code"):
        model(pseudo=0)
    made = model()
    with pytest.raises(UsageError, match="Autoregressive has no terms"):
        FreeBits().losses({"model": made}, Batch(X.astype(np.float64)), Stream(0), trained(6, ("model",)))
