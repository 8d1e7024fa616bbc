"""The bound and the samples that it is made of, in one kernel each, against what they are composed of, in float64 on the CPU."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minivae import Stream, Tensor, gradients
from minivae.distributions import Bernoulli, Gaussian, StandardGaussian, bound, sample_and_kl, samples_and_kl
from minivae.kernels.gpu import densities

from .host import host, needs_compiler
from .host.fake_cupy import installed

pytestmark = needs_compiler
EPS = 2.0**-24
SHAPES = [(1, 5, (2, 3, 1)), (3, 4, (7,)), (40, 3, (4,)), (2, 300, (5,)), (1, 1, (1500,))]


def drawn(samples, images, event, seed=0):
    """logits, x, kl in float32; one sample without an axis of its own."""
    rng = np.random.default_rng(seed)
    lead = (samples, images) if samples > 1 else (images,)
    return [a.astype(np.float32) for a in (rng.normal(size=(*lead, *event)) * 3, rng.uniform(size=(images, *event)), rng.normal(size=lead))]


def composed(logits, x, kl, event_ndim, cotangents):
    """(loss, reconstruction, kl), gradients of <cotangents, (loss, reconstruction)> and the sizes of what log p adds up, in float64."""
    logits, kl = Tensor(logits.astype(np.float64)), Tensor(kl.astype(np.float64))
    found = bound(Bernoulli(logits, event_ndim), x.astype(np.float64), kl)
    total = found[0] * cotangents[0] + (found[1] * cotangents[1]).sum()
    return [part.data for part in found], gradients(total, [logits, kl])


@pytest.mark.parametrize(("samples", "images", "event"), SHAPES)
@pytest.mark.parametrize("both", [False, True])
def test_the_bound_is_what_it_is_composed_of(samples, images, event, both):
    logits, x, kl = drawn(samples, images, event)
    u = np.array(0.75, np.float32), (np.random.default_rng(1).normal(size=images) * both).astype(np.float32)

    def ours():
        value, saved = densities.bernoulli_bound(logits, x, kl, len(event))
        return [*value, *densities.bernoulli_bound_vjp((u[0], u[1] if both else None, None), *saved)]

    (loss, reconstruction, divergence), (glogits, gkl) = composed(logits, x, kl, len(event), u)
    found = host(ours)
    # log p: its terms to 8 roundings, and as many more as are added up; log w and the loss inherit its largest error
    size = np.abs(logits).sum(axis=tuple(range(-len(event), 0))) + np.log(2) * np.prod(event)
    error = (np.prod(event) + 8) * EPS * size.max() + 8 * EPS * (abs(kl).max() + abs(loss) + np.log(samples))
    assert abs(found[0] - loss) <= error
    assert (abs(found[1] - reconstruction) <= error + samples * EPS * size.max()).all()
    assert (abs(found[2] - divergence) <= (samples + 2) * EPS * abs(kl).max()).all()
    # a share of the samples: its logarithm to twice the error of log w
    assert (abs(found[3] - glogits) <= (2 * error + 24 * EPS) * (abs(u[0]) / images + abs(u[1]).max() / samples)).all()
    assert (abs(found[4] - gkl) <= (2 * error + 24 * EPS) * abs(u[0]) / images).all()


def test_a_batch_without_any_density_is_infinitely_far_off():
    """log 0 is -inf, and not NaN."""
    logits, x = np.full((2, 3), -np.inf, np.float32), np.ones((2, 3), np.float32)
    (loss, *_), _ = host(lambda: densities.bernoulli_bound(logits, x, np.zeros(2, np.float32), 1))
    assert loss == np.inf


@pytest.mark.parametrize("samples", [1, 3, 40])
@pytest.mark.parametrize("halves", [False, True])
def test_samples_and_their_kl_are_what_they_are_composed_of(samples, halves):
    rng = np.random.default_rng(samples)
    whole = rng.normal(size=(5, 14)).astype(np.float32)
    mean, logvar = (whole[:, :7], whole[:, 7:]) if halves else (whole[:, :7].copy(), whole[:, 7:].copy())
    eps, gz = rng.normal(size=(2, samples, 5, 7)).astype(np.float32)
    gkl = rng.normal(size=(samples, 5)).astype(np.float32)

    def ours():
        value, saved = densities.sampled(mean, logvar, eps, 1, estimate=True)
        return [*value, *densities.sample_and_kl_vjp((gz, gkl), *saved)[:2]]

    class Given:
        def normal(self, shape, like=None):
            return eps.astype(np.float64)

    params = [Tensor(a.astype(np.float64)) for a in (mean, logvar)]
    z, kl = samples_and_kl(Gaussian(*params), StandardGaussian(7), Given(), samples)
    exact = [z.data, kl.data, *gradients((z * gz.astype(np.float64)).sum() + (kl * gkl.astype(np.float64)).sum(), params)]
    sigma = np.exp(logvar.astype(np.float64) / 2)
    through = abs(gz) + abs(gkl)[..., None] * (abs(z.data) + 8 * EPS)
    sizes = [
        abs(mean) + sigma * abs(eps),
        (z.data**2 + eps**2 + abs(logvar)).sum(axis=-1),
        through.sum(axis=0),
        (through * sigma * abs(eps)).sum(axis=0) + abs(gkl).sum(axis=0)[:, None],
    ]
    for found, truth, size, roundings in zip(host(ours), exact, sizes, (8, 7 + 12, samples + 16, samples + 16), strict=True):
        assert found.shape == truth.shape
        assert (abs(found - truth) <= roundings * EPS * size).all()


def test_noise_that_the_kernel_draws_is_the_streams(monkeypatch):
    with installed(monkeypatch) as cupy:
        mean, logvar = (Tensor(cupy.asarray(a)) for a in np.random.default_rng(0).normal(size=(2, 9, 5)).astype(np.float32))
        q, p = Gaussian(mean, logvar), StandardGaussian(5)

        class Lies:  # has no promises to make
            def __init__(self, rng):
                self.normal = rng.normal

        here, there = Stream(3), Stream(3)
        for f in (sample_and_kl, lambda *a: samples_and_kl(*a, 4)):
            for a, b in zip(f(q, p, here), f(q, p, Lies(there)), strict=True):
                assert_array_equal(a.data.get(), b.data.get())
            assert here.state() == there.state()


def test_a_gradient_may_come_by_the_reconstruction_too(monkeypatch):
    logits, x, kl = drawn(3, 4, (7,))
    u = np.float32(0.5), np.arange(4, dtype=np.float32)
    _, exact = composed(logits, x, kl, 1, u)
    with installed(monkeypatch) as cupy:
        params = [Tensor(cupy.asarray(a)) for a in (logits, kl)]
        loss, reconstruction, divergence = bound(Bernoulli(params[0], 1), cupy.asarray(x), params[1])
        assert loss.op.name == "bound"  # the kernel's
        total = loss * u[0] + (reconstruction * cupy.asarray(u[1])).sum()
        for g, truth in zip(gradients(total, params), exact, strict=True):
            np.testing.assert_allclose(g.get(), truth, atol=1e-5)  # about 3 in size
        (g,) = gradients(divergence.sum(), params[1:])
        np.testing.assert_allclose(g.get(), np.full((3, 4), 1 / 3), rtol=1e-6)


def test_gradients_go_through_the_samples_and_their_kl(monkeypatch):
    rng = np.random.default_rng(0)
    numbers, gz, gkl = rng.normal(size=(2, 9, 5)), rng.normal(size=(4, 9, 5)), rng.normal(size=(4, 9))

    def found(place, kind):
        params = [Tensor(place(a.astype(kind))) for a in numbers]
        z, kl = samples_and_kl(Gaussian(*params), StandardGaussian(5), Stream(3), 4)
        return z, gradients((z * place(gz.astype(kind))).sum() + (kl * place(gkl.astype(kind))).sum(), params)

    _, exact = found(np.asarray, np.float32)
    with installed(monkeypatch) as cupy:
        z, gs = found(cupy.asarray, np.float32)
        assert z.op.name == "samples_and_kl"  # the kernel's
        for g, truth in zip(gs, exact, strict=True):
            np.testing.assert_allclose(g.get(), truth, rtol=0, atol=30 * EPS * abs(truth).max() * 4)  # sums of four samples of a few parts
