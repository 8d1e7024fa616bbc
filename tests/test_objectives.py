"""Objectives: what each adds to the ELBO, at the points where that is known."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minivae as mv
from minivae import Stream, UsageError, gradients, no_grad
from minivae.data import Batch
from minivae.distributions import Gaussian, StandardGaussian, kl_at, kl_terms
from minivae.evaluate import elbo_surgery
from minivae.evaluate.surgery import log_aggregate
from minivae.gradcheck import frozen, gradcheck
from minivae.objectives import (
    Capacity,
    Denoising,
    Elbo,
    Factor,
    FreeBits,
    Iwae,
    Progress,
    TotalCorrelation,
    elbo,
    iwae,
    minibatch_parts,
    regularizer,
    trained,
)
from minivae.objectives.base import occasionally
from minivae.quadrature import log_marginal

X = np.random.default_rng(0).uniform(size=(6, 4, 3, 1)).astype(np.float32)


def vae(latent: int = 3) -> mv.VAE:
    model = mv.VAE((4, 3, 1), Stream(1), latent=latent, hidden=(5,), activation="tanh")
    for p in model.parameters():
        p.data += 0.3 * Stream(2).normal(p.shape)
    return model


def slopes(loss, model):
    return gradients(loss, model.parameters())


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        (regularizer, {}),
        (Capacity(3.0, 0.1), {}),
        (Capacity(3.0, 99.0), {}),
        (FreeBits(free_bits=0.3), {}),
        (iwae, {"samples": 3}),
        (TotalCorrelation(3.0), {"size": 20}),
    ],
)
def test_gradients_are_right(objective, options):
    report = gradcheck(frozen(objective, vae(), X, Stream(5), **options), elements=3, directions=1)
    assert report.ok, report


def test_beta_zero_is_the_reconstruction_and_the_regularizer_is_the_rest():
    model = vae()
    both, rec = elbo(model, X, Stream(0)), elbo(model, X, Stream(0), beta=0.0)
    reg = regularizer(model, X, Stream(0))
    assert rec.loss.item() == pytest.approx(rec.reconstruction.data.mean(), rel=1e-6)
    assert both.loss.item() == pytest.approx(rec.loss.item() + reg.loss.item(), rel=1e-6)
    names = list(model.named_parameters())
    for name, g in zip(names, slopes(reg.loss, model), strict=True):
        assert g.any() == name.startswith("encoder"), name  # no gradient reaches the decoder
    for a, b, c in zip(slopes(both.loss, model), slopes(rec.loss, model), slopes(reg.loss, model), strict=True):
        assert_allclose(a, b + c, atol=2e-6 * abs(a).max())


def test_the_pull_of_a_capacity_vanishes_where_it_is_met():
    model = vae()
    terms = elbo(model, X, Stream(0))
    met = terms.kl.mean().item()
    assert_array_equal(
        np.concatenate([g.ravel() for g in slopes(Capacity(1000.0, met)(model, X, Stream(0)).loss, model)]),
        np.concatenate([g.ravel() for g in slopes(elbo(model, X, Stream(0), beta=0.0).loss, model)]),
    )
    for side, sign in ((met - 0.25, 1), (met + 0.25, -1)):
        loss = Capacity(7.0, side)(model, X, Stream(0)).loss
        assert loss.item() == pytest.approx(terms.reconstruction.data.mean() + 7 * 0.25, rel=1e-5)
        terms = elbo(model, X, Stream(0))
        expected = slopes((terms.reconstruction + terms.kl * (7.0 * sign)).mean(), model)
        for a, b in zip(slopes(loss, model), expected, strict=True):
            assert_allclose(a, b, atol=1e-5 * abs(b).max())


def test_free_bits_cost_nothing_up_to_their_number():
    model = vae()
    q = model.encode(X)
    each = (0.5 * (q.mean.data**2 + np.exp(q.logvar.data) - q.logvar.data - 1)).mean(axis=0)  # nats of each latent
    free = float(np.sort(each)[1]) + 1e-3  # two below, one above
    terms, plain = FreeBits(free_bits=free)(model, X, Stream(0)), elbo(model, X, Stream(0))
    assert terms.loss.item() == pytest.approx(plain.reconstruction.data.mean() + 2 * free + each.max(), rel=1e-5)
    assert_allclose(terms.kl.data, plain.kl.data, rtol=1e-5)
    assert FreeBits(free_bits=0.0)(model, X, Stream(0)).loss.item() == pytest.approx(plain.loss.item(), rel=1e-6)
    all_free = slopes(FreeBits(free_bits=50.0)(model, X, Stream(0)).loss, model)
    for a, b in zip(all_free, slopes(elbo(model, X, Stream(0), beta=0.0).loss, model), strict=True):
        assert_allclose(a, b, atol=2e-6 * abs(b).max())


def test_one_importance_sample_is_an_elbo_and_more_are_nearer_to_log_p():
    model = vae(1)
    terms = Iwae(1)(model, X, Stream(0))
    assert terms.loss.item() == pytest.approx((terms.reconstruction.data + terms.kl.data).mean(), rel=1e-6)
    model.to(dtype=np.float64)
    x = X.astype(np.float64)
    exact = -log_marginal(model, x).log_p.mean()
    with no_grad():
        runs = {k: np.array([iwae(model, x, Stream(seed), k).item() for seed in range(60)]) for k in (1, 5, 50)}
    mean, error = ({k: f(values) for k, values in runs.items()} for f in (np.mean, lambda v: v.std() / np.sqrt(60)))
    assert mean[1] > mean[5] > mean[50] > exact - 5 * error[50]
    assert mean[50] - exact < 0.1 * (mean[1] - exact)


def test_the_batch_of_all_data_makes_the_parts_of_surgery():
    """Minibatch-weighted sampling is then off by constants alone: log N for q(z), and for each q(z_k)."""
    rng = np.random.default_rng(3)
    n, k = 40, 3
    mean, logvar = rng.normal(size=(n, k)), rng.normal(size=(n, k)) - 1
    mean[:, 1] += mean[:, 0]  # a correlation to find
    q = Gaussian(mean, logvar)
    draws = [q.sample(Stream(seed)) for seed in range(200)]
    found = np.array([[part.data.mean() for part in minibatch_parts(q, StandardGaussian(), z, n)] for z in draws])
    joint, marginals = log_aggregate(draws[0].data, mean, logvar)
    assert_allclose(found[0, 1], (joint - marginals.sum(axis=1)).mean() + (k - 1) * math.log(n), rtol=1e-10)
    surgery = elbo_surgery(mean, logvar, Stream(9), samples=200)
    exact = np.array([surgery.mutual_information, surgery.total_correlation, surgery.dimension_kl.sum()])
    noise = np.array([surgery.mutual_information_error, surgery.total_correlation_error, surgery.dimension_kl_error.sum()])
    bias = np.array([1, k - 1, -k]) * math.log(n)
    assert (abs(found.mean(axis=0) - bias - exact) < 5 * (found.std(axis=0) / np.sqrt(200) + noise)).all()
    assert surgery.total_correlation > 0.1


def test_the_parts_sum_to_the_divergence_whatever_the_batch():
    model = vae()
    q = model.encode(X)
    z = q.sample(Stream(0))
    expected = (q.log_prob(z) - StandardGaussian().log_prob(z)).data
    for size in (6, 1000):
        assert_allclose(sum(part.data for part in minibatch_parts(q, StandardGaussian(), z, size)), expected, rtol=1e-4, atol=1e-5)
    terms = TotalCorrelation(1.0 + 1e-6)(model, X, Stream(0), size=1000)
    assert terms.loss.item() == pytest.approx((terms.reconstruction.data + expected).mean(), rel=1e-5)
    with pytest.raises(UsageError, match="the data are 5 images"):
        TotalCorrelation()(model, X, Stream(0), size=5)


def test_beta_weighs_its_penalty_and_nothing_else():
    """Loss and penalty are affine in beta: from 0 to 3 a loss rises by three times what it penalises."""
    model = vae()
    q = model.encode(X)
    z = q.sample(Stream(0))
    each = kl_terms(q, model.prior).data.mean(axis=0)
    penalties = [
        (Elbo, {}, each.sum()),
        (Capacity, {"capacity": 0.1}, abs(each.sum() - 0.1)),
        (FreeBits, {"free_bits": 0.3}, np.maximum(each, 0.3).sum()),
        (TotalCorrelation, {}, minibatch_parts(q, StandardGaussian(), z, 20).total_correlation.data.mean()),
    ]
    for objective, options, penalty in penalties:
        low, high = (objective(beta=beta, **options)(model, X, Stream(0), size=20).loss.item() for beta in (0.0, 3.0))
        assert high - low == pytest.approx(3 * penalty, rel=1e-4), objective.__name__


WARMING = [
    (Elbo(beta=2.0, kl_warmup=4.0), Elbo(beta=0.5)),
    (FreeBits(beta=2.0, free_bits=0.2, kl_warmup=4.0), FreeBits(beta=0.5, free_bits=0.2)),
    (Capacity(beta=3.0, capacity=8.0, kl_warmup=4.0), Capacity(beta=3.0, capacity=2.0)),
    (Denoising(noise=0.1, beta=2.0, kl_warmup=4.0), Denoising(noise=0.1, beta=0.5)),
    (TotalCorrelation(beta=2.0, kl_warmup=4.0), TotalCorrelation(beta=0.5)),
]


@pytest.mark.parametrize(("warming", "there"), WARMING, ids=lambda objective: type(objective).__name__)
def test_a_quarter_of_the_warm_up_is_a_quarter_of_the_weight(warming, there):
    model, batch = vae(), Batch(X)

    def loss(objective, epochs):
        progress = Progress(np.array(epochs, np.float32), ("model",), 100)
        return objective.losses({"model": model}, batch, Stream(3), progress)[0]["model"].item()

    assert loss(warming, 1.0) == pytest.approx(loss(there, 0.0), rel=1e-6)
    assert loss(warming, 4.0) == loss(warming, np.inf) != loss(warming, 1.0)


@pytest.mark.parametrize("objective", [Elbo(2.0), FreeBits(), Capacity(), TotalCorrelation(), Factor(critic=4)], ids=lambda o: o.name)
def test_reports_are_the_parts_of_the_elbo(objective):
    model = vae()
    players = objective.players(model, Stream(0))
    _, reports = objective.losses(players, Batch(X, other=Batch(X)), Stream(3), trained(len(X), tuple(players)))
    q = model.encode(X)
    z = q.sample(Stream(3))
    assert_allclose(reports["reconstruction"].data, -model.decode(z).log_prob(X).data, rtol=1e-5)
    divergence = kl_terms(q, model.prior).data.sum(axis=-1) if objective.name != "tc" else kl_at(q, model.prior, z).data
    assert_allclose(reports["kl"].data, divergence, rtol=1e-5)


def test_an_evaluation_takes_as_many_images_as_memory_and_meaning_allow():
    assert [Iwae(k).evaluation_batch(64) for k in (1, 4, 400, 1000)] == [500, 125, 1, 1]
    assert TotalCorrelation().evaluation_batch(64) == 64
    assert Elbo().evaluation_batch(64) == 500


def test_summaries_name_the_parts_of_the_loss():
    measures = {"loss": 110.5, "reconstruction": 80.25, "kl": 25.5}
    assert Elbo().summary(measures) == "= 80.25 + 25.50"
    assert Elbo(beta=4.0).summary(measures) == "= 80.25 + 4 x 25.50"
    assert FreeBits().summary(measures) == "= 80.25 + 25.50, free bits apart"
    assert FreeBits(beta=4.0).summary(measures) == "= 80.25 + 4 x 25.50, free bits apart"
    assert Capacity(beta=4.0, capacity=3.0).summary(measures) == "= 80.25 + 4 x |25.50 - 3|"
    assert Iwae().summary(measures) == "(one sample: 80.25 + 25.50)"
    assert Factor().summary(measures) == "= 80.25 + 25.50 +4.75 for the total correlation"
    assert TotalCorrelation().summary(measures).startswith("= 80.25 + 25.50 +4.75 for the total correlation")
    assert Factor().optimizers() == {"critic": {"optimizer": "adam", "betas": (0.5, 0.9)}}


def test_an_occasion_comes_at_its_steps():
    turns = occasionally([("critic",), ("generator", "critic")], 3)
    assert turns == [("critic", "penalty"), ("generator", "critic"), ("critic",), ("generator", "critic", "penalty"), ("critic",), turns[1]]
    assert occasionally([("critic",)], 1, "look") == [("critic", "look")]
