"""The mixture and the VampPrior: integrals, the aggregate posterior, gradients by differences, and the identity of the ELBO's surgery."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

import minivae as mv
from minivae import ShapeError, Stream, Tensor, UsageError, gradients, no_grad
from minivae.distributions import Gaussian, GaussianMixture, StandardGaussian
from minivae.evaluate import log_likelihood
from minivae.evaluate.surgery import log_aggregate
from minivae.models import VampVAE, build, describe
from minivae.objectives import elbo
from minivae.quadrature import log_marginal

rng = np.random.default_rng(0)
MEAN, LOGVAR = rng.normal(size=(4, 2)), rng.normal(size=(4, 2)) - 1
X = rng.uniform(size=(6, 4, 3, 1)).astype(np.float32)


def model(pseudo=3, latent=2, dtype=np.float64, **options):
    made = VampVAE((4, 3, 1), Stream(0), pseudo=pseudo, latent=latent, hidden=(5,), activation="tanh", **options)
    made.to("cpu", dtype)
    for p in made.parameters():
        p.data += 0.5 * Stream(1).normal(p.shape, like=p.data)
    return made


def test_a_mixture_is_the_mean_of_its_densities_and_integrates_to_one():
    mixture = GaussianMixture(Gaussian(MEAN, LOGVAR))
    z = rng.normal(size=(3, 5, 2))
    each = [stats.multivariate_normal(m, np.diag(np.exp(v))).pdf(z) for m, v in zip(MEAN, LOGVAR, strict=True)]
    assert_allclose(mixture.log_prob(z).data, np.log(np.mean(each, axis=0)), rtol=1e-12)
    axis = np.linspace(-9, 9, 721)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    density = np.exp(mixture.log_prob(grid).data)
    step = (axis[1] - axis[0]) ** 2
    assert_allclose(density.sum() * step, 1, rtol=1e-9)  # the trapezoidal rule on a density that has died away
    assert_allclose((density[..., None] * grid).sum(axis=(0, 1)) * step, mixture.mean.data, rtol=1e-9)


def test_draws_have_its_distribution():
    mixture = GaussianMixture(Gaussian(MEAN[:, :1], LOGVAR[:, :1]))
    z = mixture.sample(Stream(0), (50, 200)).data
    assert z.shape == (50, 200, 1)
    cdf = lambda t: np.mean([stats.norm(m, np.exp(v / 2)).cdf(t) for m, v in zip(MEAN[:, 0], LOGVAR[:, 0], strict=True)], axis=0)  # noqa: E731
    assert stats.kstest(z.ravel(), cdf).pvalue > 1e-4
    assert (mixture.batch_shape, mixture.event_shape) == ((), (1,))


def test_its_gradient_is_right():
    mean, logvar, z = Tensor(MEAN), Tensor(LOGVAR), Tensor(rng.normal(size=(3, 2)))
    mv.gradcheck.assert_gradients(lambda m, v, z: GaussianMixture(Gaussian(m, v)).log_prob(z).sum(), mean, logvar, z)


@pytest.mark.parametrize("lead", [(), (5,), (3, 5)])
def test_single_precision_is_double_precision_rounded(lead):
    """The kernel against the reference: a sum of 7 deviations, then of 6 densities, and of up to 15 rows in the gradients."""
    mean, logvar, z = rng.normal(size=(6, 7)), rng.normal(size=(6, 7)), rng.normal(size=(*lead, 7))
    found = {}
    for dtype in (np.float32, np.float64):
        inputs = [Tensor(a.astype(np.float32).astype(dtype)) for a in (mean, logvar, z)]
        value = GaussianMixture(Gaussian(*inputs[:2])).log_prob(inputs[2])
        assert value.data.dtype == dtype
        found[dtype] = [value.data, *gradients(value.sum(), inputs)]
    for single, double in zip(found[np.float32], found[np.float64], strict=True):
        assert single.shape == double.shape
        assert_allclose(single, double, rtol=0, atol=64 * np.finfo(np.float32).eps * (1 + abs(double).max()))


def test_bad_shapes_are_told():
    with pytest.raises(ShapeError, match=r"need batch \(M,\), event \(K,\)"):
        GaussianMixture(Gaussian(MEAN[0], LOGVAR[0]))
    with pytest.raises(ShapeError, match=r"z is \(3, 5\), its components are \(4, 2\)"):
        GaussianMixture(Gaussian(MEAN, LOGVAR)).log_prob(np.zeros((3, 5)))


def test_with_the_data_for_pseudo_inputs_the_prior_is_the_aggregate_posterior():
    made = model(pseudo=6)
    made.start_from(X)
    x = np.clip(X, 0.01, 0.99).astype(np.float64)
    with no_grad():
        q = made.encode(x)
        z = rng.normal(size=(7, 2))
        assert_allclose(made.prior.log_prob(z).data, log_aggregate(z, q.mean.numpy(), q.logvar.numpy())[0], rtol=1e-6)


def test_the_bound_is_a_bound_on_log_p_by_quadrature():
    made = model(latent=1)
    exact = log_marginal(made, X[:2].astype(np.float64)).log_p
    found = log_likelihood(made, X[:2].astype(np.float64), Stream(0), 20_000)
    assert_allclose(found, exact, atol=0.05)
    with no_grad():
        many = np.repeat(X[:2].astype(np.float64), 2000, axis=0)
        terms = elbo(made, many, Stream(0))
    below = exact - (-(terms.reconstruction.data + terms.kl.data)).reshape(2, 2000).mean(axis=1)
    assert (below > 0).all()


def test_pseudo_inputs_learn():
    """Gradients reach them through the encoder; a central difference along a random direction judges."""
    made = model()
    params = made.parameters()
    assert any(p is made.pseudo_inputs for p in params)

    def loss():
        return elbo(made, X.astype(np.float64), Stream(3)).loss

    g = gradients(loss(), [made.pseudo_inputs])[0]
    d, old, h = rng.normal(size=g.shape), made.pseudo_inputs.data.copy(), 1e-6
    values = []
    for sign in (1, -1):
        made.pseudo_inputs.data[...] = old + sign * h * d
        values.append(loss().item())
    made.pseudo_inputs.data[...] = old
    assert_allclose((values[0] - values[1]) / (2 * h), (g * d).sum(), rtol=1e-5)
    assert abs(g).max() > 1e-6


def test_it_trains_saves_and_loads(tmp_path):
    made = model(dtype=np.float32)
    trainer = mv.fit(made, np.repeat(X, 20, axis=0), epochs=15, lr=0.02, batch_size=20, progress=False)
    assert trainer.why_eager == ""  # its steps are recorded
    assert trainer.metrics[-1]["train"]["loss"] < trainer.metrics[0]["train"]["loss"] - 0.3
    assert describe(made)["pseudo"] == 3
    mv.save(made, tmp_path / "model.npz")
    again = mv.load(tmp_path / "model.npz")
    assert type(again) is VampVAE
    z = np.zeros((1, 2), np.float32)
    assert_allclose(again.prior.log_prob(z).data, made.prior.log_prob(z).data)
    assert mv.inference.sample(again, Stream(0), 5).shape == (5, 4, 3, 1)
    assert type(build(describe(made), Stream(0))) is VampVAE


def test_what_does_not_fit_is_told():
    with pytest.raises(UsageError, match="pseudo is 0"):
        model(pseudo=0)
    with pytest.raises(ShapeError, match=r"images are \(2, 4, 3, 1\); need \(3, "):
        model().start_from(X[:2])
    assert StandardGaussian(2).shape == (2,)
