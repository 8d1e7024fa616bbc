"""The loss is a mean over images of sums over pixels: how a batch is split and ordered makes no difference, doubled pixels count twice."""

import numpy as np
import pytest

from minivae import VAE, Stream, elbo, gradients
from minivae.models import LIKELIHOODS
from minivae.objectives import iwae

from .bounds import Given

OBJECTIVES = {
    "elbo": (lambda model, x, noise: elbo(model, x, Given(noise[0])).loss, 1),
    "beta-elbo": (lambda model, x, noise: elbo(model, x, Given(noise[0]), beta=4.0).loss, 1),
    "iwae": (lambda model, x, noise: iwae(model, x, Given(noise), 3), 3),
}


def subject(likelihood="bernoulli", samples=1):
    """(model, x, noise) in float64: 12 images, noise (samples, 12, 3)."""
    model = VAE((4, 3, 2), Stream(0), latent=3, hidden=(7,), likelihood=likelihood)
    model.to(dtype=np.float64)
    rng = np.random.default_rng(1)
    return model, np.rint(255 * rng.uniform(size=(12, 4, 3, 2))) / 255, rng.normal(size=(samples, 12, 3))


def loss_and_gradients(objective, model, x, noise):
    loss = objective(model, x, noise)
    return np.concatenate([np.ravel(loss.data), *(g.ravel() for g in gradients(loss, model.parameters()))])


def split_is_free(objective, samples, sizes):
    """Loss and gradients of the whole batch against the parts', weighted by their sizes."""
    model, x, noise = subject(samples=samples)
    ends = np.cumsum(sizes)
    parts = [
        loss_and_gradients(objective, model, x[end - n : end], noise[:, end - n : end]) * n for n, end in zip(sizes, ends, strict=True)
    ]
    whole = loss_and_gradients(objective, model, x, noise)
    return np.allclose(whole, sum(parts) / len(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", [[12], [6, 6], [1] * 12, [11, 1], [2, 7, 3]], ids=str)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_may_be_split_anywhere(name, sizes):
    assert split_is_free(*OBJECTIVES[name], sizes)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_order_of_the_images_is_free(name):
    objective, samples = OBJECTIVES[name]
    model, x, noise = subject(samples=samples)
    order = np.random.default_rng(2).permutation(12)
    np.testing.assert_allclose(
        loss_and_gradients(objective, model, x[order], noise[:, order]),
        loss_and_gradients(objective, model, x, noise),
        rtol=1e-12,
        atol=1e-13,
    )


def sum_of_losses(model, x, noise):
    return elbo(model, x, Given(noise[0])).loss * len(x)


def mean_twice(model, x, noise):
    return elbo(model, x, Given(noise[0])).loss * (1 / len(x))


def contrast(model, x, noise):
    """A term that images of one batch share, as the variance of the means over the batch."""
    mean = model.encode(x).mean
    centred = mean - mean.mean(axis=0)
    return elbo(model, x, Given(noise[0])).loss + (centred * centred).mean()


@pytest.mark.parametrize("wrong", [sum_of_losses, mean_twice, contrast])
def test_a_loss_that_depends_on_the_split_is_found(wrong):
    assert not split_is_free(wrong, 1, [6, 6])


def doubled(model):
    """The same story for images that stand twice side by side: the encoder reads half from each copy, the decoder paints both."""
    H, W, C = model.image_shape
    twin = VAE((H, 2 * W, C), Stream(0), latent=model.latent, hidden=model.hidden, likelihood=model.likelihood)
    twin.to(dtype=np.float64)
    state = model.state()

    def beside(a):
        """(..., H W C) -> (..., H 2W C), pixels twice; of 2 C where a pixel has two numbers"""
        image = a.reshape(*a.shape[:-1], H, W, -1)
        return np.concatenate([image, image], axis=-2).reshape(*a.shape[:-1], -1)

    last = f"decoder.layers.{len(model.hidden)}"
    first = "encoder.layers.1.w"
    twin.load_state(
        state | {first: beside(state[first].T).T / 2, f"{last}.w": beside(state[f"{last}.w"]), f"{last}.b": beside(state[f"{last}.b"])}
    )
    return twin


def terms_of_both(likelihood, objective=elbo):
    model, x, noise = subject(likelihood)
    once = objective(model, x, Given(noise[0]))
    return once, objective(doubled(model), np.concatenate([x, x], axis=2), Given(noise[0]))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_doubled_pixels_double_the_reconstruction_and_leave_the_kl(likelihood):
    once, twice = terms_of_both(likelihood)
    np.testing.assert_allclose(twice.reconstruction.data, 2 * once.reconstruction.data, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(twice.kl.data, once.kl.data, rtol=1e-12)


def test_a_mean_over_pixels_is_found():
    def averaged(model, x, rng):
        terms = elbo(model, x, rng)
        return terms._replace(reconstruction=terms.reconstruction * (1 / x[0].size))

    once, twice = terms_of_both("bernoulli", averaged)
    np.testing.assert_allclose(twice.reconstruction.data, once.reconstruction.data, rtol=1e-12)  # not doubled: the bug, as it shows
