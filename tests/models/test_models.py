"""Every model: built again from its description, differentiable, and true to its story."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minivae as mv
from minivae import Stream, UsageError, gradients, no_grad
from minivae.data import Dataset
from minivae.distributions import Gaussian, StandardGaussian, kl, kl_at, kl_terms_at
from minivae.errors import ShapeError
from minivae.evaluate import log_likelihood
from minivae.gradcheck import frozen, gradcheck
from minivae.models import MODELS, build, describe
from minivae.objectives import elbo, iwae
from minivae.quadrature import log_marginal
from minivae.training import Trainer, TrainingConfig, losses

SHAPE = (6, 5, 2)
LABELS = np.array([0, 3, 1])
VAES = [name for name, kind in MODELS.items() if issubclass(kind, mv.VAE)]
KINDS = [(name, arch) for name in VAES for arch in ("dense", "conv", "gru", "lstm")]


def small(name: str, arch: str = "dense", seed: int = 1, **options):
    """A model with every weight off zero, told of three images if it asks, and those images."""
    options = {"model": name, "image_shape": SHAPE, "latent": 3, "arch": arch, "hidden": (4,), "activation": "tanh"} | options
    if arch == "conv":
        options["channels"] = (2,)
    if name == "cvae":
        options = {"condition": 4, "prior_kind": "learned"} | options
    model = build(options, Stream(seed))
    for p in model.parameters():
        p.data += 0.2 * Stream(3).normal(p.shape)
    x = np.random.default_rng(0).uniform(size=(3, *options["image_shape"])).astype(np.float32)
    return model, model.condition(LABELS) if name in ("cvae", "m2") else model, x


@pytest.mark.parametrize(("name", "arch"), [kind for kind in KINDS if kind[0] != "vq"])  # straight through a step is no derivative
def test_gradients_are_right(name, arch):
    _, conditioned, x = small(name, arch)
    report = gradcheck(frozen(elbo, conditioned, x, Stream(5)), elements=2, directions=1)
    assert report.ok, report


@pytest.mark.parametrize(("name", "arch"), KINDS)
def test_a_description_makes_the_model_again(name, arch):
    model, conditioned, x = small(name, arch)
    again = build(describe(model), Stream(9))
    assert type(again) is type(model)
    assert describe(again) == describe(model)
    again.load_state(model.state())
    again = again.condition(LABELS) if name in ("cvae", "m2") else again
    assert elbo(again, x, Stream(0)).loss.item() == elbo(conditioned, x, Stream(0)).loss.item()
    z = conditioned.encode(x).sample(Stream(0), (5,))
    assert conditioned.decode(z).log_prob(x).shape == (5, 3)
    assert conditioned.decode_mean(conditioned.sample_prior(Stream(0), 3)).shape == x.shape


@pytest.mark.parametrize("name", [name for name in VAES if name not in ("ae", "vamp", "hierarchical_vamp", "flow", "vq")])
def test_the_parts_of_the_latents_sum_to_the_divergence(name):
    """And both are E_q[log q / p], by many samples."""
    _, conditioned, x = small(name)
    with no_grad():
        q, prior = conditioned.encode(x), conditioned.prior
        z = q.sample(Stream(0))
        assert_allclose(kl_terms_at(q, prior, z).data.sum(axis=1), kl_at(q, prior, z).data, rtol=1e-5)
        many, n = q.sample(Stream(1), (4000,)), 4000
        ratio = (q.log_prob(many) - prior.log_prob(many)).data
        closed = np.stack([kl_at(q, prior, many[i]).data for i in range(0, n, 10)])
    error = np.sqrt(ratio.var(axis=0) / n + closed.var(axis=0) / len(closed))
    assert (abs(ratio.mean(axis=0) - closed.mean(axis=0)) < 5 * error).all()


def test_an_autoencoder_is_the_reconstruction_of_a_point():
    model, _, x = small("ae")
    terms = elbo(model, x, Stream(0))
    assert terms.loss.item() == pytest.approx(-model.decode(model.encode(x).mean).log_prob(x).data.mean(), rel=1e-6)
    assert terms.loss.item() == elbo(model, x, Stream(1)).loss.item()  # no noise
    assert not terms.kl.data.any()
    with pytest.raises(UsageError, match="no bound on log p"):
        iwae(model, x, Stream(0), 2)
    with pytest.raises(UsageError, match="no bound on log p"):
        log_likelihood(model, x, Stream(0), 2)


def test_a_vae_without_noise_and_regularizer_is_an_autoencoder():
    """Lecture 4: at sigma = 0 what is left of the VAE is the AE.  The same weights, and the same loss to the size of sigma."""
    ae, _, x = small("ae")
    vae, _, _ = small("vae")
    state = ae.state()
    head = max(name for name in state if name.startswith("encoder"))[:-1]
    state[f"{head}w"] = np.concatenate([state[f"{head}w"], np.zeros_like(state[f"{head}w"])], axis=1)
    state[f"{head}b"] = np.concatenate([state[f"{head}b"], np.full(3, -40, np.float32)])  # sigma = e^-20
    vae.load_state(state)
    assert elbo(vae, x, Stream(0), beta=0.0).loss.item() == pytest.approx(elbo(ae, x, Stream(0)).loss.item(), rel=1e-6)


def test_a_new_learned_prior_is_the_fixed_one():
    learned = build({"model": "cvae", "image_shape": SHAPE, "condition": 4, "prior_kind": "learned", "hidden": (4,)}, Stream(0))
    fixed = build({"model": "cvae", "image_shape": SHAPE, "condition": 4, "hidden": (4,)}, Stream(0))
    x = small("vae")[2]
    assert elbo(learned.condition(LABELS), x, Stream(1)).loss.item() == elbo(fixed.condition(LABELS), x, Stream(1)).loss.item()


def test_the_best_learned_prior_gains_its_own_divergence():
    """With p(z | c) the Gaussian of the moments of q(z | c): mean KL(q || N(0, I)) - mean KL(q || p(z | c)) = KL(p(z | c) || N(0, I)).

    Both log-densities are quadratic in z, so that only moments count; the learned prior's bound is higher by that, at equal weights."""
    model, _, _ = small("cvae", hidden=(8,))
    labels = np.arange(40) % 4
    x = np.random.default_rng(1).uniform(size=(40, *SHAPE)).astype(np.float32) * (labels[:, None, None, None] + 1) / 4
    conditioned = model.condition(labels)
    q = conditioned.encode(x)
    mean, var = q.mean.data.astype(np.float64), np.exp(q.logvar.data.astype(np.float64))
    m = np.stack([mean[labels == c].mean(axis=0) for c in range(4)])
    v = np.stack([(var + mean**2)[labels == c].mean(axis=0) for c in range(4)]) - m**2
    first, last = model.prior_network.layers
    for layer in (first, last):
        layer.w.data[...], layer.b.data[...] = 0, 0
    first.w.data[np.arange(4), np.arange(4)] = 1
    last.w.data[:4] = np.concatenate([m, np.log(v)], axis=1) / np.tanh(1)
    gain = kl(Gaussian(m, np.log(v)), StandardGaussian()).data.mean()
    assert gain > 0.05
    learned = elbo(conditioned, x, Stream(2))
    model.prior_kind = "fixed"
    fixed = elbo(model.condition(labels), x, Stream(2))
    assert_allclose(fixed.kl.data.mean() - learned.kl.data.mean(), gain, rtol=1e-4)
    assert_allclose(fixed.loss.item() - learned.loss.item(), gain, rtol=1e-3)


def test_what_a_model_is_told_reaches_encoder_prior_and_decoder():
    model, conditioned, x = small("cvae")
    other = model.condition(np.array([1, 3, 1]))
    for a, b in (
        (conditioned.encode(x).mean, other.encode(x).mean),
        (conditioned.prior.mean, other.prior.mean),
        (conditioned.decode_mean(x[:, 0, :3, 0]),) * 2,
    ):
        assert_array_equal((a.data if hasattr(a, "op") else a)[1:], (b.data if hasattr(b, "op") else b)[1:])
    z = np.zeros((3, 3), np.float32)
    for f in (lambda m: m.encode(x).mean.data, lambda m: m.prior.mean.data, lambda m: m.decode_mean(z)):
        assert abs(f(conditioned)[0] - f(other)[0]).max() > 1e-3
        assert_array_equal(f(conditioned)[1:], f(other)[1:])
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_part_of_the_image_can_be_the_condition():
    model, _, x = small("cvae", condition=3 * 5 * 2)
    upper = model.condition(x[:, :3])
    assert elbo(upper, x, Stream(0)).loss.item() == elbo(model.condition(x[:, :3].reshape(3, -1)), x, Stream(0)).loss.item()
    pixels = (x[:, :3] * 255).astype(np.uint8)
    assert_allclose(model.condition(pixels).c.data, pixels.reshape(3, -1) / np.float32(255))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, x: m.encode(x), UsageError, "use model.condition"),
        (lambda m, x: m.prior, UsageError, "use model.condition"),
        (lambda m, x: m.condition([0, 4]), UsageError, "labels run from 0 to 4; the model knows 0 to 3"),
        (lambda m, x: m.condition(np.ones((3, 5), np.float32)), ShapeError, r"c is float32 \(3, 5\)"),
        (lambda m, x: m.condition([0, 1]).encode(x), ShapeError, "the condition is that of 2 images, there are 3"),
        (lambda m, x: m.condition(0).decode(x[:, 0, 0]), ShapeError, "the model has 3 latents"),
        (lambda m, x: build({"model": "cvae", "image_shape": SHAPE, "condition": 0}, Stream(0)), UsageError, "condition is 0"),
        (lambda m, x: build({"model": "hierarchical", "image_shape": SHAPE, "latent": 3, "top": 3}, Stream(0)), UsageError, "top is 3"),
        (
            lambda m, x: build({"model": "vea", "image_shape": SHAPE}, Stream(0)),
            UsageError,
            "'vea' is unknown; choose one of vae",
        ),
        (lambda m, x: build({"image_shape": SHAPE, "arch": "gru", "hidden": ()}, Stream(0)), UsageError, "need at least 1 unit a layer"),
    ],
)
def test_bad_input_is_a_sentence(call, error, message):
    model, _, x = small("cvae")
    with pytest.raises(error, match=message):
        call(model, x)


def test_two_layers_are_bounded_as_quadrature_says():
    """z1 and z2 on a grid: log p(x), and the bound E_q[log p(x, z) - log q(z | x)], against the library's estimates of both."""
    model, _, x = small("hierarchical", latent=2, top=1, between=(3,))
    model.to(dtype=np.float64)
    for p in (*model.upwards.parameters(), *model.downwards.parameters()):
        p.data *= 2  # what the layers tell each other must matter
    axis = np.linspace(-9, 9, 361)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    cell = (axis[1] - axis[0]) ** 2
    for i in range(2):
        one = x[i : i + 1].astype(np.float64)
        with no_grad():
            log_q, log_prior = (p.log_prob(z).data for p in (model.encode(one), model.prior))
            joint = model.decode(z).log_prob(one).data + log_prior
            estimates = np.concatenate([_bounds(model, one, Stream(seed)) for seed in range(20)])
        q = np.exp(log_q)
        assert_allclose([q.sum() * cell, np.exp(log_prior).sum() * cell], 1, rtol=1e-6)
        bound = (q * (joint - log_q)).sum() * cell
        log_p = np.log(np.exp(joint - joint.max()).sum() * cell) + joint.max()
        assert_allclose(log_marginal(model, one).log_p, log_p, rtol=1e-8)
        assert bound < log_p - 0.05
        assert abs(estimates.mean() - bound) < 5 * estimates.std() / np.sqrt(len(estimates))
        tight = np.array([log_likelihood(model, one, Stream(seed), 200)[0] for seed in range(10)])
        assert abs(tight.mean() - log_p) < 5 * tight.std() / np.sqrt(10) + 0.01  # of order variance / k below
        assert tight.mean() > bound


def _bounds(model, x, rng):
    """-elbo of 200 copies of one image"""
    terms = elbo(model, np.repeat(x, 200, axis=0), rng)
    return -terms.reconstruction.data - terms.kl.data


def test_only_the_lower_layer_is_seen():
    model, _, x = small("hierarchical")
    z = np.random.default_rng(2).normal(size=(3, 3)).astype(np.float32)
    moved = z.copy()
    moved[:, 2] += 1
    assert_array_equal(model.decode_mean(z), model.decode_mean(moved))
    loss = elbo(model, x, Stream(0)).loss
    assert all(g.any() for g in gradients(loss, model.parameters()))


def stripes(n: int = 480) -> Dataset:
    """A bar at one of 8 rows: what a row holds depends on a choice that is made once for the image."""
    images = np.zeros((n, 8, 6, 1), np.uint8)
    images[np.arange(n), np.random.default_rng(0).integers(0, 8, n)] = 255
    return Dataset("stripes", images[:-80], None, images[-80:], None)


@pytest.mark.parametrize("arch", ["gru", "lstm"])
def test_a_recurrent_vae_says_more_than_the_mean_image(arch):
    data = stripes()
    mean = np.clip(data.train_images.mean(axis=0) / 255, 1e-3, 1 - 1e-3)
    x = data.test_images / 255
    without_z = -(x * np.log(mean) + (1 - x) * np.log1p(-mean)).sum() / len(x)
    model = mv.VAE(data.image_shape, Stream(0), latent=2, arch=arch, hidden=(24,))
    trainer = Trainer(model, TrainingConfig(epochs=70, batch_size=40, lr=1e-2))
    for _ in range(70):
        trainer.epoch(data.train_images)
    assert losses(model, data.test_images)["loss"] < 0.6 * without_z  # the bar's row is worth log 8 = 2 nats of the 18
