"""A prior of weights that depend on the condition: integrals, SciPy's densities, frequencies, gradients, and what it is for."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import minivae as mv
from minivae import ShapeError, Stream, Tensor, UsageError, no_grad
from minivae.distributions import WeightedMixture
from minivae.models import CVAE, MixtureCVAE, build, describe
from minivae.objectives import elbo
from minivae.training import Trainer, TrainingConfig

rng = np.random.default_rng(0)
LOGITS, MEAN, LOGVAR = rng.normal(size=(5, 3)), rng.normal(size=(5, 3, 2)), rng.normal(size=(5, 3, 2)) - 1
MIXTURE = WeightedMixture(LOGITS, MEAN, LOGVAR)
WEIGHTS = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


def test_each_row_is_a_mixture_of_its_own():
    z = rng.normal(size=(4, 5, 2))
    density = [
        [
            sum(WEIGHTS[n, m] * stats.multivariate_normal(MEAN[n, m], np.diag(np.exp(LOGVAR[n, m]))).pdf(z[i, n]) for m in range(3))
            for n in range(5)
        ]
        for i in range(4)
    ]
    assert_allclose(MIXTURE.log_prob(z).data, np.log(density), rtol=1e-12)
    assert (MIXTURE.batch_shape, MIXTURE.event_shape) == ((5,), (2,))
    axis = np.linspace(-9, 9, 361)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    p = np.exp(MIXTURE.log_prob(np.broadcast_to(grid, (len(grid), 5, 2))).data)
    assert_allclose(p.sum(axis=0) * (axis[1] - axis[0]) ** 2, 1, rtol=1e-6)
    assert_allclose((p[..., None] * grid).sum(axis=0) * (axis[1] - axis[0]) ** 2, MIXTURE.mean.data, atol=1e-6)


def test_draws_have_its_distribution():
    z = MIXTURE.sample(Stream(0), (4000,)).data
    assert z.shape == (4000, 5, 2)
    for n in range(5):
        sigma = np.exp(LOGVAR[n, :, 0] / 2)
        cdf = lambda t, n=n, sigma=sigma: (WEIGHTS[n] * stats.norm(MEAN[n, :, 0], sigma).cdf(t[:, None])).sum(axis=1)  # noqa: E731
        assert stats.kstest(z[:, n, 0], cdf).pvalue > 1e-4


def test_its_gradient_is_right():
    arrays = [Tensor(a) for a in (LOGITS, MEAN, LOGVAR, rng.normal(size=(5, 2)))]
    mv.gradcheck.assert_gradients(lambda l, m, v, z: WeightedMixture(l, m, v).log_prob(z).sum(), *arrays)


def test_bad_shapes_are_told():
    with pytest.raises(ShapeError, match=r"logits are \(5, 3\), means \(5, 2, 2\)"):
        WeightedMixture(LOGITS, MEAN[:, :2], LOGVAR)
    with pytest.raises(ShapeError, match=r"z is \(4, 2\); need \(..., 5, 2\)"):
        MIXTURE.log_prob(np.zeros((4, 2)))
    with pytest.raises(UsageError, match="components is 0"):
        MixtureCVAE((3,), Stream(0), condition=2, components=0)
    with pytest.raises(UsageError, match="that of 2 images, 3 codes are asked for"):
        MixtureCVAE((3,), Stream(0), condition=2, hidden=(4,)).condition(np.array([0, 1])).sample_prior(Stream(0), 3)


def test_it_is_a_cvae_and_comes_back_from_its_description():
    model = MixtureCVAE((3,), Stream(0), condition=2, components=4, latent=2, hidden=(4,), prior_hidden=(7, 5))
    assert [len(layer.b) for layer in model.prior_network.layers] == [7, 5, 4 * 5]
    known = model.condition(np.array([0, 1, 0]))
    assert known.sample_prior(Stream(0), 3).shape == (3, 2)
    assert model.condition(np.array([1])).sample_prior(Stream(0), 7).shape == (7, 2)
    again = build(describe(model), Stream(1))
    again.load_state(model.state())
    x = np.zeros((3, 3), np.float32)
    assert elbo(again, x, Stream(2), label=np.array([0, 1, 0])).loss.item() == elbo(known, x, Stream(2)).loss.item()
    with no_grad():
        first = known.prior
    assert len(np.unique(first.components.mean.numpy()[0, :, 0])) == 4  # or they would stay the same for ever
    assert_array_equal(first.logits.numpy(), 0)


def six_words(scale):
    """An encoder that sends each of six words to a corner of its own, and a little noise: 600 codes, and the model."""
    model = MixtureCVAE((6,), Stream(0), condition=2, components=6, latent=2, hidden=())
    w, b = model.encoder.layers[-1].parameters()
    corners = scale * np.stack([np.cos(np.arange(6)), np.sin(np.arange(6))], axis=1)
    w.data[...], b.data[...] = 0, [0, 0, -1, -2]
    w.data[:6, :2] = corners
    word = np.arange(600) % 6
    x = np.eye(6, dtype=np.float32)[word] * (1 + 0.01 * Stream(1).normal((600, 1)))
    return model, x, word % 2, corners


def test_components_start_at_codes_of_every_kind():
    """Six clusters and six components: each has its own, for every seed; of images taken at random 6! / 6^6 = 1.5% would be so lucky."""
    model, x, c, corners = six_words(scale=30)
    for seed in range(20):
        model.start_from(x, c, Stream(seed))
        with no_grad():
            prior = model.condition(c[:2]).prior
        mean = prior.components.mean.numpy()
        assert_array_equal(mean[0], mean[1])  # whatever the condition
        nearest = np.linalg.norm(mean[0][:, None] - corners, axis=-1)
        assert sorted(nearest.argmin(axis=1)) == list(range(6))
        assert nearest.min(axis=1).max() < 30 * 0.05  # noise of 1%
        assert_array_equal(prior.logits.numpy(), 0)
        assert_allclose(prior.components.logvar.numpy(), np.broadcast_to([-1, -2], (2, 6, 2)), rtol=1e-6)


def test_distances_count_in_standard_deviations():
    """Where the second latent is known a thousand times as well, two clusters that differ in it alone are farther apart than all others."""
    model, x, c, _ = six_words(scale=1)
    w, b = model.encoder.layers[-1].parameters()
    w.data[:6, :2] = [[0, 0], [9, 0], [18, 0], [0, 0.5], [9, 0], [18, 0]]
    b.data[...] = [0, 0, 0, -14]
    firsts = 0
    for seed in range(20):
        chosen = MixtureCVAE((6,), Stream(0), condition=2, components=2, latent=2, hidden=())
        chosen.load_state({**chosen.state(), **{name: a for name, a in model.state().items() if name.startswith("encoder")}})
        chosen.start_from(x, c, Stream(seed))
        with no_grad():
            mean = chosen.condition(c[:1]).prior.components.mean.numpy()[0]
        firsts += (abs(mean[:, 1]) > 0.2).sum() == 1
    assert firsts == 20


def test_too_few_images_are_refused():
    model, x, c, _ = six_words(scale=1)
    with pytest.raises(UsageError, match="5 images for 6 components"):
        model.start_from(x[:5], c[:5], Stream(0))


def test_answers_of_two_kinds_come_as_often_as_they_should():
    """One of two words of 8 bits, 0.8 to 0.2 or the other way round: a mixture draws them so, and hardly anything in between, where one
    Gaussian makes the rarer too frequent.  -ELBO is at or above the entropy, 0.5004 nats."""
    u, c = Stream(0).uniform(3000), np.arange(3000) % 2
    word = (u < np.where(c == 0, 0.8, 0.2)).astype(np.float32)
    x = np.repeat(word[:, None], 8, axis=1)
    shares, losses = {}, {}
    for kind, options in ((CVAE, {"prior_kind": "learned"}), (MixtureCVAE, {"components": 2})):
        model = kind((8,), Stream(1), condition=2, latent=1, hidden=(16,), **options)
        trainer = Trainer(model, TrainingConfig(epochs=12, batch_size=50, lr=1e-2, lr_schedule="cosine"))
        for _ in range(12):
            trainer.epoch(x, c)
        losses[kind] = trainer.evaluate(x, c)["loss"]
        draws = mv.inference.sample(model, Stream(2), 4000, np.arange(4000) % 2).mean(axis=1)
        shares[kind] = [(draws[k::2] > 0.5).mean() for k in (0, 1)], ((draws > 0.1) & (draws < 0.9)).mean()
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    seen = [word[k::2].mean() for k in (0, 1)]  # 1,500 draws of the table: what there is to learn
    assert_allclose(shares[MixtureCVAE][0], seen, atol=4 * np.sqrt(0.16 / 2000))
    assert shares[MixtureCVAE][1] < 0.02
    assert entropy - 0.03 < losses[MixtureCVAE] < entropy + 0.1  # 3000 words: their own entropy is within 0.03
    assert losses[MixtureCVAE] < losses[CVAE]
